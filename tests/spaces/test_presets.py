"""The published grids, as the papers print them, and the ranges that contain them."""

import pytest

from spaces.errors import SpaceError
from spaces.models import MODELS
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.params import Float
from spaces.presets import PRESETS, REGISTRIES, find_row, preset_space
from spaces.row import Row
from spaces.updates import UPDATES

ROWS = [
    pytest.param(group, name, row, id=f"{group}-{name}")
    for group, rows in REGISTRIES.items()
    for name, row in rows.items()
]

# The one published value that no logarithmic range can hold; see the docstring of spaces/models.py.
NOT_IN_EXTENDED = {("freedom", "model.reg_weight", 0.0)}

# strategies.md §11.1 and models.md §15.
PUBLISHED_GRIDS = {
    ("model", "lightgcn"): {
        "model.num_layers": (1, 2, 3, 4),
        "model.reg_weight": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    },
    ("model", "vbpr"): {"model.reg_weight": (2, 1, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)},
    ("model", "bm3"): {"model.num_layers": (1, 2), "model.dropout": (0.3, 0.5), "model.reg_weight": (0.1, 0.01)},
    ("model", "freedom"): {"model.dropout": (0.8, 0.9), "model.reg_weight": (0, 1e-5, 1e-4, 1e-3)},
    ("objective", "plain"): {},
    ("objective", "dvib_c"): {
        "objective.gamma_0": (1,),
        "objective.gamma_d": (0.5, 0.1, 0.01),
        "objective.sigma": (1e-3, 5e-4, 1e-4),
    },
    ("objective", "dvib_a"): {
        "objective.gamma_0": (1,),
        "objective.gamma_d": (0.5, 0.1, 0.01),
        "objective.gamma_r": (1e-3,),
        "objective.prior_std": (0.5,),
    },
    ("update", "descent"): {},
    ("update", "mirror_gradient"): {
        "update.alpha1": (1,),
        "update.alpha2_ratio": (0.1, 0.2, 0.3),
        "update.beta": (3,),
    },
    ("update", "sam"): {"update.rho": (0.05, 0.10, 0.15, 0.20)},
    ("update", "sam_plus"): {"update.rho": (0.05, 0.10, 0.15, 0.20), "update.kappa": (0.2, 0.4, 0.6, 0.8)},
    ("update", "bsam"): {"update.rho": (0.05, 0.10, 0.15, 0.20), "update.ema_decay": (0.2, 0.4, 0.6, 0.8)},
    ("update", "bsam_plus"): {
        "update.rho": (0.05, 0.10, 0.15, 0.20),
        "update.ema_decay": (0.2, 0.4, 0.6, 0.8),
        "update.kappa": (0.2, 0.4, 0.6, 0.8),
    },
    ("optimizer", "adam"): {"optimizer.learning_rate": (1e-3,)},
    ("optimizer", "sgd"): {"optimizer.learning_rate": (1e-2,)},
}

# strategies.md §14.6: (low, high, log).
EXTENDED_RANGES = {
    ("update", "sam"): {"update.rho": (0.01, 2, True)},
    ("update", "bsam_plus"): {
        "update.rho": (0.01, 2, True),
        "update.ema_decay": (0, 0.95, False),
        "update.kappa": (0.2, 1, False),
    },
    ("update", "mirror_gradient"): {"update.alpha2_ratio": (0, 0.9, False), "update.beta": (1, 8, False)},
    ("objective", "dvib_c"): {"objective.gamma_d": (1e-3, 0.5, True), "objective.sigma": (1e-4, 0.3, True)},
    ("objective", "dvib_a"): {
        "objective.gamma_d": (1e-3, 0.5, True),
        "objective.gamma_r": (1e-4, 1, True),
        "objective.prior_std": (0.3, 1, False),
    },
    ("optimizer", "adam"): {"optimizer.learning_rate": (1e-4, 1e-2, True)},
}


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_the_paper_preset_is_exactly_the_published_grid(group, name, row):
    assert {key: parameter.grid() for key, parameter in row.paper.parameters.items()} == PUBLISHED_GRIDS[group, name]


