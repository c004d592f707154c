"""Small files in the layouts in which others publish data sets, written by the tests themselves."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from published_files import Row, random_rows, review_2014


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a file, packed where its name ends in .gz."""

    def write(name: str, lines: Sequence[str | bytes]) -> Path:
        path = tmp_path / name
        content = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture
def rows() -> list[Row]:
    return random_rows()


@pytest.fixture
def reviews(write_lines: Callable[..., Path], rows: list[Row]) -> Path:
    """The rows as reviews of 2014."""
    return write_lines("reviews.json.gz", [review_2014(row) for row in rows])
