"""The result store: append-only Parquet parts, written by several drivers at once and read by anyone.

    <root>/<table>/<time>-<random>.parquet      one immutable part per append
    <root>/<table>/.<part>.tmp                  a write in progress or one that was killed; readers pass over it
    <root>/claims/<sweep>/                      a sweep name that a driver has reserved

There is no lock and no index. A part comes into being whole: on a local file system by fsync and rename, on an object
store by one upload to its final key. Rows may come twice (a retry, a compaction, two drivers); readers keep one of
each.
"""

import itertools
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
from trainables.places import Place, make_folder, without_secrets

_PART = ".parquet"
_CLAIMS = "claims"
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Store:
    """A result store at a local folder, an s3:// or a gs:// address.

    Attributes:
        place: the store's files, for what is kept beside the tables.
        root: its address.
        named: the address without credentials, for messages.
    """

    def __init__(self, root: str | Path, *, create: bool = False, filesystem: fs.FileSystem | None = None) -> None:
        """Opens a store.

        Args:
            create: makes a missing store and checks that it can be written.
            filesystem: reads `root` as a path on that file system instead (an object store with its own credentials).

        Raises:
            StoreError: there is no such store, or it cannot be opened.
        """
        try:
            self.place = Place(root, filesystem)
        except OSError as error:
            where = without_secrets(str(root))
            raise StoreError(f"the result store {where} is not at an address that can be opened: {error}") from None
        self.root, self.named = self.place.address, self.place.named
        self._last_written = datetime.min.replace(tzinfo=UTC)
        with self.reported("opened"):
            found = self.place.info().type
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

    def trials(self, sweep: str | None = None) -> pd.DataFrame:
        """Every trial's last attempt, with one column per parameter."""
        return self.frame("trials_wide", sweep)

    def metrics(self, sweep: str | None = None) -> pd.DataFrame:
        """Every metric of every epoch of every trial's last attempt."""
        return self.frame("metrics", sweep)

    def sql(self, select: str, **params: object) -> pd.DataFrame:
        """The rows of one SELECT over the views, with `params` bound to $names, as `recsweep query` gives them.

        Raises:
            QueryError: it is refused, or fails.
        """
        from search.query import run_query

        frame: pd.DataFrame = run_query(self, select, params).to_pandas()
        return frame

    def sweep_names(self) -> list[str]:
        """The names of all sweeps that were started, by their first start, oldest first."""
        return list(dict.fromkeys(sweep for sweep, _ in self._starts()))

    def resolve(self, name: str | None) -> str:
        """The sweep of that name, or that a job of that id drove, or for None the one started or resumed last.

        Raises:
            StoreError: there is none.
        """
        starts = self._starts()
        if name is None and not starts:
            raise StoreError(f"the result store {self.named} holds no sweep yet")
        names = [sweep for sweep, job in starts if name in (None, sweep, job)]
        if not names:
            known = nearest(str(name), {sweep for sweep, _ in starts})
            raise StoreError(f"the result store {self.named} has no sweep `{name}`{known}")
        return name if name in names else names[-1]

    def claim(self, name: str) -> str:
        """A sweep name that no other call was given or will be: `name`, else `name-2`, `name-3`, ..."""
        if not _SWEEP_NAME.fullmatch(name):
            raise StoreError(f"a sweep name must be up to 100 letters, digits, `.`, `_` and `-`, but got {name!r}")
        taken = set(self.sweep_names())
        later = (f"{name}-{number}" for number in itertools.count(2))
        with self.reported("written"):
            return next(each for each in itertools.chain([name], later) if each not in taken and self._reserve(each))

    def compact(self, table: str, *, largest_bytes: int = 2**26) -> int:
        """Merges the parts of up to `largest_bytes` into one while others read and write; returns how many it merged.

        The merged part is complete before the first old one goes, and rows that stand twice in between are read once,
        so at no moment is a row missing or double. Where another compaction is at work, this one leaves it to it.
        """
        columns(table)
        view = next(each for each in VIEWS.values() if each.table == table and keeps_attempts(each.identity, table))
        parts = [part for part, size in self._parts(table).items() if size <= largest_bytes]
        if len(parts) < 2:
            return 0
        with self.reported("compacted"):
            try:
                merged, damaged = self._read(table, parts)
            except FileNotFoundError:
                return 0
            parts = [part for part in parts if part not in damaged]
            self._add_part(last_rows(merged, view.identity), table)
            for part in parts:
                with suppress(FileNotFoundError):
                    self.place.delete(part)
        return len(parts)

    def _starts(self) -> list[tuple[str, str | None]]:
        """The sweep and the job of every start, oldest first."""
        starts = self.table("sweeps").sort_by([("started", "ascending"), ("sweep", "ascending")])
        return list(zip(starts["sweep"].to_pylist(), starts["job"].to_pylist(), strict=True))

    @contextmanager
    def reported(self, done: str) -> Iterator[None]:
        """Turns what fails within into a StoreError that says what cannot be done to the store."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"the result store {self.named} cannot be {done}: {_reason(error)}") from error

    def _check_writable(self) -> None:
        with self.reported("written"):
            probe = f".probe-{uuid.uuid4().hex}"
            self.place.write(probe, b"")
            self.place.delete(probe)

    def _add_part(self, part: pa.Table, table: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink, compression="zstd", write_page_checksum=True)
        with self.reported("written"):
            name = f"{table}/{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex}{_PART}"
            self.place.write(name, sink.getvalue())

    def _reserve(self, name: str) -> bool:
        claim = f"{_CLAIMS}/{name}"
        if self.place.local:
            folder = Path(self.place.path(claim))
            make_folder(folder.parent)
            try:
                folder.mkdir()
            except FileExistsError:
                return False
            return True
        # Object stores have no exclusive create here. Each writes a token of its own, then looks: of several at once at
        # most one can see its own alone, because every token is there before its writer looks.
        if self._listed(claim):
            return False
        token = uuid.uuid4().hex
        self.place.write(f"{claim}/{token}", b"claimed")
        tokens = {each.rpartition("/")[2] for each in self._listed(claim)}
        if token not in tokens:
            raise StoreError(
                f"the result store {self.named} cannot reserve names: it does not list what was just written"
            )
        if tokens != {token}:
            time.sleep(int(token[:4], 16) / 2**17)  # up to half a second, or those who met would meet at the next name
        return tokens == {token}

    def _listed(self, folder: str) -> dict[str, int]:
        """The names of all complete files in a folder with their sizes in bytes."""
        found = self.place.listed(folder).items()
        return {name: info.size for name, info in found if info.is_file and not info.base_name.startswith(".")}

    def _parts(self, table: str) -> dict[str, int]:
        """The names of all complete parts with their sizes in bytes, oldest first.

        A listing is not atomic: while a compaction runs, one pass can miss both the merged part and an old one. So the
        folder is listed until nothing that one pass saw is gone in the next.
        """
        with self.reported("listed"):
            seen = self._listed(table)
            while not seen.keys() <= (again := self._listed(table)).keys():
                seen = again
        return {name: again[name] for name in sorted(again) if name.endswith(_PART)}

    def _rows(self, table: str, sweep: str | None) -> pa.Table:
        wanted = None if sweep is None else ds.field("sweep") == sweep
        parts: list[str] = []
        with self.reported("read"):
            while True:
                earlier, parts = parts, list(self._parts(table))
                try:
                    rows, damaged = self._read(table, parts, wanted)
                    for part, reason in damaged.items():
                        warnings.warn(DamagedPart(self.place.path(part), reason), stacklevel=4)
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
        return ds.FileSystemDataset(fragments, schema, _PARQUET, self.place.files).to_table(filter=wanted)

    def _fragment(self, table: str, part: str) -> ds.ParquetFileFragment:
        fragment = _PARQUET.make_fragment(self.place.path(part), self.place.files)
        _check_part(table, self.place.path(part), fragment.physical_schema.metadata)
        return fragment

    def _damage(self, table: str, part: str) -> str | None:
        """What is wrong with a part whose bytes can be had; None for nothing.

        Raises:
            OSError: its bytes cannot be had, which is no fault of the part.
        """
        content = self.place.read(part)
        try:
            rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
            _check_part(table, self.place.path(part), rows.schema.metadata)
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