@pytest.mark.parametrize(
    ("registry", "name", "points"),
    [
        (MODELS, "vbpr", 7),
        (MODELS, "lightgcn", 20),
        (MODELS, "bm3", 8),
        (MODELS, "freedom", 8),
        (UPDATES, "descent", 1),
        (UPDATES, "mirror_gradient", 3),
        (UPDATES, "sam", 4),
        (UPDATES, "sam_plus", 16),
        (UPDATES, "bsam", 16),
        (UPDATES, "bsam_plus", 64),
        (OBJECTIVES, "dvib_c", 9),
        (OBJECTIVES, "dvib_a", 3),
        (OPTIMIZERS, "adam", 1),
    ],
)
def test_the_published_grids_have_the_published_number_of_points(registry, name, points):
    assert registry[name].paper.size() == points


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_extended_contains_every_paper_value(group, name, row):
    missing = {
        (name, key, value)
        for key, parameter in row.paper.parameters.items()
        for value in parameter.grid()
        if not row.extended.parameters[key].contains(value)
    }
    assert missing == {exception for exception in NOT_IN_EXTENDED if exception[0] == name and group == "model"}


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_extended_searches_what_paper_names_and_nothing_else(group, name, row):
    assert list(row.extended.parameters) == list(row.paper.parameters)


@pytest.mark.parametrize(("cell", "ranges"), EXTENDED_RANGES.items(), ids=str)
def test_extended_ranges_are_those_of_the_specification(cell, ranges):
    parameters = REGISTRIES[cell[0]][cell[1]].extended.parameters
    assert {key: (parameters[key].low, parameters[key].high, parameters[key].log) for key in ranges} == ranges


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_every_default_lies_in_its_extended_range(group, name, row):
    for key, parameter in row.extended.parameters.items():
        assert parameter.contains(row.defaults[key.removeprefix(f"{group}.")])


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_every_row_says_what_it_is_and_where_its_grid_comes_from(group, name, row):
    assert row.summary
    assert row.source
    assert "\n" not in row.summary + row.source


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_every_range_over_orders_of_magnitude_is_logarithmic(group, name, row):
    for parameter in row.extended.parameters.values():
        if isinstance(parameter, Float) and parameter.low > 0 and parameter.high / parameter.low >= 100:
            assert parameter.log


def cell(**changes):
    return {"model": "vbpr", "objective": "plain", "update": "bsam_plus", "optimizer": "adam", **changes}


def test_a_preset_covers_the_tuned_groups_only():
    assert list(preset_space("paper", **cell(), tune=["update"]).parameters) == [
        "update.rho",
        "update.ema_decay",
        "update.kappa",
    ]
    assert preset_space("paper", **cell(), tune=[]).parameters == {}


def test_a_preset_puts_the_groups_in_one_order_whatever_the_order_of_tune():
    space = preset_space("extended", **cell(update="sam"), tune=["optimizer", "update", "model"])
    assert list(space.parameters) == ["model.reg_weight", "update.rho", "optimizer.learning_rate"]


@pytest.mark.parametrize(
    ("preset", "changes", "sentence"),
    [
        ("papr", {}, r"^preset must be one of paper, extended, but got 'papr'; did you mean 'paper'\?$"),
        ("paper", {"model": "vpbr"}, r"^model must be one of .*, but got 'vpbr'; did you mean 'vbpr'\?$"),
        (
            "paper",
            {"objective": "dvib"},
            r"^objective must be one of plain, dvib_c, dvib_a, but got 'dvib'; did you mean",
        ),
        ("paper", {"update": "bsam+"}, r"did you mean 'bsam'\?$"),
        ("paper", {"optimizer": "lion"}, r"^optimizer must be one of adam, sgd, but got 'lion'$"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(preset, changes, sentence):
    with pytest.raises(SpaceError, match=sentence):
        preset_space(preset, **cell(**changes), tune=["update"])


def test_the_presets_are_paper_and_extended():
    row = UPDATES["sam"]
    assert {name: space_of(row) for name, space_of in PRESETS.items()} == {"paper": row.paper, "extended": row.extended}


def test_a_row_accepts_a_whole_number_where_its_default_is_a_float():
    value = find_row("update", "sam").accept("rho", 1)
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("rho", "big", "^must be a number, but got 'big'$"),
        ("rho", True, "^must be a number, but got True$"),
        ("count", 2.0, "^must be a whole number, but got 2.0$"),
        ("flag", 1, "^must be true or false, but got 1$"),
        ("reading", 1, "^must be text, but got 1$"),
        ("roh", 1, r"^'roh' must be one of rho, count, flag, reading; did you mean 'rho'\?$"),
    ],
)
def test_a_row_refuses_a_value_of_another_kind(field, value, sentence):
    paper = UPDATES["sam"].paper
    row = Row("s", "s", {"rho": 0.1, "count": 3, "flag": False, "reading": "l1"}, paper, paper)
    with pytest.raises(SpaceError, match=sentence):
        row.accept(field, value)
