"""Features of images: read from the published binary files, or encoded from a folder of pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.data.preparation.feature_rows import Block, Encode, Encoder, encoded
from trainables.data.preparation.lines import Skipped, open_packed
from trainables.errors import DataError

ID_BYTES, BINARY_WIDTH = 10, 4096
_RECORD_BYTES = ID_BYTES + 4 * BINARY_WIDTH
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class BinaryImages:
    """`image_features_X.b`: records of an item's id (10 ASCII bytes) and 4,096 float32, little-endian."""

    path: Path
    encoder: Encoder | None = None
    skipped: Skipped = field(default_factory=Skipped, compare=False)

    def blocks(self, positions: Mapping[str, int], chunks: Path, encode: Encode | None) -> Iterator[Block]:
        """Yields the rows of the given items as they come; of several records about one item the first counts.

        Records of other items are passed over, broken ones are counted in `skipped` by their number from 1.

        Raises:
            DataError: the file cannot be read, or is not made of whole records.
        """
        seen: set[int] = set()
        for number, name, features in self._records():
            try:
                position = positions.get(name.decode("ascii").strip())
            except UnicodeDecodeError:
                self.skipped.add("an id that is not ASCII", number)
                continue
            if position is None:
                continue
            row = np.frombuffer(features, dtype="<f4")[None, :]
            if position in seen:
                self.skipped.add("an item that an earlier record describes", number)
            elif not np.isfinite(row).all():
                self.skipped.add("a feature that is no finite number", number)
            else:
                seen.add(position)
                yield np.array([position]), row

    def _records(self) -> Iterator[tuple[int, bytes, bytes]]:
        number = 0
        try:
            with open_packed(self.path) as file:
                while record := file.read(_RECORD_BYTES):
                    number += 1
                    if len(record) < _RECORD_BYTES:
                        raise EOFError(f"record {number} has {len(record)} of {_RECORD_BYTES:,} bytes")
                    yield number, record[:ID_BYTES], record[ID_BYTES:]
        except (OSError, EOFError) as error:
            raise DataError(
                f"{self.path} must hold records of {ID_BYTES} bytes and {BINARY_WIDTH:,} float32, but: {error}"
            ) from error


@dataclass(frozen=True)
class PictureFolder:
    """A folder with one picture an item, named by its id: `B00001.jpg`."""

    path: Path
    encoder: Encoder
    skipped: Skipped = field(default_factory=Skipped, compare=False)

    def blocks(self, positions: Mapping[str, int], chunks: Path, encode: Encode | None) -> Iterator[Block]:
        """Yields the encoded pictures of the given items, in chunks that are kept; raises DataError."""
        assert encode is not None
        found = {positions[picture.stem]: picture for picture in self.pictures() if picture.stem in positions}
        order = np.array(sorted(found), dtype=np.int64)
        return encoded(chunks, [str(found[position]) for position in order.tolist()], order, encode)

    def pictures(self) -> Sequence[Path]:
        """Returns the pictures in the folder by name; raises DataError where it cannot be read."""
        try:
            # Sorted in reverse, so that of `a.jpg` and `a.png` the first by name is the one that stays.
            return sorted((file for file in self.path.iterdir() if file.suffix.lower() in PICTURES), reverse=True)
        except OSError as error:
            raise DataError(f"{self.path} must be a readable folder of pictures, but: {error}") from error
