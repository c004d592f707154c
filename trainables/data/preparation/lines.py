"""Streaming the lines of a text file, packed by gzip or not, and the account of those that are left out."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from trainables.errors import DataError

LONGEST_LINE = 16 * 2**20
"""Bytes; a longer line is no review, and reading it whole could take all memory."""
_NAMED_LINES = 5
_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER_BYTES = 2**20


class Skipped:
    """Lines that were left out: how many for each reason, and the numbers (from 1) of the first few."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[int]] = {}

    def add(self, reason: str, line: int) -> None:
        """Counts one line that was left out."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        first = self._first.setdefault(reason, [])
        if len(first) < _NAMED_LINES:
            first.append(line)

    @property
    def total(self) -> int:
        """How many lines were left out."""
        return sum(self._counts.values())

    def plain(self) -> dict[str, dict[str, object]]:
        """Returns reason -> {"count", "first_lines"} as plain JSON values."""
        return {
            reason: {"count": count, "first_lines": list(self._first[reason])} for reason, count in self._counts.items()
        }

    def __str__(self) -> str:
        reasons = [
            f"{reason} ({count}, first in line {self._first[reason][0]})" for reason, count in self._counts.items()
        ]
        return "; ".join(reasons) or "it has none"


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yields the number (from 1) and the bytes of every line that is not blank; None for one above `LONGEST_LINE`.

    One line is in memory at a time. Whether a file is packed is seen by its first bytes, not by its name.

    Raises:
        DataError: the file cannot be read to its end, such as a download that broke off.
    """
    number = 0
    try:
        with open_packed(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    _pass_over_rest(file, line)
                    yield number, None
                elif not line.isspace():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be readable to its end, but after line {number}: {error}") from error


def open_packed(path: Path) -> io.BufferedReader:
    """Opens a file for reading its bytes, unpacked where it is packed by gzip; raises OSError."""
    with path.open("rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    # A buffer of our own, because each line out of a GzipFile passes through Python code.
    raw = cast(io.RawIOBase, gzip.GzipFile(path)) if packed else io.FileIO(path)
    return io.BufferedReader(raw, _BUFFER_BYTES)


def _pass_over_rest(file: io.BufferedReader, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(LONGEST_LINE)
