"""What the two optional encoders share: the sentence that they are missing, and what a local model is known by."""

import hashlib
from pathlib import Path

from trainables.errors import DataError


def needs_extra(what: str, package: str, otherwise: str) -> DataError:
    """Returns the error that an optional package is not installed."""
    return DataError(
        f"encoding {what} needs {package}, which is not installed: pip install 'recsweep[features]', "
        f"or give {otherwise}"
    )


def cannot_load(what: str, package: str, error: Exception, otherwise: str) -> DataError:
    """Returns the error that an optional package is installed and does not work, as with parts that do not fit."""
    return DataError(
        f"encoding {what} needs {package}, which is installed but cannot be loaded: {first_line(error)}; mend that "
        f"installation, or give {otherwise}"
    )


def first_line(error: Exception) -> str:
    """Returns an error of a library in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def folder_digest(folder: Path) -> str:
    """Returns a digest of a folder's files by their names, sizes and last bytes, 16 hexadecimal digits.

    A model's weights are told from others of the same size by what they end with, without reading gigabytes.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - 65_536))
            digest.update(f"{file.relative_to(folder)}\0{size}\0".encode() + opened.read())
    return digest.hexdigest()
