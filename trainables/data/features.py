"""Reading `<modality>_feat.npy`: row i holds the features of item i."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from trainables.errors import DataError

SUFFIX = "_feat.npy"


def find_features(folder: Path) -> dict[str, Path]:
    """Returns the feature files of a data set folder by modality, sorted by name."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"?*{SUFFIX}"))}


def read_features(path: Path, num_items: int) -> Float32[np.ndarray, "I F"]:
    """Returns a checked feature matrix as float32; nothing in the file is ever executed.

    Raises:
        DataError: no array, not two-dimensional, not of floats, not one row per item, or a value that is not finite.
    """
    try:
        # Mapped: shape and type are judged before gigabytes are read, and what would need unpickling cannot be mapped.
        stored = np.lib.format.open_memmap(path, mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} must be a .npy array without Python objects, but: {error}") from error
    if stored.ndim != 2 or stored.shape[1] == 0:
        raise DataError(f"{path} must have the shape [items, width], but has {list(stored.shape)}")
    if stored.dtype.kind != "f":
        raise DataError(f"{path} must hold floating point numbers, but holds {stored.dtype}")
    if len(stored) != num_items:
        raise DataError(f"{path} must have one row for each of the {num_items} items, but has {len(stored)} rows")
    with np.errstate(over="ignore"):
        features = np.array(stored, dtype=np.float32, order="C")
    _check_finite(path, features)
    return features


def count_zero_rows(features: Float32[np.ndarray, "I F"]) -> int:
    """Returns how many items have no features at all."""
    return int(len(features) - np.count_nonzero(features.any(axis=1)))


def file_digest(path: Path) -> str:
    """Returns the BLAKE2b digest of a file's bytes, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _check_finite(path: Path, features: np.ndarray) -> None:
    finite = np.isfinite(features)
    if finite.all():
        return
    row, column = np.argwhere(~finite)[0]
    count = features.size - np.count_nonzero(finite)
    raise DataError(
        f"{path} must hold only finite float32 numbers, but row {row}, column {column} is {features[row, column]}"
        f" ({count} such values)"
    )
