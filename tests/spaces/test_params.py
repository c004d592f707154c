"""The four kinds of parameters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from spaces.errors import SpaceError
from spaces.params import Choice, Fixed, Float, Int, Parameter, covers

PARAMETER = TypeAdapter(Parameter)


class Scripted:
    """A suggester that answers with what it was given, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def suggest_float(self, name, low, high, *, log=False):
        self.asked.append((name, low, high, log))
        return self.answer

    def suggest_int(self, name, low, high, *, log=False):
        self.asked.append((name, low, high, log))
        return self.answer

    def suggest_categorical(self, name, choices):
        self.asked.append((name, tuple(choices)))
        return self.answer


def test_a_float_asks_for_its_own_range():
    suggester = Scripted(0.5)
    assert Float(low=0.1, high=1.0, log=True).suggest("update.rho", suggester) == 0.5
    assert suggester.asked == [("update.rho", 0.1, 1.0, True)]


def test_an_int_asks_for_its_own_range():
    suggester = Scripted(3)
    assert Int(low=1, high=8).suggest("update.beta", suggester) == 3
    assert suggester.asked == [("update.beta", 1, 8, False)]


def test_a_choice_asks_for_its_own_values():
    suggester = Scripted("js")
    assert Choice(values=("js", "none")).suggest("objective.distill", suggester) == "js"
    assert suggester.asked == [("objective.distill", ("js", "none"))]


@pytest.mark.parametrize("answer", ["released", None, True])
def test_a_choice_refuses_an_answer_that_is_not_one_of_its_values(answer):
    with pytest.raises(SpaceError, match=r"x must be one of js, 1, but the suggester picked"):
        Choice(values=("js", 1)).suggest("x", Scripted(answer))


def test_a_fixed_value_asks_nobody():
    suggester = Scripted(None)
    assert Fixed(value=3).suggest("x", suggester) == 3
    assert suggester.asked == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "float", "low": 2, "high": 1}, "`low < high` must hold, but got low=2.0, high=1.0"),
        ({"kind": "float", "low": 1, "high": 1}, "`low < high` must hold, but got low=1.0, high=1.0"),
        (
            {"kind": "float", "low": 0, "high": 1, "log": True},
            "`low > 0` must hold where `log` is true, but got low=0.0",
        ),
        ({"kind": "int", "low": 3, "high": 3}, "`low < high` must hold, but got low=3, high=3"),
        ({"kind": "int", "low": 0, "high": 3, "log": True}, "`low >= 1` must hold where `log` is true, but got low=0"),
        ({"kind": "choice", "values": []}, "at least 1 item"),
        ({"kind": "choice", "values": [1, 2, 1]}, "values must be distinct, but got"),
        ({"kind": "choice", "values": [1, True]}, "values must be distinct, but got"),
        ({"kind": "choice", "values": [[1]]}, "should be a valid"),
        ({"kind": "float", "low": 0, "high": math.inf}, "finite"),
        ({"kind": "fixed", "value": math.nan}, "finite"),
        ({"kind": "fixed", "value": None}, "should be a valid"),
        ({"kind": "float", "low": "0", "high": 1}, "valid number"),
        ({"kind": "float", "low": False, "high": 1}, "valid number"),
        ({"kind": "int", "low": 1.0, "high": 2}, "valid integer"),
        ({"kind": "float", "low": 0, "high": 1, "step": 0.1}, "Extra inputs"),
        ({"kind": "uniform", "low": 0, "high": 1}, "does not match any of the expected tags"),
    ],
)
def test_an_ill_formed_parameter_is_refused(fields, sentence):
    with pytest.raises(ValidationError) as caught:
        PARAMETER.validate_python(fields)
    assert sentence in str(caught.value)


def test_values_keep_their_types():
    values = PARAMETER.validate_python({"kind": "choice", "values": [1, 2.5, "no", False]}).values
    assert [type(value) for value in values] == [int, float, str, bool]


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Float(low=0.0, high=1.0), [0, 0.0, 0.5, 1, 1.0], [-1e-9, 1.0000001, True, "0.5", math.nan]),
        (Int(low=1, high=3), [1, 2, 3], [0, 4, 2.0, True, "2"]),
        (Choice(values=(1, 0.5, "js")), [1, 1.0, 0.5, "js"], [True, 2, "JS"]),
        (Choice(values=(True, "a")), [True], [1, 1.0, False]),
        (Fixed(value=2.0), [2.0, 2], [2.1, "2"]),
    ],
)
def test_contains_says_yes_inside_and_no_outside(parameter, inside, outside):
    assert [parameter.contains(value) for value in inside] == [True] * len(inside)
    assert [parameter.contains(value) for value in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("parameter", "grid"),
    [
        (Float(low=0, high=1), None),
        (Int(low=2, high=5), (2, 3, 4, 5)),
        (Choice(values=(3, 1, 2)), (3, 1, 2)),
        (Fixed(value="js"), ("js",)),
    ],
)
def test_size_is_the_length_of_the_grid(parameter, grid):
    assert parameter.grid() == grid
    assert parameter.size() == (None if grid is None else len(grid))


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        (Float(low=0, high=1), Float(low=0.1, high=1, log=True), True),
        (Float(low=0, high=1), Float(low=0, high=1.1), False),
        (Float(low=0, high=5), Int(low=1, high=5), True),
        (Float(low=0, high=1), Choice(values=(0, 0.5)), True),
        (Float(low=0, high=1), Choice(values=(0, 2)), False),
        (Int(low=1, high=4), Int(low=2, high=4), True),
        (Int(low=1, high=4), Int(low=2, high=10**12), False),
        (Int(low=1, high=4), Float(low=1, high=4), False),
        (Choice(values=(1, 2, 3)), Int(low=1, high=3), True),
        (Choice(values=(1, 3)), Int(low=1, high=10**12), False),
        (Choice(values=(1, 2)), Fixed(value=2), True),
        (Fixed(value=2), Choice(values=(2,)), True),
        (Fixed(value=2), Choice(values=(2, 3)), False),
        (Choice(values=(1, 2)), Float(low=1, high=2), False),
    ],
)
def test_covers_means_that_every_value_of_the_inner_is_one_of_the_outer(outer, inner, covered):
    assert covers(outer, inner) is covered


@given(st.integers(-50, 50), st.integers(1, 20))
def test_an_ints_grid_is_exactly_what_it_contains(low, width):
    parameter = Int(low=low, high=low + width)
    assert [value for value in range(low - 5, low + width + 6) if parameter.contains(value)] == list(parameter.grid())


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (Float(low=1e-4, high=1e-2, log=True), "0.0001 to 0.01 (log)"),
        (Int(low=1, high=8), "whole numbers 1 to 8"),
        (Choice(values=(0.1, "js")), "one of 0.1, js"),
        (Fixed(value=3), "fixed at 3"),
    ],
)
def test_a_parameter_describes_itself_in_words(parameter, words):
    assert parameter.describe() == words
