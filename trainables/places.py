"""Places that hold files: a local folder, or a prefix at an s3:// or gs:// address."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

_CHUNK = 2**23  # bytes of an upload at a time


class Place:
    """A folder and what is in it, by names relative to it.

    On a local file system a file comes into being whole and is on the disk when `write` returns; on an object store it
    is one upload to its final key. What fails raises OSError or pa.ArrowException.

    Attributes:
        address: as people write it; a local one is absolute.
        named: the address without credentials, for messages.
        files: the file system.
        base: the place's path on it.
        local: whether it is a folder of this machine's own file system.
    """

    def __init__(self, address: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        """Opens the place, which need not exist.

        Args:
            filesystem: reads `address` as a path on that file system instead.

        Raises:
            OSError: nothing can be opened at the address; the text has no credentials.
        """
        text = str(address)
        if filesystem is not None:
            self.address, self.base, self.files = text, text.rstrip("/"), filesystem
        elif "://" in text:
            self.address, (self.files, self.base) = text.rstrip("/"), _opened(text.rstrip("/"))
        else:
            self.address = self.base = str(Path(text).expanduser().absolute())
            self.files = fs.LocalFileSystem()
        self.named = without_secrets(self.address)
        self.local = isinstance(self.files, fs.LocalFileSystem)
        self._made: set[str] = set()  # folders that are there: making one costs an object store several requests

    def path(self, name: str = "") -> str:
        """The path of a file or folder on the file system."""
        return f"{self.base}/{name}" if name else self.base

    def write(self, name: str, content: bytes | memoryview | pa.Buffer) -> None:
        """Makes a file with that content, and the folders above it."""
        if self.local:
            with _durable(Path(self.path(name))) as path, path.open("xb") as file:
                file.write(content)
            return
        self._publish(name, [content])

    def _publish(self, name: str, content: Iterable[bytes | memoryview | pa.Buffer]) -> None:
        # All bytes are on this machine before the stream is opened: closing a stream publishes whatever went into it.
        if (folder := self.path(name).rpartition("/")[0]) not in self._made:
            self.files.create_dir(folder, recursive=True)
            self._made.add(folder)
        with self.files.open_output_stream(self.path(name)) as stream:
            for chunk in content:
                stream.write(chunk)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """The path of a local file to fill, whole in the place under its name once the block ends, gone if it raises.

        Unlike with `write` the content need not fit into memory; on the way to an object store it lies on this machine.
        """
        if self.local:
            with _durable(Path(self.path(name))) as file:
                yield file
            return
        with tempfile.TemporaryDirectory(prefix="recsweep-") as folder:
            yield (file := Path(folder) / "content")
            with file.open("rb") as content:
                self._publish(name, iter(lambda: content.read(_CHUNK), b""))

    def read(self, name: str) -> bytes:
        """A file's content; FileNotFoundError where there is none."""
        with self.files.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def info(self, name: str = "") -> fs.FileInfo:
        """What is known of a file, of a folder, or of the place itself."""
        return self.files.get_file_info(self.path(name))

    def listed(self, folder: str = "") -> dict[str, fs.FileInfo]:
        """What is in a folder, by name relative to the place; nothing where there is no such folder."""
        try:
            infos = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        except FileNotFoundError:
            infos = []  # Arrow looks for the folder twice, and raises where it is made or removed in between
        # Some file systems list paths in another form than they are given.
        return {f"{folder}/{info.base_name}" if folder else info.base_name: info for info in infos}

    def delete(self, name: str) -> None:
        """Deletes a file; FileNotFoundError where there is none."""
        self.files.delete_file(self.path(name))

    def delete_folder(self, name: str = "") -> None:
        """Deletes a folder with all that is in it, or the place itself; FileNotFoundError where there is none."""
        self.files.delete_dir(self.path(name))


def below(address: str, name: str) -> str:
    """The address of a folder below another one; an object store's may have a query, which stays at the end."""
    place, mark, query = address.partition("?") if "://" in address else (address, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def without_secrets(text: str) -> str:
    """The text without the credentials of s3://key:secret@bucket: messages end up in logs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def make_folder(folder: Path) -> None:
    """Makes a local folder that is on the disk when this returns."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Puts the names in a local folder on the disk, which an fsync of the files alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(address: str) -> tuple[fs.FileSystem, str]:
    try:
        files, path = fs.FileSystem.from_uri(address)
    except (OSError, pa.ArrowException) as error:
        # Arrow's own text repeats the address.
        raise OSError(without_secrets(str(error))) from None
    return files, str(path).rstrip("/")


@contextmanager
def _durable(path: Path) -> Iterator[Path]:
    """The path of a file to fill; leaves either the whole file, on the disk and under its name, or no file."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
