"""What readers see of a table: each row once, the last attempt's last written one; trials with their parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.schema import NUMBER, TEXT, View, arrow_schema

_NEAR = 4  # a range of so many numbers a row needs no sorting


def keeps_everything(view: View, table: str) -> bool:
    """Whether a view shows every attempt of the table's rows, under whatever settings."""
    attempts = "attempt" in arrow_schema(table).names
    return view.table == table and ("attempt" in view.identity) == attempts and not view.renewed


def last_rows(
    rows: pa.Table, identity: Sequence[str], orders: Mapping[str, Mapping[str | None, int]] | None = None
) -> pa.Table:
    """One row per identity: the highest attempt's; of these one that is final, and of these the last written.

    A row that calls its trial running never comes after one that does not; by the clock it may seem to.

    Args:
        orders: the places of each text's values, from 1, where these rows are a part of what they are ordered among.
    """
    if not len(rows):
        return rows
    group = _group(rows, identity, orders or {})
    if bool((group[1:] > group[:-1]).all()):
        return rows
    order = np.argsort(group, kind="stable")
    ends = np.append(group[order][1:] != group[order][:-1], True)
    if not ends.all():
        precedence = [rows["written"].cast(pa.int64())]
        if "status" in rows.column_names:
            precedence.append(pc.not_equal(rows["status"], "running").cast(pa.int64()))
        if "attempt" in rows.column_names:
            precedence.append(rows["attempt"])
        order = np.lexsort((*(each.fill_null(-1).to_numpy() for each in precedence), group))
    return rows.take(pa.array(order[ends]))


def last_settings(rows: pa.Table, renewed: Sequence[str]) -> pa.Table:
    """Of the rows that agree in the columns of `renewed`, those whose `settings` are the ones last written."""
    if not len(rows):
        return rows
    group, settings = _group(rows, renewed, {}), _ranks(rows["settings"])
    order = np.lexsort((rows["written"].cast(pa.int64()).to_numpy(), group))
    ends = order[np.append(group[order][1:] != group[order][:-1], True)]
    place = np.searchsorted(group[ends], group)
    return rows.filter(pa.array(settings == settings[ends][place]))


def coded(
    column: pa.ChunkedArray, order: Mapping[str | None, int] | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str | None]]:
    """Texts as numbers from 0, null first, then by first appearance or by the places that `order` gives them.

    Returns the number of each row, int64 [rows], and without an `order` the values in that order, None first; a value
    that is only in the dictionary of a dictionary-encoded column is none of them.
    """
    encoded = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.combine_chunks()
    values = [None, *whole.dictionary.to_pylist()]
    codes = (whole.indices.fill_null(-1) if whole.null_count else whole.indices).to_numpy() + 1
    if order is not None:
        places = np.array([0, *(order.get(value, 0) for value in values[1:])], np.int64)
        return places[codes], []
    first = np.full(len(values), len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    appeared = np.argsort(first[1:], kind="stable") + 1
    places = np.zeros(len(values), np.int64)
    places[appeared] = np.arange(1, len(values))
    return places[codes], [None, *(values[each] for each in appeared if first[each] < len(codes))]


def _group(
    rows: pa.Table, identity: Sequence[str], orders: Mapping[str, Mapping[str | None, int]]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A number per row, equal where the rows agree in `identity`, ascending with it: int64 [rows]."""
    group = np.zeros(len(rows), np.int64)
    for name in identity:
        values = _ranks(rows[name], orders.get(name))
        count = int(values.max()) + 1
        if int(group.max()) >= 2**62 // count:
            group = np.unique(group, return_inverse=True)[1]
        group = group * count + values
    return group


def _ranks(
    column: pa.ChunkedArray, order: Mapping[str | None, int] | None = None
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The values as small numbers from 0: texts as `coded` has them, all others ascending, null first: int64 [rows]."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return coded(column, order)[0]
    numbers = column.cast(pa.int64())
    if not numbers.null_count:
        plain = numbers.to_numpy()
        low = int(plain.min())
        if int(plain.max()) - low < _NEAR * len(plain):
            return np.asarray(plain - low, np.int64)
    return np.unique(numbers.fill_null(np.iinfo(np.int64).min).to_numpy(), return_inverse=True)[1].astype(np.int64)


def widened(trials: pa.Table, params: pa.Table) -> pa.Table:
    """The trials, then one column per parameter in the order of their names: numbers as double, texts as string.

    A parameter with the name of a trial's column (`seed`) is that column already. One that is a number in some trials
    and a text in others is a string column. Null where a trial does not have the parameter.
    """
    place = {
        key: at for at, key in enumerate(zip(*(trials[name].to_pylist() for name in ("sweep", "trial")), strict=True))
    }
    values: dict[str, list[float | str | None]] = {}
    for row in params.select(["sweep", "trial", "name", "number", "text"]).to_pylist():
        if row["name"] not in trials.column_names and (row["sweep"], row["trial"]) in place:
            column = values.setdefault(row["name"], [None] * len(trials))
            column[place[row["sweep"], row["trial"]]] = row["number"] if row["text"] is None else row["text"]
    for name in sorted(values):
        texts = any(isinstance(value, str) for value in values[name])
        column = [str(value) if texts and value is not None else value for value in values[name]]
        trials = trials.append_column(
            pa.field(name, TEXT if texts else NUMBER), pa.array(column, TEXT if texts else NUMBER)
        )
    return trials
