"""Reading `<name>.inter`: a tab separated table of user, item and, where there, time and split."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pyarrow import csv

from trainables.errors import DataError

USER, ITEM, RATING, TIME, LABEL = "userID", "itemID", "rating", "timestamp", "x_label"
_INTEGER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, eq=False)
class InteractionTable:
    """Every row of a data set, all splits together; ids are checked: from 0, without gaps, no pair twice.

    Attributes:
        source: the file, for messages.
        times: as in the file, integer or float; None without the column.
        labels: 0 train, 1 validation, 2 test; None without the column.
        columns: of the file, also those that are not read.
    """

    source: str
    users: Int64[np.ndarray, " E"]
    items: Int64[np.ndarray, " E"]
    times: np.ndarray | None
    labels: Int64[np.ndarray, " E"] | None
    columns: tuple[str, ...]

    @property
    def num_users(self) -> int:
        return int(self.users.max()) + 1

    @property
    def num_items(self) -> int:
        return int(self.items.max()) + 1


def read_interactions(path: Path) -> InteractionTable:
    """Returns the checked rows of a file in MMRec's format; columns other than the four it knows are not read.

    Raises:
        DataError: the file is missing or breaks a rule; the sentence names the file, the column and the line to blame.
    """
    present = _header(path)
    for column in (USER, ITEM):
        if column not in present:
            raise DataError(missing_column(str(path), column, present))
    table = _parse(path, [column for column in (USER, ITEM, TIME, LABEL) if column in present])
    if not table.num_rows:
        raise DataError(f"{path} must hold interactions, but has only a header")
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    times, labels = columns.get(TIME), columns.get(LABEL)
    result = InteractionTable(str(path), columns[USER], columns[ITEM], times, labels, tuple(present))
    _check_labels(path, result.labels)
    for column, ids in ((USER, result.users), (ITEM, result.items)):
        _check_ids(path, column, ids)
    _check_distinct(path, result)
    return result


def write_interactions(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns of one length as a table that `read_interactions` reads; raises OSError."""
    with path.open("wb") as file:
        # By hand, because Arrow puts column names in quotes.
        file.write(("\t".join(columns) + "\n").encode())
        csv.write_csv(pa.table(dict(columns)), file, csv.WriteOptions(include_header=False, delimiter="\t"))


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be a readable text file, but: {error}") from error
    if not line:
        raise DataError(f"{path} must start with a line of column names, but its first line is empty")
    columns = line.split("\t")
    if len(set(columns)) < len(columns):
        raise DataError(f"{path} must have distinct column names, but has {columns}")
    return columns


def missing_column(source: str, column: str, present: Sequence[str]) -> str:
    """Returns the sentence that a file lacks a column, with the nearest name that it has."""
    nearest = get_close_matches(column, present, n=1, cutoff=0.5)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"{source} must have a tab separated column {column!r}, but its columns are {list(present)}{hint}"


def _parse(path: Path, columns: list[str]) -> pa.Table:
    integers = [column for column in columns if column != TIME]
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(integers, pa.int64())
            ),
        )
    except pa.ArrowInvalid as error:
        raise _not_integers(path, integers, str(error)) from error
    if any(table.column(column).null_count for column in integers):
        raise _not_integers(path, integers, "a cell is empty")
    if TIME in columns:
        _check_times(path, table.column(TIME))
    return table


def _not_integers(path: Path, columns: list[str], reason: str) -> DataError:
    """Returns the error about the first cell that is to blame, or the reason where no single cell is."""
    for column in columns:
        cell = _first_cell(path, column, lambda text: _INTEGER.fullmatch(text) is None)
        if cell is not None:
            return DataError(f"{path}, line {cell[0]}: {column} must be an integer, but is {cell[1]!r}")
    return DataError(f"{path} must be a tab separated table of integers, but: {reason}")


def _check_times(path: Path, times: pa.ChunkedArray) -> None:
    if not times.null_count and (pa.types.is_integer(times.type) or pa.types.is_floating(times.type)):
        return
    cell = _first_cell(path, TIME, lambda text: not _is_number(text))
    if cell is not None:
        raise DataError(f"{path}, line {cell[0]}: {TIME} must be a number, but is {cell[1]!r}")
    raise DataError(f"{path}: {TIME} must be a number in every row, but is read as {times.type}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _first_cell(path: Path, column: str, is_wrong: Callable[[str], bool]) -> tuple[int, str] | None:
    """Returns line (from 1) and text of a column's first wrong cell."""
    position = _header(path).index(column)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\r\n").split("\t")
            if number > 1 and line.strip() and position < len(cells) and is_wrong(cells[position]):
                return number, cells[position]
    return None


def _line_of_row(path: Path, row: int) -> int:
    """Returns the line (from 1) of a data row (from 0); empty lines are no rows."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [number for number, line in enumerate(file, start=1) if line.strip()]
    return lines[row + 1]


def _check_labels(path: Path, labels: np.ndarray | None) -> None:
    if labels is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels > 2))
    if len(wrong):
        line = _line_of_row(path, int(wrong[0]))
        value = labels[wrong[0]]
        raise DataError(f"{path}, line {line}: {LABEL} must be 0 (train), 1 (validation) or 2 (test), but is {value}")


def _check_ids(path: Path, column: str, ids: np.ndarray) -> None:
    negative = np.flatnonzero(ids < 0)
    if len(negative):
        line = _line_of_row(path, int(negative[0]))
        raise DataError(f"{path}, line {line}: {column} must not be negative, but is {ids[negative[0]]}")
    known = np.unique(ids)
    missing = int(known[-1]) + 1 - len(known)
    if missing:
        first = int(np.argmax(known != np.arange(len(known))))
        raise DataError(
            f"{path}: {column} must run from 0 to {known[-1]} without gaps,"
            f" but {missing} ids are missing, the first is {first}"
        )


def _check_distinct(path: Path, table: InteractionTable) -> None:
    keys = table.users * table.num_items + table.items
    order = np.argsort(keys, kind="stable")
    repeated = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(repeated):
        first, second = (_line_of_row(path, int(order[repeated[0] + offset])) for offset in (0, 1))
        user, item = table.users[order[repeated[0]]], table.items[order[repeated[0]]]
        raise DataError(
            f"{path}, line {second}: a pair of user and item must occur once over all splits, "
            f"but user {user} with item {item} is also on line {first}"
        )
