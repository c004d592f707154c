"""A query's result in the formats of `recsweep query`: for people, for spreadsheets, for programs."""

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import IO, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
import rich.box
import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from search.errors import QueryError
from search.schema import nearest

_UNWRAPPED = 100_000  # columns of a page that is not a terminal
_MARKDOWN_ESCAPES = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;"})


def write_result(table: pa.Table, format: str, out: IO[bytes]) -> None:
    """Writes a result in one of `FORMATS`, texts as UTF-8; QueryError for another name or a type the format lacks."""
    if format not in FORMATS:
        raise QueryError(f"there is no output format `{format}`{nearest(format, FORMATS)}")
    try:
        FORMATS[format](table, out)
    except pa.ArrowException as error:
        raise QueryError(f"the result cannot be written as {format}: {error}") from error


@contextmanager
def _text(out: IO[bytes]) -> Iterator[TextIO]:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        yield text
    finally:
        text.detach()


def _rows(table: pa.Table) -> Iterator[tuple[object, ...]]:
    for batch in table.to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write_table(table: pa.Table, out: IO[bytes]) -> None:
    """Columns side by side; where a terminal is too narrow even for the longest words, one block per row."""
    names = [_printable(name) for name in table.column_names]
    rows = [[_printable(_shown(value)) for value in row] for row in _rows(table)]
    grid = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name, kind in zip(names, table.schema.types, strict=True):
        grid.add_column(name, justify="right" if _is_number(kind) else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    with _text(out) as text:
        console = Console(file=text, highlight=False, width=None if text.isatty() else _UNWRAPPED)
        fits = Measurement.get(console, console.options.update(max_width=_UNWRAPPED), grid).minimum <= console.width
        for part in [grid] if fits else [_block(names, row) for row in rows]:
            console.print(part)
        console.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _block(names: Sequence[Text], row: Sequence[Text]) -> rich.table.Table:
    block = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_header=False)
    for name, cell in zip(names, row, strict=True):
        block.add_row(name, cell)
    return block


def _write_markdown(table: pa.Table, out: IO[bytes]) -> None:
    rule = ["---:" if _is_number(kind) else "---" for kind in table.schema.types]
    rows = ([_shown(value) for value in row] for row in _rows(table))
    with _text(out) as text:
        text.writelines(_markdown_row(cells) for cells in itertools.chain([table.column_names, rule], rows))


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.translate(_MARKDOWN_ESCAPES).replace("\r\n", "\n").replace("\n", "<br>") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _write_csv(table: pa.Table, out: IO[bytes]) -> None:
    rows = ([_exact(value) for value in row] for row in _rows(table))
    with _text(out) as text:
        text.writelines(_csv_line(cells) for cells in itertools.chain([table.column_names], rows))


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)  # it quotes CR and LF in a cell only where it ends lines with both
    return line.getvalue().removesuffix("\r\n") + "\n"


def _write_json(table: pa.Table, out: IO[bytes]) -> None:
    with _text(out) as text:
        text.write("[" + ",\n ".join(_json_rows(table)) + "]\n")


def _write_jsonl(table: pa.Table, out: IO[bytes]) -> None:
    with _text(out) as text:
        text.writelines(f"{line}\n" for line in _json_rows(table))


def _json_rows(table: pa.Table) -> Iterator[str]:
    for row in _rows(table):
        plain = {name: _plain(value) for name, value in zip(table.column_names, row, strict=True)}
        yield json.dumps(plain, ensure_ascii=False, allow_nan=False)


FORMATS: Mapping[str, Callable[[pa.Table, IO[bytes]], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "markdown": _write_markdown,
    "parquet": pq.write_table,
}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _plain(value: object) -> object:
    """The value in JSON's terms: floats exact and null where not finite, times in ISO 8601, bytes in hex."""
    plain = value
    match value:
        case float():
            plain = value if math.isfinite(value) else None
        case Decimal():
            plain = int(value) if value == value.to_integral_value() else float(value)
        case date() | time():
            plain = value.isoformat()
        case pa.MonthDayNano():
            plain = f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9}S"
        case bytes():
            plain = value.hex()
        case dict():
            plain = {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            plain = [_plain(each) for each in value]
    return plain


def _exact(value: object) -> str:
    """The value as text without loss; null is the empty text."""
    plain = value if isinstance(value, float) else _plain(value)
    if plain is None or isinstance(plain, str):
        return plain or ""
    return repr(plain) if isinstance(plain, float) else json.dumps(plain, ensure_ascii=False)


def _shown(value: object) -> str:
    """The value for people: six significant digits, times to the second."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else _exact(value)


def _printable(text: str) -> Text:
    """The text for a terminal: no markup, and no control characters, which a trial's error message may hold."""
    return Text("".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text))
