"""The rows of a view as a stream of blocks of whole trials, so that no table has to fit into memory.

A view's first order is by sweep and trial, and which row counts is settled within a trial. So a large table is read
twice: first the texts alone, for the order of the trials and the row groups that hold each, then block by block. What
that costs in memory is one block and some numbers a trial, whatever the number of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from search.parts import Snapshot, coded_schema
from search.schema import TEXT, VIEWS, View, reading_schema
from search.views import coded, last_rows, last_settings, widened

BLOCK_ROWS = 2**19
"""Rows of a block, but for a single trial that has more; a table of up to two blocks is read at once."""

_PRECEDENCE = ("written", "status", "attempt")
_SURVEYED_AT_ONCE = 4

Trial = tuple[int, int]
"""The places of a sweep and of a trial in the order in which their names first appear."""


@cache
def exact_filters(name: str) -> frozenset[str]:
    """The columns by which a view's rows may be chosen before it is known which of them count."""
    view = VIEWS[name]
    return frozenset(set(view.identity) & set(view.renewed or view.identity))


def view_blocks(
    snapshot: Snapshot, name: str, columns: Sequence[str] | None = None, wanted: pc.Expression | None = None
) -> Iterator[pa.Table]:
    """The view's rows in its order, each once, with some columns of `coded_schema` or all; one block at least.

    Args:
        wanted: chooses rows by columns of `exact_filters`; others would change which rows count.

    Raises:
        StoreError: a part is of a newer schema.
        OSError, pa.ArrowException: the parts cannot be read, or changed meanwhile (`Snapshot.renew`).
    """
    view = VIEWS[name]
    known = coded_schema(view.table).names
    asked = known if columns is None else list(columns)
    needed = [each for each in known if each in {*asked, *view.identity, *_PRECEDENCE}]
    pieces = snapshot.pieces(view.table, wanted)
    if "trial" not in view.identity or sum(map(_size, pieces)) <= 2 * BLOCK_ROWS:
        yield _counted(snapshot.rows(view.table, needed, wanted, pieces), view).select(asked)
        return
    survey = _surveyed(snapshot, view, pieces, wanted)
    for block in survey.blocks() or [[]]:
        chosen = survey.expression(block)
        within = chosen if wanted is None else chosen & wanted
        held = [pieces[number] for number in survey.holders(block)]
        yield _counted(snapshot.rows(view.table, needed, within, held), view, survey.orders).select(asked)


def view_table(snapshot: Snapshot, name: str, sweep: str | None = None) -> pa.Table:
    """All rows of a view, of one sweep or of all, with plain texts. Raises as `view_blocks`."""
    if name == "trials_wide":
        return widened(view_table(snapshot, "trials", sweep), view_table(snapshot, "params", sweep))
    blocks = view_blocks(snapshot, name, wanted=of_sweep(sweep))
    return decoded(pa.concat_tables(blocks), VIEWS[name].table)


def of_sweep(sweep: str | None) -> pc.Expression | None:
    """The choice of one sweep's rows, or for None no choice."""
    return None if sweep is None else ds.field("sweep") == sweep


def decoded(rows: pa.Table, table: str) -> pa.Table:
    """The rows as they are handed out: plain texts, in `reading_schema`."""
    return rows.cast(reading_schema(table))


def _size(piece: ds.ParquetFileFragment) -> int:
    return sum(group.num_rows for group in piece.row_groups)


def _counted(rows: pa.Table, view: View, orders: Mapping[str, Mapping[str | None, int]] | None = None) -> pa.Table:
    last = last_rows(rows, view.identity, orders)
    return last_settings(last, view.renewed) if view.renewed else last


@dataclass
class _Survey:
    """Where the trials of a table are.

    Attributes:
        orders: for each text of the identity, its values with their places by first appearance, from 1.
        rows: the number of rows of each trial.
        held: the numbers of the pieces that hold each.
    """

    orders: dict[str, dict[str | None, int]]
    rows: dict[Trial, int] = field(default_factory=dict)
    held: dict[Trial, list[int]] = field(default_factory=dict)

    def blocks(self) -> list[list[Trial]]:
        """The trials in order, as many together as make BLOCK_ROWS rows at most."""
        blocks: list[list[Trial]] = []
        size = 0
        for trial in sorted(self.rows):
            size += self.rows[trial]
            if not blocks or size > BLOCK_ROWS:
                blocks.append([])
                size = self.rows[trial]
            blocks[-1].append(trial)
        return blocks

    def holders(self, block: Sequence[Trial]) -> list[int]:
        """The pieces that hold rows of the block, in order."""
        return sorted({number for trial in block for number in self.held[trial]})

    def expression(self, block: Sequence[Trial]) -> pc.Expression:
        """The choice of the block's rows."""
        sweeps, trials = ([None, *self.orders[name]] for name in ("sweep", "trial"))
        inside: dict[int, list[str | None]] = {}
        for sweep, trial in block:
            inside.setdefault(sweep, []).append(trials[trial])
        # A block is a stretch of the order: only its first and its last sweep can be there in part.
        ends = {block[0][0], block[-1][0]} if block else set()
        whole = ds.field("sweep").isin(pa.array([sweeps[each] for each in inside if each not in ends], TEXT))
        parts = (
            (ds.field("sweep") == sweeps[each]) & ds.field("trial").isin(pa.array(inside[each], TEXT)) for each in ends
        )
        return reduce(lambda one, other: one | other, parts, whole)


def _surveyed(
    snapshot: Snapshot, view: View, pieces: Sequence[ds.ParquetFileFragment], wanted: pc.Expression | None
) -> _Survey:
    schema = coded_schema(view.table)
    texts = [name for name in view.identity if pa.types.is_dictionary(schema.field(name).type)]
    survey = _Survey({name: {} for name in texts})
    with ThreadPoolExecutor(_SURVEYED_AT_ONCE) as pool:
        found = pool.map(lambda piece: _summary(snapshot.rows(view.table, texts, wanted, [piece])), pieces)
        for number, (values, counts) in enumerate(found):
            for name in texts:
                order = survey.orders[name]
                for value in values[name]:
                    order.setdefault(value, len(order) + 1)
            for (sweep, trial), count in counts.items():
                key = survey.orders["sweep"][sweep], survey.orders["trial"][trial]
                survey.rows[key] = survey.rows.get(key, 0) + count
                survey.held.setdefault(key, []).append(number)
    return survey


def _summary(rows: pa.Table) -> tuple[dict[str, list[str | None]], dict[tuple[str | None, str | None], int]]:
    """Each text's values in the order in which they appear, and the number of rows of each sweep and trial."""
    if not len(rows):
        return {name: [] for name in rows.column_names}, {}
    codes, values = {}, {}
    for name in rows.column_names:
        codes[name], values[name] = coded(rows[name])
    pairs = codes["sweep"] * 2**32 + codes["trial"]
    heads = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
    distinct, place = np.unique(pairs[heads], return_inverse=True)
    counts = np.bincount(place, np.diff(np.append(heads, len(pairs))))
    names = [(values["sweep"][pair >> 32], values["trial"][pair & (2**32 - 1)]) for pair in distinct.tolist()]
    appeared = {name: values[name][1:] for name in values}
    return appeared, {key: int(count) for key, count in zip(names, counts, strict=True)}
