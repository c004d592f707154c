"""Checkpoints: `weights.pt` and `progress.json`, in a folder that counts as a whole or not at all.

The numbers carry the SHA-256 of the weights. A checkpoint whose files are missing, cut short or do not belong together
is therefore known for what it is, and the one before it serves.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import torch
from pyarrow import fs

from trainables.errors import TrainableError
from trainables.places import Place, sync_folder, without_secrets

TENSORS, NUMBERS = "weights.pt", "progress.json"
_LARGE = 2**20
"""Bytes from which on a thread is worth starting."""
_NAME = re.compile(r"epoch_(\d{6,})")


def save(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Writes both files into a new folder beside the target, syncs them, and renames the folder into place.

    A reader sees a whole checkpoint or none. An existing one of that name is moved aside and then removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        fresh, old = Path(place) / "fresh", Path(place) / "old"
        fresh.mkdir()
        _write(fresh, tensors, numbers)
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)
    sync_folder(folder.parent)


def _write(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    with open(folder / TENSORS, "wb") as file:
        written = _write_tensors(file, tensors)
        os.fsync(file.fileno())
    with open(folder / NUMBERS, "wb") as file:
        file.write(_document(numbers, written))
        file.flush()
        os.fsync(file.fileno())


def _write_tensors(file: "_Sink", tensors: Mapping[str, Any]) -> "_Hashing":
    written = _Hashing(file)
    with _without_checksums():
        torch.save(dict(tensors), written)  # type: ignore[arg-type]
    return written


@contextmanager
def _without_checksums() -> Iterator[None]:
    """Leaves out the archive's own checksums: PyTorch never looks at them, and they take longer than the digest."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def load(folder: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, numbers) of a checkpoint, without running any code that the file might hold.

    Raises:
        TrainableError: the folder is not a whole checkpoint.
    """
    if not (folder / TENSORS).is_file() or not (folder / NUMBERS).is_file():
        raise TrainableError(f"{folder} must hold {TENSORS} and {NUMBERS}, but does not")
    with open(folder / TENSORS, "rb") as tensors:
        return _read(tensors, (folder / NUMBERS).read_bytes(), device, str(folder))


def _read(tensors: Any, document: bytes, device: torch.device, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        stored = json.loads(document)
        if hashlib.file_digest(tensors, "sha256").hexdigest() != stored["weights_sha256"]:
            raise ValueError(f"{TENSORS} is not the file that {NUMBERS} belongs to")
        tensors.seek(0)
        return torch.load(tensors, map_location=device, weights_only=True), stored["numbers"]
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, TypeError) as error:
        raise TrainableError(f"{place} must be a whole checkpoint, but cannot be read: {error}") from error


class _Hashing:
    """A file that is written to and never read; keeps the digest of what went into it.

    Large parts are digested while they are written: on a second core, where there is one, it takes no time.
    """

    def __init__(self, file: "_Sink") -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> int:
        if len(content) < _LARGE:
            self.digest.update(content)
            self._file.write(content)
            return len(content)
        digesting = Thread(target=self.digest.update, args=(content,))
        digesting.start()
        try:
            self._file.write(content)
        finally:
            digesting.join()  # the content is the caller's again once this returns
        return len(content)

    def flush(self) -> None:
        self._file.flush()


class _Sink(Protocol):
    def write(self, content: bytes | memoryview, /) -> Any: ...
    def flush(self) -> Any: ...


def _document(numbers: Mapping[str, Any], written: _Hashing) -> bytes:
    return json.dumps({"weights_sha256": written.digest.hexdigest(), "numbers": dict(numbers)}).encode()


class CheckpointFolder:
    """The checkpoints of one trial, `epoch_000010` and so on, in a local folder or at an s3:// or gs:// address.

    At an address nothing can be renamed: the weights go up first and the numbers, with the weights' digest, last, and
    a folder without both is no checkpoint yet.
    """

    def __init__(self, address: str, *, keep: int = 2, filesystem: fs.FileSystem | None = None) -> None:
        """Opens the folder, which need not exist.

        Args:
            keep: checkpoints that stay; older ones are removed once a new one is whole.
            filesystem: reads `address` as a path on that file system instead.

        Raises:
            TrainableError: the address cannot be opened.
        """
        self.keep = keep
        try:
            self._place = Place(address, filesystem)
        except OSError as error:
            raise TrainableError(f"checkpoints cannot be kept at {without_secrets(address)}: {error}") from None

    def save(self, epoch: int, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
        """Adds the checkpoint of an epoch, whole or not at all, and removes those beyond `keep`.

        Later ones go, too: whoever saves this one could not read them.

        Raises:
            OSError: it could not be written; those before it stay.
        """
        if self._place.local:
            save(Path(self._place.path(_name(epoch))), tensors, numbers)
        else:
            self._upload(_name(epoch), tensors, numbers)
        epochs = sorted(self._epochs(), reverse=True)
        kept = [each for each in epochs if each <= epoch][: self.keep]
        for old in [each for each in epochs if each not in kept]:
            with suppress(OSError):  # another worker, taken for lost, may be at the same
                self._place.delete_folder(_name(old))

    def _upload(self, folder: str, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
        buffer = BytesIO()
        written = _write_tensors(buffer, tensors)
        self._place.write(f"{folder}/{TENSORS}", buffer.getbuffer())
        self._place.write(f"{folder}/{NUMBERS}", _document(numbers, written))

    def newest_first(self, device: torch.device) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """(tensors, numbers) of each checkpoint that can be read, the newest first; the others are passed over."""
        if self._place.local:
            self._sweep()
        for epoch in sorted(self._epochs(), reverse=True):
            with suppress(TrainableError, OSError):
                yield self._load(_name(epoch), device)

    def _load(self, folder: str, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._place.local:
            return load(Path(self._place.path(folder)), device)
        document, tensors = (self._place.read(f"{folder}/{name}") for name in (NUMBERS, TENSORS))
        return _read(BytesIO(tensors), document, device, f"{self._place.named}/{folder}")

    def _epochs(self) -> list[int]:
        return [int(match[1]) for name in self._place.listed() if (match := _NAME.fullmatch(name))]

    def _sweep(self) -> None:
        """Removes what a worker that was killed in a save left behind."""
        for left in Path(self._place.base).glob(".epoch_*"):
            shutil.rmtree(left, ignore_errors=True)


def _name(epoch: int) -> str:
    return f"epoch_{epoch:06d}"
