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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from search.blocks import decoded, view_blocks, view_table
from search.errors import DamagedPart, StoreError
from search.parts import Result, Snapshot, consistently, listed_files, listed_parts, reason, warn_of
from search.schema import VIEWS, columns, nearest, reading_schema, to_arrow
from search.views import keeps_everything
from trainables.places import Place, make_folder, without_secrets

__all__ = ["DamagedPart", "Store"]

_CLAIMS = "claims"
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WRITTEN: Mapping[str, Any] = {"compression": "zstd", "write_page_checksum": True}
_GROUP_ROWS = 2**17  # rows of a row group of a merged part: what a reader can pass over


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
        return self.read(lambda snapshot: view_table(snapshot, view, sweep))

    def read(self, use: Callable[[Snapshot], Result]) -> Result:
        """What `use` makes of one snapshot of the store; it is called anew where a compaction took parts from it.

        Raises:
            StoreError: the store cannot be read.
        """
        snapshot = Snapshot(self.place)
        with self.reported("read"):
            result = consistently(snapshot, use)
        warn_of(snapshot.damaged)
        return result

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
        so at no moment is a row missing or double. Where another compaction is at work, this one leaves it to it. The
        parts need not fit into memory: a block of their rows is enough.
        """
        columns(table)
        parts = [part for part, size in self._parts(table).items() if size <= largest_bytes]
        if len(parts) < 2:
            return 0
        snapshot = Snapshot(self.place, {table: parts})
        with self.reported("compacted"):
            try:
                consistently(snapshot, lambda snapshot: self._merge(snapshot, table, _beside(parts[0])))
            except FileNotFoundError:
                return 0
            merged = [part for part in parts if self.place.path(part) not in snapshot.damaged]
            for part in merged:
                with suppress(FileNotFoundError):
                    self.place.delete(part)
        return len(merged)

    def _merge(self, snapshot: Snapshot, table: str, part: str) -> None:
        """Adds all rows of a snapshot, every attempt's, as one part of that name."""
        name = next(name for name, view in VIEWS.items() if keeps_everything(view, table))
        with (
            self.place.writing(part) as file,
            pq.ParquetWriter(file, reading_schema(table), **_WRITTEN) as writer,
        ):
            for block in view_blocks(snapshot, name):
                writer.write_table(decoded(block, table), row_group_size=_GROUP_ROWS)

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
            raise StoreError(f"the result store {self.named} cannot be {done}: {reason(error)}") from error

    def _check_writable(self) -> None:
        with self.reported("written"):
            probe = f".probe-{uuid.uuid4().hex}"
            self.place.write(probe, b"")
            self.place.delete(probe)

    def _add_part(self, part: pa.Table, table: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink, **_WRITTEN)
        with self.reported("written"):
            self.place.write(_part_name(table), sink.getvalue())

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
        if listed_files(self.place, claim):
            return False
        token = uuid.uuid4().hex
        self.place.write(f"{claim}/{token}", b"claimed")
        tokens = {each.rpartition("/")[2] for each in listed_files(self.place, claim)}
        if token not in tokens:
            raise StoreError(
                f"the result store {self.named} cannot reserve names: it does not list what was just written"
            )
        if tokens != {token}:
            time.sleep(int(token[:4], 16) / 2**17)  # up to half a second, or those who met would meet at the next name
        return tokens == {token}

    def _parts(self, table: str) -> dict[str, int]:
        with self.reported("listed"):
            return listed_parts(self.place, table)


def _beside(part: str) -> str:
    """A name that keeps the place of a part in the order: what comes while parts are merged stays behind them."""
    return f"{part.removesuffix('.parquet').partition('-')[0]}-{uuid.uuid4().hex}.parquet"


def _part_name(table: str) -> str:
    return f"{table}/{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex}.parquet"
