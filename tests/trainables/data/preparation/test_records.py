"""Records: JSON, Python literals, and lines that are neither; nothing is executed."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.preparation.records import parse_record

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_an_object_is_read_alike_from_json_and_from_its_python_literal(record):
    assert parse_record(json.dumps(record).encode()) == record
    assert parse_record(f"{record!r}\n".encode(errors="surrogatepass")) in (record, None)
    assert parse_record(ascii(record).encode()) == record


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[1, 2]",
        b'"text"',
        b"{'asin': ",
        b'{"asin": "B1", }x',
        b"\xff\xfe{}",
        b"{'asin': __import__('os')}",
        b"{'asin': open('x')}",
        b"{1, 2}",
        b"{'a': [1] * 9}",
        b"{" * 100_000,
        b'{"a": ' + b"[" * 100_000,
        b"{'a': " + b"-" * 10_000 + b"1}",
        b"{[]: 1}",
        b"null",
    ],
)
def test_a_line_that_is_no_object_is_none(line):
    assert parse_record(line) is None


def test_a_call_in_a_literal_is_not_executed(tmp_path):
    trace = tmp_path / "trace"
    assert parse_record(f"{{'a': open({str(trace)!r}, 'w')}}".encode()) is None
    assert not trace.exists()


def test_a_number_with_too_many_digits_is_no_error():
    digits = "1" * (sys.get_int_max_str_digits() + 1)
    assert parse_record(f'{{"a": {digits}}}'.encode()) is None


def test_unknown_escapes_in_a_literal_are_no_warning():
    assert parse_record(rb"{'title': 'C:\data \/ \m'}") == {"title": r"C:\data \/ \m"}
