"""Reading line by line: packed or not, with lines that are too long, to the end or not at all."""

import gzip

import pytest

from trainables.data.preparation import lines
from trainables.data.preparation.lines import Skipped, read_lines
from trainables.errors import DataError


@pytest.mark.parametrize("name", ["plain.txt", "packed.gz"])
def test_lines_come_with_their_numbers_and_blank_ones_do_not_come(write_lines, name):
    path = write_lines(name, ["a", "", "  ", "b"])
    assert list(read_lines(path)) == [(1, b"a\n"), (4, b"b\n")]


def test_what_is_packed_is_seen_by_its_bytes_not_by_its_name(tmp_path):
    (tmp_path / "reviews.json").write_bytes(gzip.compress(b"a\nb"))
    (tmp_path / "reviews.json.gz").write_bytes(b"a\nb")
    for name in ("reviews.json", "reviews.json.gz"):
        assert list(read_lines(tmp_path / name)) == [(1, b"a\n"), (2, b"b")]


def test_a_line_above_the_limit_is_none_and_the_next_one_is_whole(write_lines, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 10)
    path = write_lines("long.txt", ["x" * 9, "y" * 10, "z" * 45, "w"])
    assert [content for _, content in read_lines(path)] == [b"x" * 9 + b"\n", None, None, b"w\n"]


def test_a_packed_file_that_breaks_off_is_an_error_with_the_last_line(tmp_path):
    whole = gzip.compress(b"".join(b"%d\n" % each for each in range(100_000)))
    (tmp_path / "half.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.gz must be readable to its end, but after line \d+: Compressed file"):
        list(read_lines(tmp_path / "half.gz"))


def test_a_packed_file_with_a_wrong_byte_is_an_error(tmp_path):
    content = bytearray(gzip.compress(b"".join(b"%d\n" % each for each in range(100_000))))
    content[len(content) // 2] ^= 255
    (tmp_path / "wrong.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"must be readable to its end, but after line"):
        list(read_lines(tmp_path / "wrong.gz"))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.gz must be readable to its end, but after line 0: .*No such file"):
        list(read_lines(tmp_path / "none.gz"))


def test_skipped_lines_are_counted_by_reason_and_the_first_five_are_named():
    skipped = Skipped()
    for line in range(10, 17):
        skipped.add("odd", line)
    skipped.add("even", 3)
    assert skipped.total == 8
    assert skipped.plain() == {
        "odd": {"count": 7, "first_lines": [10, 11, 12, 13, 14]},
        "even": {"count": 1, "first_lines": [3]},
    }
    assert str(skipped) == "odd (7, first in line 10); even (1, first in line 3)"
