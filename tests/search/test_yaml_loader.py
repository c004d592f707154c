"""YAML 1.2's core schema, and what is refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import SpecError
from search.yaml_loader import MAX_BYTES, parse_scalar, parse_value, read

# What YAML 1.1 (PyYAML's own loader) reads differently, and the plain cases beside it.
SCALARS = [
    ("1e-4", 1e-4),
    ("1.0e-4", 1e-4),
    ("1E5", 1e5),
    (".5", 0.5),
    ("1.", 1.0),
    ("-.5", -0.5),
    ("+1", 1),
    ("-12", -12),
    ("017", 17),
    ("08", 8),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("12:30:45", "12:30:45"),
    ("190:20", "190:20"),
    ("2024-01-01", "2024-01-01"),
    ("no", "no"),
    ("No", "No"),
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("TRUE", True),
    ("tRue", "tRue"),
    ("null", None),
    ("~", None),
    ("", None),
    ("nil", "nil"),
    ("nan", "nan"),
    ("inf", "inf"),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("<<", "<<"),
    ("=", "="),
    ("e5", "e5"),
    ("1e", "1e"),
    (".", "."),
    ("0.1.2", "0.1.2"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_plain_scalar_is_read_by_the_core_schema(text, value):
    result = read(f"key: {text}", "sweep.yaml")
    assert result == {"key": value}
    assert type(result["key"]) is type(value)


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_scalar_on_its_own_is_read_like_one_in_a_file(text, value):
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


def test_not_a_number_is_read_as_one():
    assert math.isnan(read("key: .nan", "sweep.yaml")["key"])
    assert math.isnan(parse_scalar(".NaN"))


@pytest.mark.parametrize("text", ["'1e-4'", '"1e-4"', "!!str 1e-4", "|-\n  1e-4"])
def test_what_is_quoted_or_tagged_as_text_stays_text(text):
    assert read(f"key: {text}", "sweep.yaml") == {"key": "1e-4"}


def test_an_explicit_number_tag_converts():
    assert read("key: !!float 3", "sweep.yaml") == {"key": 3.0}


def test_lists_and_mappings_nest():
    text = "a: [1, {b: no}]\nc:\n  - d: 1e-3\n"
    assert read(text, "sweep.yaml") == {"a": [1, {"b": "no"}], "c": [{"d": 1e-3}]}


def test_an_empty_document_is_null():
    assert read("# nothing\n", "sweep.yaml") is None


def test_a_merge_key_is_a_key_like_any_other():
    assert read("<<: {a: 1}", "sweep.yaml") == {"<<": {"a": 1}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "a: 1\nb: 2\na: 3",
            "sweep.yaml, line 3, column 1: a key must stand only once in a mapping, but 'a' is repeated",
        ),
        (
            "a: {b: 1, b: 1}",
            "sweep.yaml, line 1, column 11: a key must stand only once in a mapping, but 'b' is repeated",
        ),
        ("a: &x [1]\nb: *x", "sweep.yaml, line 1, column 4: must not be repeated by an alias"),
        ("a: &x [*x]", "sweep.yaml, line 1, column 4: must not be repeated by an alias"),
        ("1: 2", "sweep.yaml, line 1, column 1: a key must be text, but got 1"),
        ("true: 2", "sweep.yaml, line 1, column 1: a key must be text, but got True"),
        ("? [1]\n: 2", "sweep.yaml, line 1, column 3: a key must be text, but got [1]"),
        (
            "a: !!python/object/apply:os.getcwd []",
            "sweep.yaml, line 1, column 4: must be text, a number, true, false, null, a list or a mapping, "
            "but has the tag tag:yaml.org,2002:python/object/apply:os.getcwd",
        ),
        (
            "a: !secret x",
            "sweep.yaml, line 1, column 4: must be text, a number, true, false, null, a list or a mapping, "
            "but has the tag !secret",
        ),
        ("a: !!int twelve", "sweep.yaml, line 1, column 4: must be of the type int, but got 'twelve'"),
        ("a: !!bool yes", "sweep.yaml, line 1, column 4: must be of the type bool, but got 'yes'"),
        (
            f"a: {'9' * 5000}",
            "sweep.yaml, line 1, column 4: a whole number must be of reasonable length, but has 5000 digits",
        ),
        ("[1, 2", "sweep.yaml, line 1, column 6: must be valid YAML, but expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "sweep.yaml, line 2, column 1: must be valid YAML, but found another document"),
        ("a: *x", "sweep.yaml, line 1, column 4: must be valid YAML, but found undefined alias 'x'"),
        (
            "a: \x01",
            "sweep.yaml: must be valid YAML, but unacceptable character #x0001: special characters are not allowed",
        ),
        ("[" * 10_000, "sweep.yaml: must not be nested this deeply"),
        ("x" * (MAX_BYTES + 1), f"sweep.yaml: must be at most {MAX_BYTES} bytes long, but has {MAX_BYTES + 1}"),
    ],
    ids=lambda value: value[:30],
)
def test_what_a_sweep_file_may_not_have_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(SpecError) as caught:
        read(text, "sweep.yaml")
    assert str(caught.value) == sentence


def test_a_value_may_be_a_list_or_a_mapping():
    assert parse_value("[vbpr, 1e-4, no]", "override") == ["vbpr", 1e-4, "no"]
    assert parse_value("{kind: float, low: 1e-4}", "override") == {"kind": "float", "low": 1e-4}


def test_a_number_too_long_for_python_stays_text_on_its_own():
    assert parse_scalar("9" * 5000) == "9" * 5000


# PyYAML does not join JSON's escaped surrogate pairs, so the text is ASCII.
ASCII = st.text(st.characters(codec="ascii"), max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ASCII,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ASCII, inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_every_json_document_is_read_as_what_it_is(value):
    assert read(json.dumps(value), "document") == value


@given(st.text(max_size=20))
def test_a_scalar_never_fails(text):
    assert isinstance(parse_scalar(text), str | int | float | bool | None)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_our_own_error(text):
    try:
        read(text, "sweep.yaml")
    except SpecError as error:
        assert str(error).startswith("sweep.yaml")
