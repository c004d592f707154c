"""Where a data set's rows and features come from: a folder in MMRec's format, or the generator."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

import numpy as np

from trainables.data.config import DataConfig
from trainables.data.features import SUFFIX, file_digest, find_features, read_features
from trainables.data.graph_cache import array_digest
from trainables.data.interactions import ITEM, LABEL, TIME, USER, InteractionTable, read_interactions
from trainables.data.synthetic import RECIPES, synthesize
from trainables.errors import DataError

EMBEDDED = "synthetic"
_EMBEDDED_SEED = 999


class Folder:
    """A data set folder in MMRec's format."""

    def __init__(self, folder: Path) -> None:
        """Finds the files of a folder.

        Raises:
            DataError: the folder or its `<name>.inter` is missing; the sentence names the nearest there is.
        """
        self.name = folder.name
        self._table = folder / f"{folder.name}.inter"
        if not folder.is_dir():
            raise DataError(f"data set folder {folder} must exist{_nearest(folder)}")
        if not self._table.is_file():
            raise DataError(f"data set folder {folder} must hold {self._table.name}{_nearest(self._table)}")
        self._features = find_features(folder)
        self.modalities = tuple(self._features)

    def table(self) -> InteractionTable:
        """Returns all rows, checked; raises DataError."""
        return read_interactions(self._table)

    def features(self, modality: str, num_items: int) -> np.ndarray:
        """Returns one of `modalities` as checked float32 [num_items, F]; raises DataError."""
        return read_features(self._features[modality], num_items)

    def digests(self, modalities: Sequence[str]) -> Mapping[str, str]:
        """Returns a digest of the content of every file in use, by file name."""
        files = [self._table, *(self._features[modality] for modality in modalities)]
        return {file.name: file_digest(file) for file in files}


class Embedded:
    """The synthetic data set that needs no files; generated anew, always the same."""

    def __init__(self) -> None:
        self.name = EMBEDDED
        self._data = synthesize(RECIPES[EMBEDDED], _EMBEDDED_SEED)
        self.modalities = tuple(sorted(self._data.features))

    def table(self) -> InteractionTable:
        """Returns all rows."""
        data = self._data
        return InteractionTable(EMBEDDED, data.users, data.items, data.times, data.labels, (USER, ITEM, TIME, LABEL))

    def features(self, modality: str, num_items: int) -> np.ndarray:
        """Returns one of `modalities` as float32 [I, F]; the number of items is its own."""
        return self._data.features[modality]

    def digests(self, modalities: Sequence[str]) -> Mapping[str, str]:
        """Returns a digest of every array in use, by the file name that it would have."""
        data = self._data
        table = array_digest(np.stack([data.users, data.items, data.times, data.labels]))
        arrays = {f"{modality}{SUFFIX}": array_digest(data.features[modality]) for modality in modalities}
        return {f"{EMBEDDED}.inter": table, **arrays}


Source: TypeAlias = Folder | Embedded
"""A data set that is found but not yet read."""


def open_source(config: DataConfig) -> Source:
    """Returns the data set that a configuration names.

    Raises:
        DataError: it is not there; the sentence names the nearest there is. Or a folder has the embedded one's name.
    """
    if config.name == EMBEDDED:
        if config.root is not None and (Path(config.root) / EMBEDDED).is_dir():
            raise DataError(
                f"{Path(config.root) / EMBEDDED} must be renamed, because {EMBEDDED!r} is the embedded data set"
            )
        return Embedded()
    if config.root is None:
        raise DataError(f"data.root must name the folder that holds data set {config.name!r}, but is not set")
    return Folder(Path(config.root) / config.name)


def _nearest(missing: Path) -> str:
    """Returns what follows ", but" in the sentence about a missing path."""
    if not missing.parent.is_dir():
        return f", but neither does {missing.parent}"
    found = sorted(path.name for path in missing.parent.iterdir() if path.is_dir() or path.suffix == missing.suffix)
    nearest = get_close_matches(missing.name, found, n=1)
    return f", but does not (did you mean {nearest[0]!r}?)" if nearest else ", but does not"
