"""The result store: append-only Parquet parts, written by several drivers at once and read by anyone.

    <root>/<table>/<time>-<random>.parquet      one immutable part per append
    <root>/<table>/.<part>.tmp                  a write in progress or one that was killed; readers pass over it
    <root>/claims/<sweep>/                      a sweep name that a driver has reserved

There is no lock and no index. A part comes into being whole: on a local file system by fsync and rename, on an object
store by one upload to its final key. Rows may come twice (a retry, a compaction, two drivers); readers keep one of
each.
"""

import itertools
import os
import re
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from search.errors import StoreError
from search.schema import (
    VIEWS,
    NewerSchemaError,
    check_version,
    columns,
    nearest,
    reading_schema,
    to_arrow,
)
from search.views import keeps_attempts, last_rows, last_settings, widened

_PART = ".parquet"
_CLAIMS = "claims"
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Store:
    """A result store at a local folder, an s3:// or a gs:// address.

    `create` makes a missing store and checks that it can be written; without it a missing store is a StoreError.
    `named` is the root without credentials, for messages.
    `filesystem` reads `root` as a path on that file system instead (an object store with credentials of its own).
    """

    def __init__(self, root: str | Path, *, create: bool = False, filesystem: fs.FileSystem | None = None) -> None:
        self.root, self._base, self._files = _locate(root, filesystem)
        self._local = isinstance(self._files, fs.LocalFileSystem)
        self.named = _without_secrets(self.root)
        self._made: set[str] = set()  # folders that are there: making one costs an object store several requests
        self._last_written = datetime.min.replace(tzinfo=UTC)
        with self._reported("opened"):
            found = self._files.get_file_info(self._base).type
        if found == fs.FileType.File:
            raise StoreError(f"the result store must be a folder, but {self.named} is a file")
        if create:
            self._check_writable()
        elif found == fs.FileType.NotFound:
            raise StoreError(f"there is no result store at {self.named}")

    def append(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Adds the rows as one part that is on the disk when this returns, or raises StoreError and adds nothing.

        A column that the table lacks, a missing value where null is not allowed, and a value of another type are
        StoreErrors. `written` is filled in, later at every append of this store even when the clock is set back.
        """
        columns(table)
        if rows:
            self._last_written = max(datetime.now(UTC), self._last_written + timedelta(microseconds=1))
            self._add_part(to_arrow(table, rows, self._last_written), table)

    def table(self, view: str, sweep: str | None = None) -> pa.Table:
        """The rows of a view, each once, of one sweep or of all; without rows the columns still stand.

        Views: those of `schema.VIEWS`. The order is that of the view's identity, numbers ascending, texts as they were
        first written. A damaged part is passed over with a `DamagedPart` warning that names it, and never deleted; one
        of a newer schema is a StoreError.
        """
        if view not in VIEWS:
            raise StoreError(f"the result store has no view `{view}`{nearest(view, VIEWS)}")
        if view == "trials_wide":
            return widened(self.table("trials", sweep), self.table("params", sweep))
        rows = last_rows(self._rows(VIEWS[view].table, sweep), VIEWS[view].identity)
        return last_settings(rows, VIEWS[view].renewed) if VIEWS[view].renewed else rows

    def frame(self, view: str, sweep: str | None = None) -> pd.DataFrame:
        """The same rows in pandas; an integer column that holds a null becomes float64, its nulls NaN."""
        frame: pd.DataFrame = self.table(view, sweep).to_pandas()
        return frame

    def sweep_names(self) -> list[str]:
        """The names of all sweeps that were started, by their first start, oldest first."""
        return list(dict.fromkeys(self._starts()))

    def resolve(self, name: str | None) -> str:
        """The sweep of that name, or for None the one started or resumed last; StoreError when there is none."""
        starts = self._starts()
        if name is None and starts:
            return starts[-1]
        if name is None:
            raise StoreError(f"the result store {self.named} holds no sweep yet")
        if name not in starts:
            raise StoreError(f"the result store {self.named} has no sweep `{name}`{nearest(name, set(starts))}")
        return name

    def claim(self, name: str) -> str:
        """A sweep name that no other call was given or will be: `name`, else `name-2`, `name-3`, ..."""
        if not _SWEEP_NAME.fullmatch(name):
            raise StoreError(f"a sweep name must be up to 100 letters, digits, `.`, `_` and `-`, but got {name!r}")
        taken = set(self._starts())
        later = (f"{name}-{number}" for number in itertools.count(2))
        with self._reported("written"):
            return next(each for each in itertools.chain([name], later) if each not in taken and self._reserve(each))

    def compact(self, table: str, *, largest_bytes: int = 2**26) -> int:
        """Merges the parts of up to `largest_bytes` into one while others read and write; returns how many it merged.

        The merged part is complete before the first old one goes, and rows that stand twice in between are read once,
        so at no moment is a row missing or double. Where another compaction is at work, this one leaves it to it.
        """
        columns(table)
        view = next(each for each in VIEWS.values() if each.table == table and keeps_attempts(each.identity, table))
        parts = [path for path, size in self._parts(table).items() if size <= largest_bytes]
        if len(parts) < 2:
            return 0
        with self._reported("compacted"):
            try:
                merged, damaged = self._read(table, parts)
            except FileNotFoundError:
                return 0
            parts = [part for part in parts if part not in damaged]
            self._add_part(last_rows(merged, view.identity), table)
            for part in parts:
                with suppress(FileNotFoundError):
                    self._files.delete_file(part)
        return len(parts)

    def _starts(self) -> list[str]:
        starts = (
            self.table("sweeps")
            .select(["sweep", "started"])
            .sort_by([("started", "ascending"), ("sweep", "ascending")])
        )
        names: list[str] = starts["sweep"].to_pylist()
        return names

    @contextmanager
    def _reported(self, done: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"the result store {self.named} cannot be {done}: {_reason(error)}") from error

    def _check_writable(self) -> None:
        with self._reported("written"):
            probe = f"{self._base}/.probe-{uuid.uuid4().hex}"
            self._put(probe, pa.py_buffer(b""))
            self._files.delete_file(probe)

    def _add_part(self, part: pa.Table, table: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink, compression="zstd", write_page_checksum=True)
        with self._reported("written"):
            self._put(
                f"{self._base}/{table}/{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex}{_PART}", sink.getvalue()
            )

    def _put(self, path: str, content: pa.Buffer) -> None:
        if self._local:
            _write_durably(Path(path), content)
            return
        # All bytes are at hand before the stream is opened: closing a stream publishes whatever went into it.
        if (folder := path.rpartition("/")[0]) not in self._made:
            self._files.create_dir(folder, recursive=True)
            self._made.add(folder)
        with self._files.open_output_stream(path) as stream:
            stream.write(content)

    def _reserve(self, name: str) -> bool:
        claim = f"{self._base}/{_CLAIMS}/{name}"
        if self._local:
            _make_folder(Path(claim).parent)
            try:
                Path(claim).mkdir()
            except FileExistsError:
                return False
            return True
        # Object stores have no exclusive create here. Each writes a token of its own, then looks: of several at once at
        # most one can see its own alone, because every token is there before its writer looks.
        if self._listed(claim):
            return False
        token = uuid.uuid4().hex
        self._put(f"{claim}/{token}", pa.py_buffer(b"claimed"))
        tokens = {path.rpartition("/")[2] for path in self._listed(claim)}
        if token not in tokens:
            raise StoreError(
                f"the result store {self.named} cannot reserve names: it does not list what was just written"
            )
        if tokens != {token}:
            time.sleep(int(token[:4], 16) / 2**17)  # up to half a second, or those who met would meet at the next name
        return tokens == {token}

    def _listed(self, folder: str) -> dict[str, int]:
        try:
            infos = self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        except FileNotFoundError:
            # Arrow looks for the folder twice, and raises when another driver makes it in between.
            infos = []
        return {info.path: info.size for info in infos if info.is_file and not info.base_name.startswith(".")}

    def _parts(self, table: str) -> dict[str, int]:
        """The paths of all complete parts with their sizes in bytes, oldest first.

        A listing is not atomic: while a compaction runs, one pass can miss both the merged part and an old one. So the
        folder is listed until nothing that one pass saw is gone in the next.
        """
        folder = f"{self._base}/{table}"
        with self._reported("listed"):
            seen = self._listed(folder)
            while not seen.keys() <= (again := self._listed(folder)).keys():
                seen = again
        return {path: again[path] for path in sorted(again) if path.endswith(_PART)}

    def _rows(self, table: str, sweep: str | None) -> pa.Table:
        wanted = None if sweep is None else ds.field("sweep") == sweep
        parts: list[str] = []
        with self._reported("read"):
            while True:
                earlier, parts = parts, list(self._parts(table))
                try:
                    rows, damaged = self._read(table, parts, wanted)
                    for part, reason in damaged.items():
                        warnings.warn(DamagedPart(part, reason), stacklevel=4)
                    return rows
                except FileNotFoundError:
                    # A compaction took a part after it was listed; where it is listed again, that is not the reason.
                    if parts == earlier:
                        raise

    def _read(self, table: str, parts: Sequence[str], wanted: Any = None) -> tuple[pa.Table, dict[str, str]]:
        """The rows of the sound parts, and the damaged ones, each with the reason."""
        try:
            return self._read_all(table, parts, wanted), {}
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException):
            # It may be a part, or the way to it.
            reasons = {part: self._damage(table, part) for part in parts}
            damaged = {part: reason for part, reason in reasons.items() if reason is not None}
            if not damaged:
                raise
            return self._read_all(table, [part for part in parts if part not in damaged], wanted), damaged

    def _read_all(self, table: str, parts: Sequence[str], wanted: Any) -> pa.Table:
        schema = reading_schema(table)
        if not parts:
            return schema.empty_table()
        with ThreadPoolExecutor(8) as pool:
            fragments = list(pool.map(lambda part: self._fragment(table, part), parts))
        return ds.FileSystemDataset(fragments, schema, _PARQUET, self._files).to_table(filter=wanted)

    def _fragment(self, table: str, part: str) -> ds.ParquetFileFragment:
        fragment = _PARQUET.make_fragment(part, self._files)
        _check_part(table, part, fragment.physical_schema.metadata)
        return fragment

    def _damage(self, table: str, part: str) -> str | None:
        """What is wrong with a part whose bytes can be had; None for nothing.

        Raises:
            OSError: its bytes cannot be had, which is no fault of the part.
        """
        with self._files.open_input_file(part) as file:
            content = file.read_buffer()
        try:
            rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
            _check_part(table, part, rows.schema.metadata)
        except (OSError, pa.ArrowException) as error:
            return _reason(error)
        return None


class DamagedPart(UserWarning):
    """A part of the result store cannot be read; its rows are missing until it is replaced or removed."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"the part {part} of the result store is damaged and passed over: {reason}")


def _check_part(table: str, part: str, metadata: Mapping[bytes, bytes] | None) -> None:
    """Returns if a part is of this table and not of a newer schema.

    Raises:
        StoreError: it is of a newer schema.
        pa.ArrowInvalid: it is no part of the table.
    """
    try:
        check_version(table, metadata)
    except NewerSchemaError as error:
        raise StoreError(f"the part {part} of the result store cannot be read: {error}") from None
    except StoreError as error:
        raise pa.ArrowInvalid(str(error)) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip().rstrip(".")


def _locate(root: str | Path, filesystem: fs.FileSystem | None) -> tuple[str, str, fs.FileSystem]:
    """The root as people write it, its path on its file system, and that file system."""
    if filesystem is not None:
        return str(root), str(root).rstrip("/"), filesystem
    if "://" not in str(root):
        path = str(Path(root).expanduser().absolute())
        return path, path, fs.LocalFileSystem()
    address = str(root).rstrip("/")
    try:
        files, path = fs.FileSystem.from_uri(address)
    except (OSError, pa.ArrowException) as error:
        said = _without_secrets(f"the result store {address} is not at an address that can be opened: {error}")
        raise StoreError(said) from error
    return address, path.rstrip("/"), files


def _without_secrets(text: str) -> str:
    """The text with the credentials taken out of s3://key:secret@bucket: messages end up in logs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _write_durably(path: Path, content: pa.Buffer) -> None:
    """Leaves either the whole file, on the disk and under its name, or no file."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Puts the names in the folder on the disk, which an fsync of the files alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
