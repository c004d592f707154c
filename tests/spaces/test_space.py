"""The search space: composition, checks and the grid."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.errors import SpaceError
from spaces.params import Choice, Fixed, Float, Int
from spaces.space import SearchSpace

RHO = Float(low=0.01, high=2.0, log=True)
SPACE = SearchSpace({"update.rho": RHO, "update.beta": Int(low=1, high=3), "model.dropout": Choice(values=(0.8, 0.9))})
FINITE = SearchSpace({"a": Choice(values=("x", "y")), "b": Int(low=1, high=3), "c": Fixed(value=0)})

PARAMETERS = st.one_of(
    st.builds(lambda low, width: Int(low=low, high=low + width), st.integers(-9, 9), st.integers(1, 4)),
    st.builds(lambda values: Choice(values=tuple(values)), st.lists(st.integers(0, 9), min_size=1, unique=True)),
    st.builds(lambda value: Fixed(value=value), st.integers(0, 9)),
)
FINITE_SPACES = st.dictionaries(st.sampled_from("abcd"), PARAMETERS, max_size=4).map(SearchSpace)


def test_a_space_is_not_changed_by_changing_the_mapping_it_was_made_from():
    parameters = {"a": Fixed(value=1)}
    space = SearchSpace(parameters)
    parameters["b"] = Fixed(value=2)
    assert list(space.parameters) == ["a"]


def test_a_union_holds_both_spaces_in_order():
    assert list(SearchSpace({"b": RHO}).union(SearchSpace({"a": RHO})).parameters) == ["b", "a"]


def test_a_union_of_spaces_that_share_a_name_is_refused():
    with pytest.raises(SpaceError, match=r"must have no parameter in common, but both have update\.rho$"):
        SPACE.union(SearchSpace({"update.rho": RHO}))


def test_narrowing_replaces_the_range_and_keeps_the_order():
    narrowed = SPACE.narrow({"update.rho": Float(low=0.1, high=1.0)})
    assert narrowed.parameters["update.rho"] == Float(low=0.1, high=1.0)
    assert list(narrowed.parameters) == list(SPACE.parameters)


def test_narrowing_to_a_wider_range_is_refused():
    sentence = r"^update\.rho: a narrower range must lie inside 0\.01 to 2 \(log\), but got 0\.1 to 3$"
    with pytest.raises(SpaceError, match=sentence):
        SPACE.narrow({"update.rho": Float(low=0.1, high=3.0)})


def test_narrowing_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(
        SpaceError, match=r"'update\.roh' must be a parameter of the space .*; did you mean 'update\.rho'\?"
    ):
        SPACE.narrow({"update.roh": RHO})


def test_fixing_leaves_one_value_even_outside_the_range():
    fixed = SPACE.fix({"update.rho": 0})
    assert fixed.parameters["update.rho"] == Fixed(value=0)
    assert fixed.tuned() == ("update.beta", "model.dropout")


def test_fixing_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(SpaceError, match=r"did you mean 'model\.dropout'\?"):
        SPACE.fix({"model.dropuot": 0.1})


def test_what_is_tuned_has_more_than_one_value():
    space = SearchSpace({"a": RHO, "b": Fixed(value=1), "c": Choice(values=(1,)), "d": Choice(values=(1, 2))})
    assert space.tuned() == ("a", "d")


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        ({"update.rho": 0.1, "update.beta": 1}, r"^model\.dropout must be given, but the point has only update\.rho, "),
        ({}, r"^update\.rho must be given, but the point has only no values$"),
        (
            {"update.rho": 3.0, "update.beta": 1, "model.dropout": 0.8},
            r"^update\.rho must be in the range 0\.01 to 2 \(log\), but got 3\.0$",
        ),
        (
            {"update.rho": 0.1, "update.beta": 1.0, "model.dropout": 0.8},
            r"^update\.beta must be in the range whole numbers 1 to 3, but got 1\.0$",
        ),
        ({"update.rho": 0.1, "update.bta": 1, "model.dropout": 0.8}, r"did you mean 'update\.beta'\?$"),
    ],
)
def test_a_point_outside_the_space_is_refused(point, sentence):
    with pytest.raises(SpaceError, match=sentence):
        SPACE.check(point)


def test_the_grid_varies_the_last_parameter_fastest():
    assert [tuple(point.values()) for point in FINITE.grid()] == [
        ("x", 1, 0),
        ("x", 2, 0),
        ("x", 3, 0),
        ("y", 1, 0),
        ("y", 2, 0),
        ("y", 3, 0),
    ]


def test_the_grid_of_an_empty_space_is_one_empty_point():
    assert SearchSpace().grid() == ({},)
    assert SearchSpace().size() == 1


def test_the_grid_of_a_continuous_space_is_refused():
    assert SPACE.size() is None
    assert SPACE.continuous() == ("update.rho",)
    with pytest.raises(SpaceError, match=r"finitely many values, but update\.rho is continuous$"):
        SPACE.grid()


def test_a_point_of_a_huge_grid_is_found_without_building_it():
    huge = SearchSpace({"a": Int(low=1, high=10**12), "b": Choice(values=(0, 1))})
    assert huge.point(2 * 10**12 - 1) == {"a": 10**12, "b": 1}


@pytest.mark.parametrize("index", [-1, 6])
def test_a_point_beyond_the_grid_is_refused(index):
    with pytest.raises(SpaceError, match=rf"must be in 0\.\.5, but got {index}$"):
        FINITE.point(index)


@given(FINITE_SPACES)
def test_the_grid_is_the_product_of_the_parameters_grids(space):
    expected = [
        dict(zip(space.parameters, values, strict=True))
        for values in itertools.product(*(parameter.grid() for parameter in space.parameters.values()))
    ]
    assert list(space.grid()) == expected
    assert space.size() == len(expected) == math.prod(len(p.grid()) for p in space.parameters.values())
    for point in expected:
        space.check(point)
