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
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch
from pyarrow import fs

from trainables.errors import TrainableError

TENSORS, NUMBERS = "weights.pt", "progress.json"
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
    _sync_folder(folder.parent)


def _write(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    with open(folder / TENSORS, "wb") as file:
        written = _Hashing(file)
        torch.save(dict(tensors), written)  # type: ignore[arg-type]
        os.fsync(file.fileno())
    with open(folder / NUMBERS, "wb") as file:
        file.write(_document(numbers, written))
        file.flush()
        os.fsync(file.fileno())


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
    """A file that is written to and never read; keeps the digest of what went into it."""

    def __init__(self, file: "_Sink") -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> int:
        self.digest.update(content)
        self._file.write(content)
        return len(content)

    def flush(self) -> None:
        self._file.flush()


class _Sink(Protocol):
    def write(self, content: bytes | memoryview, /) -> Any: ...
    def flush(self) -> Any: ...


def _document(numbers: Mapping[str, Any], written: _Hashing) -> bytes:
    return json.dumps({"weights_sha256": written.digest.hexdigest(), "numbers": dict(numbers)}).encode()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CheckpointFolder:
    """The checkpoints of one trial, `epoch_000010` and so on, in a local folder or at an s3:// or gs:// address.

    At an address nothing can be renamed: the weights go up first and the numbers, with the weights' digest, last, and
    a folder without both is no checkpoint yet.
    """

    def __init__(self, address: str, *, keep: int = 2, filesystem: fs.FileSystem | None = None) -> None:
        """Args:
        keep: checkpoints that stay; older ones are removed once a new one is whole.
        filesystem: reads `address` as a path on that file system instead.

        Raises:
            TrainableError: the address cannot be opened.
        """
        self.keep = keep
        self._local = filesystem is None and "://" not in address
        self._files, self._base = (filesystem, address) if filesystem is not None else _locate(address)

    def save(self, epoch: int, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
        """Adds the checkpoint of an epoch, whole or not at all, and removes those beyond `keep`.

        Later ones go, too: whoever saves this one could not read them.

        Raises:
            OSError: it could not be written; those before it stay.
        """
        folder = f"{self._base}/epoch_{epoch:06d}"
        if self._local:
            save(Path(folder), tensors, numbers)
        else:
            self._upload(folder, tensors, numbers)
        epochs = sorted(self._epochs(), reverse=True)
        kept = [each for each in epochs if each <= epoch][: self.keep]
        for old in [each for each in epochs if each not in kept]:
            with suppress(OSError):  # another worker, taken for lost, may be at the same
                self._files.delete_dir(f"{self._base}/epoch_{old:06d}")

    def _upload(self, folder: str, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
        buffer = BytesIO()
        written = _Hashing(buffer)
        torch.save(dict(tensors), written)  # type: ignore[arg-type]
        self._files.create_dir(folder, recursive=True)
        # All bytes are at hand before a stream is opened: closing a stream publishes whatever went into it.
        for name, content in ((TENSORS, buffer.getbuffer()), (NUMBERS, _document(numbers, written))):
            with self._files.open_output_stream(f"{folder}/{name}") as stream:
                stream.write(content)

    def newest_first(self, device: torch.device) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """(tensors, numbers) of each checkpoint that can be read, the newest first; the others are passed over."""
        if self._local:
            self._sweep()
        for epoch in sorted(self._epochs(), reverse=True):
            with suppress(TrainableError, OSError):
                yield self._load(f"{self._base}/epoch_{epoch:06d}", device)

    def _load(self, folder: str, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._local:
            return load(Path(folder), device)
        document, tensors = (self._bytes(f"{folder}/{name}") for name in (NUMBERS, TENSORS))
        return _read(BytesIO(tensors), document, device, _without_secrets(folder))

    def _bytes(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _epochs(self) -> list[int]:
        infos = self._files.get_file_info(fs.FileSelector(self._base, allow_not_found=True))
        return [int(match[1]) for info in infos if (match := _NAME.fullmatch(info.base_name))]

    def _sweep(self) -> None:
        """Removes what a worker that was killed in a save left behind."""
        for left in Path(self._base).glob(".epoch_*"):
            shutil.rmtree(left, ignore_errors=True)


def remove_all(address: str, filesystem: fs.FileSystem | None = None) -> None:
    """Removes a trial's checkpoints; where there are none, nothing happens.

    Raises:
        OSError: they could not be removed.
    """
    folder = CheckpointFolder(address, filesystem=filesystem)
    with suppress(FileNotFoundError):
        folder._files.delete_dir(folder._base)


def below(address: str, name: str) -> str:
    """The address of a folder below another one; an object store's may have a query, which stays at the end."""
    place, mark, query = address.partition("?") if "://" in address else (address, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def _locate(address: str) -> tuple[fs.FileSystem, str]:
    if "://" not in address:
        return fs.LocalFileSystem(), str(Path(address).absolute())
    try:
        files, path = fs.FileSystem.from_uri(address)
    except (OSError, pa.ArrowException) as error:
        # Arrow's own text repeats the address.
        raise TrainableError(_without_secrets(f"checkpoints cannot be kept at {address}: {error}")) from None
    return files, str(path)


def _without_secrets(text: str) -> str:
    """The text without the credentials of s3://key:secret@bucket: messages end up in logs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
