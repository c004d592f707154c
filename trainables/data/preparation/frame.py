"""Tables of interactions in CSV, TSV or Parquet files, whatever their columns are called."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from trainables.data.preparation.lines import Skipped
from trainables.data.preparation.raw import Collector, RawInteractions
from trainables.data.preparation.source import ItemTexts
from trainables.data.preparation.texts import join_text
from trainables.errors import DataError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class TableFile:
    """A table with a row an interaction, by the names of its columns.

    Attributes:
        rating, time: None where the table has none. A time is a number (seconds) or a moment.
        text: columns that make up an item's text, in this order; () for no texts.
        items: a table with a row an item, in which `text` and `item` are looked up; None for `table` itself.
    """

    table: Path
    user: str
    item: str
    rating: str | None = None
    time: str | None = None
    text: tuple[str, ...] = ()
    items: Path | None = None
    kind: str = "frame"
    item_column: str = "item_id"

    def inputs(self) -> Mapping[str, Path]:
        """Returns the files by role."""
        return {"table": self.table} | ({"items": self.items} if self.items else {})

    def settings(self) -> Mapping[str, object]:
        """Returns the names of the columns."""
        return {name: getattr(self, name) for name in ("user", "item", "rating", "time")} | {"text": list(self.text)}

    def interactions(self) -> RawInteractions:
        """Returns the rows of the table.

        Raises:
            DataError: the table cannot be read, lacks a column or has no sound row.
        """
        rows = Collector(rated=self.rating is not None, timed=self.time is not None)
        wanted = [self.user, self.item, *(each for each in (self.rating, self.time) if each)]
        for first, batch in _batches(self.table, wanted, rows.skipped):
            users, items = _texts(batch[self.user]), _texts(batch[self.item])
            ratings = _numbers(batch[self.rating]) if self.rating else [0.0] * len(users)
            times = _seconds(batch[self.time]) if self.time else [0.0] * len(users)
            for offset, row in enumerate(zip(users, items, ratings, times, strict=True)):
                rows.add(first + offset, *row)
        result = rows.collected()
        if not len(result.users):
            raise DataError(f"{self.table} must hold interactions, but none of its rows is sound: {rows.skipped}")
        return result

    def texts(self, positions: Mapping[str, int]) -> ItemTexts | None:
        """Returns the texts of the given items by their first row, None where no column is text; raises DataError."""
        if not self.text:
            return None
        texts, skipped, count = [""] * len(positions), Skipped(), 0
        for _, batch in _batches(self.items or self.table, [self.item, *self.text], skipped):
            count += batch.num_rows
            ids = _texts(batch[self.item])
            columns = [batch[name].to_pylist() for name in self.text]
            for row, name in enumerate(ids):
                position = None if name is None else positions.get(name)
                if position is not None and not texts[position]:
                    texts[position] = join_text(column[row] for column in columns)
        return ItemTexts(texts, count, skipped.plain())


def _batches(path: Path, columns: Sequence[str], skipped: Skipped) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields blocks of the columns, each with the number of its first row (from 1, without a header)."""
    try:
        opened = _open_parquet(path, columns) if path.suffix == ".parquet" else _open_csv(path, columns, skipped)
        first = 1
        for batch in opened:
            yield first, batch
            first += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} must be a readable table, but: {str(error).splitlines()[0]}") from error


def _open_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(path) as file:
        _check_columns(path, columns, file.schema_arrow.names)
        yield from file.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(columns)))


def _open_csv(path: Path, columns: Sequence[str], skipped: Skipped) -> Iterator[pa.RecordBatch]:
    separator = next((_SEPARATORS[suffix] for suffix in path.suffixes if suffix in _SEPARATORS), None)
    if separator is None:
        raise DataError(f"{path} must be named .csv, .tsv (or with .gz behind it) or .parquet")

    with pa.input_stream(str(path), compression="detect") as stream:
        _check_columns(path, columns, csv.open_csv(stream, parse_options=_parsing(separator, Skipped())).schema.names)
    # All as text, because a type that is guessed from the first rows need not fit the last.
    converting = csv.ConvertOptions(
        include_columns=list(dict.fromkeys(columns)),
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    with pa.input_stream(str(path), compression="detect") as stream:
        reading = csv.ReadOptions(use_threads=False)
        parsing = _parsing(separator, skipped)
        yield from csv.open_csv(stream, read_options=reading, parse_options=parsing, convert_options=converting)


def _parsing(separator: str, skipped: Skipped) -> csv.ParseOptions:
    def pass_over(row: csv.InvalidRow) -> str:
        skipped.add("as many cells as columns must be there", row.number or 0)
        return "skip"

    return csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=pass_over)


def _check_columns(path: Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    for name in wanted:
        if name not in present:
            nearest = get_close_matches(name, present, n=1, cutoff=0.5)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise DataError(f"{path} must have a column {name!r}, but its columns are {list(present)}{hint}")


def _texts(column: pa.Array) -> list[str | None]:
    """Ids as text; whole numbers as they are written."""
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _numbers(column: pa.Array) -> list[float]:
    numbers: list[float] = pd.to_numeric(column.to_pandas(), errors="coerce").astype("float64").tolist()
    return numbers


def _seconds(column: pa.Array) -> list[float]:
    """Seconds since 1970 of numbers as they are, of moments (without a zone: in UTC) as they say."""
    values = column.to_pandas()
    if not pa.types.is_temporal(column.type):
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        if numbers.notna().any() or not len(numbers):
            return list(numbers)
    moments = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    # By way of whole microseconds, because pandas' own quotient makes fractions of whole seconds.
    return list((moments - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(microseconds=1) / 1e6)
