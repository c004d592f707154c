"""The store's views as DuckDB reads them: what a statement needs of them, block by block."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from search.blocks import exact_filters, of_sweep, view_blocks, view_table
from search.parts import Snapshot, coded_schema
from search.schema import VIEWS

_BATCH_ROWS = 2**16


class Clock:
    """The seconds that were spent within it, by one or several threads, each for itself."""

    def __init__(self) -> None:
        self._spent, self._since = 0.0, list[float]()

    def seconds(self) -> float:
        """Seconds until now."""
        now = time.monotonic()
        return self._spent + sum(now - since for since in tuple(self._since))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what is spent within."""
        since = time.monotonic()
        self._since.append(since)
        try:
            yield
        finally:
            self._since.remove(since)
            self._spent += time.monotonic() - since


def scanned(snapshot: Snapshot, view: str, sweep: str | None, clock: Clock) -> pa.Table | ds.Dataset:
    """A view of one sweep or of all that DuckDB can register; the clock counts the reading."""
    if view == "trials_wide":
        return view_table(snapshot, view, sweep)  # its columns depend on the rows
    return ScannedView(snapshot, view, sweep, clock)


@contextmanager
def raised(snapshot: Snapshot) -> Iterator[None]:
    """Raises what a reading within DuckDB failed with, instead of DuckDB's words about it."""
    try:
        yield
    except duckdb.Error:
        if snapshot.failure is not None:
            raise snapshot.failure from None
        raise


class ScannedView(ds.InMemoryDataset):  # type: ignore[misc]
    """A view that is read when DuckDB scans it, with the columns and the filter that its optimiser comes to.

    DuckDB calls `scanner` of whatever dataset is registered, once for each place of the view in the statement, and
    relies on the filter being applied. One that names columns of the view's identity alone goes down to the Parquet
    files; any other one is applied to the rows that count.
    """

    def __init__(self, snapshot: Snapshot, view: str, sweep: str | None, clock: Clock) -> None:
        super().__init__(coded_schema(VIEWS[view].table).empty_table())
        self._snapshot, self._view, self._sweep, self._clock = snapshot, view, sweep, clock

    def scanner(
        self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None, **options: Any
    ) -> ds.Scanner:
        """A stream of the view's rows; its options are DuckDB's, of which only these two matter."""
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return ds.Scanner.from_batches(self._batches(names, filter), schema=schema)

    def _batches(self, names: Sequence[str], filter: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        blocks = self._blocks(names, filter)
        while True:
            with self._clock.running():
                try:
                    block = next(blocks, None)
                except Exception as error:  # DuckDB, which called, would tell of it in its own words
                    self._snapshot.failure = error
                    raise
            if block is None:
                return
            batches = block.select(names).to_batches(_BATCH_ROWS)
            del block  # before the next one is read: one block at a time is enough
            while batches:
                yield batches.pop(0)

    def _blocks(self, names: Sequence[str], filter: pc.Expression | None) -> Iterator[pa.Table]:
        wanted, later, needed = of_sweep(self._sweep), None, set(names)
        if filter is not None:
            referenced = referenced_columns(filter, self.schema)
            if referenced <= exact_filters(self._view):
                wanted = filter if wanted is None else wanted & filter
            else:
                later, needed = filter, needed | referenced
        blocks = view_blocks(self._snapshot, self._view, sorted(needed), wanted)
        return blocks if later is None else map(lambda block: block.filter(later), blocks)


def referenced_columns(filter: pc.Expression, schema: pa.Schema) -> set[str]:
    """The columns that an expression names: those without which it cannot be bound."""
    return {name for name in schema.names if not _binds(filter, schema.remove(schema.get_field_index(name)))}


def _binds(filter: pc.Expression, schema: pa.Schema) -> bool:
    try:
        ds.InMemoryDataset(schema.empty_table()).scanner(filter=filter)
    except pa.ArrowInvalid:
        return False
    return True
