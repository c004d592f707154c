"""The published grids, as the papers print them, and the ranges that contain them."""

import pytest

from spaces.errors import SpaceError
from spaces.models import MODELS
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.params import Float, covers
from spaces.presets import PRESETS, PUBLISHED_OPTIMIZER, REGISTRIES, find_row, preset_space
from spaces.row import Row
from spaces.updates import UPDATES

ROWS = [
    pytest.param(group, name, row, id=f"{group}-{name}")
    for group, rows in REGISTRIES.items()
    for name, row in rows.items()
]

# The one published value that no logarithmic range can hold; see the docstring of spaces/models.py.
NOT_IN_EXTENDED = {(model, "model.reg_weight", 0.0) for model in ("freedom", "mmgcn", "selfcf")}

# Hyperparameters that only `extended` searches: no published grid has them.
NOT_IN_PAPER = {
    ("update", "fisher_sam"): {"update.eta"},
    ("update", "fisher_sam_plus"): {"update.eta"},
}

DECADES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
RADII = (0.05, 0.10, 0.15, 0.20)
SHARES = (0.2, 0.4, 0.6, 0.8)

# strategies.md §11.1 and models.md §14 and §15.
PUBLISHED_GRIDS = {
    ("model", "lightgcn"): {
        "model.num_layers": (1, 2, 3, 4),
        "model.reg_weight": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    },
    ("model", "vbpr"): {"model.reg_weight": (2, 1, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)},
    ("model", "bm3"): {"model.num_layers": (1, 2), "model.dropout": (0.3, 0.5), "model.reg_weight": (0.1, 0.01)},
    ("model", "freedom"): {"model.dropout": (0.8, 0.9), "model.reg_weight": (0, 1e-5, 1e-4, 1e-3)},
    ("model", "mmgcn"): {
        "model.reg_weight": (0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        "optimizer.learning_rate": (1e-4, 5e-4, 1e-3, 5e-3, 1e-2),
    },
    ("model", "grcn"): {"model.reg_weight": DECADES, "optimizer.learning_rate": (1e-4, 1e-3, 1e-2, 1e-1, 1)},
    ("model", "dualgnn"): {"model.reg_weight": DECADES, "optimizer.learning_rate": DECADES[::-1]},
    ("model", "slmrec"): {
        "model.ssl_temperature": (0.1, 0.2, 0.5, 1),
        "model.ssl_weight": (0.01, 0.05, 0.1, 0.5, 1),
        "model.reg_weight": (1e-4, 1e-3, 1e-2, 1e-1),
        "optimizer.learning_rate": (1e-4, 1e-3, 1e-2, 1e-1),
    },
    ("model", "dragon"): {"model.reg_weight": DECADES, "optimizer.learning_rate": DECADES[::-1]},
    ("model", "lgmrec"): {
        "model.num_layers": (2,),
        "model.num_modal_layers": (2,),
        "model.num_hyper_layers": (1,),
        "model.num_hyperedges": (4,),
        "model.dropout": (0.5,),
        "model.hyper_weight": (0.3,),
        "model.cl_weight": (1e-4,),
        "model.reg_weight": (1e-6,),
    },
    ("model", "selfcf"): {
        "model.num_layers": (1, 2),
        "model.dropout": (0.1, 0.2, 0.5),
        "model.reg_weight": (*DECADES, 0),
    },
    ("model", "layergcn"): {
        "model.num_layers": (4,),
        "model.dropout": (0, 0.1, 0.2),
        "model.reg_weight": (1e-2, 1e-3, 1e-4, 1e-5),
    },
    ("model", "ngcf"): {
        "model.num_layers": (3,),
        "model.message_dropout": (0.1,),
        "model.node_dropout": (0,),
        "model.reg_weight": (1e-5,),
        "optimizer.learning_rate": (1e-4, 5e-4, 1e-3, 5e-3),
    },
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
    ("objective", "amr"): {
        "objective.epsilon": (0.01, 0.05, 0.1, 0.5),
        "objective.adversarial_weight": (0.1, 1),
    },
    ("objective", "entropy"): {"objective.gamma_d": (0.5, 0.1, 0.01)},
    ("update", "descent"): {},
    ("update", "double_batch"): {},
    ("update", "extra_steps"): {"update.beta": (3,)},
    ("update", "mirror_gradient"): {
        "update.alpha1": (1,),
        "update.alpha2_ratio": (0.1, 0.2, 0.3),
        "update.beta": (3,),
    },
    ("update", "sam"): {"update.rho": RADII},
    ("update", "sam_plus"): {"update.rho": RADII, "update.kappa": SHARES},
    ("update", "asam"): {"update.rho": (0.1, 0.5, 1, 2)},
    ("update", "asam_plus"): {"update.rho": (0.1, 0.5, 1, 2), "update.kappa": SHARES},
    ("update", "fisher_sam"): {"update.rho": RADII},
    ("update", "fisher_sam_plus"): {"update.rho": RADII, "update.kappa": SHARES},
    ("update", "friendly_sam"): {"update.rho": RADII, "update.ema_decay": SHARES},
    ("update", "friendly_sam_plus"): {
        "update.rho": RADII,
        "update.ema_decay": SHARES,
        "update.kappa": SHARES,
    },
    ("update", "bsam"): {"update.rho": RADII, "update.ema_decay": SHARES},
    ("update", "bsam_plus"): {"update.rho": RADII, "update.ema_decay": SHARES, "update.kappa": SHARES},
    ("update", "gnp"): {"update.rho": (0.1,), "update.kappa": (0.8,)},
    ("optimizer", "adam"): {"optimizer.learning_rate": (1e-3,)},
    ("optimizer", "rmsprop"): {"optimizer.learning_rate": (1e-3,)},
    ("optimizer", "adagrad"): {"optimizer.learning_rate": (1e-2,)},
    ("optimizer", "sgd"): {"optimizer.learning_rate": (1e-2,)},
}

# strategies.md §14.6: (low, high, log).
EXTENDED_RANGES = {
    **{
        ("update", name): {"update.rho": (0.01, 2, True)}
        for name in ("sam", "fisher_sam", "friendly_sam", "bsam", "gnp")
    },
    ("update", "friendly_sam_plus"): {
        "update.rho": (0.01, 2, True),
        "update.ema_decay": (0, 0.95, False),
        "update.kappa": (0.2, 1, False),
    },
    ("update", "extra_steps"): {"update.beta": (1, 8, False)},
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
        (MODELS, "mmgcn", 30),
        (MODELS, "grcn", 25),
        (MODELS, "dualgnn", 25),
        (MODELS, "slmrec", 320),
        (MODELS, "dragon", 25),
        (MODELS, "lgmrec", 1),
        (MODELS, "selfcf", 36),
        (MODELS, "layergcn", 12),
        (MODELS, "ngcf", 4),
        (UPDATES, "descent", 1),
        (UPDATES, "mirror_gradient", 3),
        (UPDATES, "sam", 4),
        (UPDATES, "sam_plus", 16),
        (UPDATES, "asam", 4),
        (UPDATES, "asam_plus", 16),
        (UPDATES, "fisher_sam", 4),
        (UPDATES, "fisher_sam_plus", 16),
        (UPDATES, "friendly_sam", 16),
        (UPDATES, "friendly_sam_plus", 64),
        (UPDATES, "double_batch", 1),
        (UPDATES, "extra_steps", 1),
        (UPDATES, "gnp", 1),
        (UPDATES, "bsam", 16),
        (UPDATES, "bsam_plus", 64),
        (OBJECTIVES, "dvib_c", 9),
        (OBJECTIVES, "dvib_a", 3),
        (OBJECTIVES, "amr", 8),
        (OBJECTIVES, "entropy", 3),
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
    added = NOT_IN_PAPER.get((group, name), set())
    assert [key for key in row.extended.parameters if key not in added] == list(row.paper.parameters)
    assert added <= set(row.extended.parameters)


@pytest.mark.parametrize(("cell", "ranges"), EXTENDED_RANGES.items(), ids=str)
def test_extended_ranges_are_those_of_the_specification(cell, ranges):
    parameters = REGISTRIES[cell[0]][cell[1]].extended.parameters
    assert {key: (parameters[key].low, parameters[key].high, parameters[key].log) for key in ranges} == ranges


@pytest.mark.parametrize(("group", "name", "row"), ROWS)
def test_every_range_is_of_the_rows_own_fields_or_of_those_of_the_optimizer_a_model_was_published_with(
    group, name, row
):
    owners = {group: row} | ({"optimizer": OPTIMIZERS[PUBLISHED_OPTIMIZER]} if group == "model" else {})
    defaults = {f"{owner}.{field}": value for owner, of in owners.items() for field, value in of.defaults.items()}
    for space in (row.paper, row.extended):
        assert set(space.parameters) <= set(defaults)
    assert all(parameter.contains(defaults[key]) for key, parameter in row.extended.parameters.items())


@pytest.mark.parametrize("name", MODELS)
def test_the_first_learning_rate_is_the_smallest_because_plans_are_timed_with_it(name):
    space = preset_space("paper", **cell(model=name), tune=["optimizer"])
    learning_rates = space.parameters["optimizer.learning_rate"].grid()
    assert list(learning_rates) == sorted(learning_rates)


@pytest.mark.parametrize("name", MODELS)
def test_no_preset_searches_a_model_in_another_variant(name):
    for space_of in PRESETS.values():
        assert not {"model.compat", "model.variant", "model.regulariser"} & set(space_of(MODELS[name]).parameters)


@pytest.mark.parametrize(
    ("hyper_layers", "hyperedges", "dropout", "hyper_weight"), [(1, 4, 0.6, 0.6), (2, 64, 0.8, 0.2)]
)
def test_the_extended_ranges_of_lgmrec_hold_its_settings_for_sports_and_clothing(
    hyper_layers, hyperedges, dropout, hyper_weight
):
    published = {
        "model.num_hyper_layers": hyper_layers,
        "model.num_hyperedges": hyperedges,
        "model.dropout": dropout,
        "model.hyper_weight": hyper_weight,
    }
    ranges = MODELS["lgmrec"].extended.parameters
    assert all(ranges[key].contains(value) for key, value in published.items())


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


@pytest.mark.parametrize("preset", PRESETS)
class TestAModelPublishedWithLearningRates:
    def space(self, preset, tune, **changes):
        return preset_space(preset, **cell(model="grcn", update="sam", **changes), tune=tune).parameters

    def learning_rates(self, preset, group, name):
        return PRESETS[preset](REGISTRIES[group][name]).parameters["optimizer.learning_rate"]

    @pytest.mark.parametrize("tune", [("model", "optimizer"), ("update", "optimizer"), ("optimizer",)])
    def test_searches_them_instead_of_the_optimizers_own_where_the_optimizer_is_tuned(self, preset, tune):
        assert self.space(preset, tune)["optimizer.learning_rate"] == self.learning_rates(preset, "model", "grcn")

    @pytest.mark.parametrize("tune", [("model",), ("model", "update"), ()])
    def test_searches_none_where_the_optimizer_is_not_tuned(self, preset, tune):
        assert "optimizer.learning_rate" not in self.space(preset, tune)

    def test_leaves_another_optimizer_than_adam_its_own(self, preset):
        own = self.learning_rates(preset, "optimizer", "sgd")
        for tune in (("optimizer",), ("model", "optimizer")):
            assert self.space(preset, tune, optimizer="sgd")["optimizer.learning_rate"] == own

    def test_keeps_the_order_of_the_groups(self, preset):
        space = self.space(preset, ("optimizer", "update", "model"))
        assert list(space) == ["model.reg_weight", "update.rho", "optimizer.learning_rate"]

    def test_leaves_other_models_the_optimizers_own(self, preset):
        own = self.learning_rates(preset, "optimizer", "adam")
        space = preset_space(preset, **cell(model="vbpr"), tune=("optimizer",))
        assert space.parameters == {"optimizer.learning_rate": own}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_a_group_searches_does_not_depend_on_which_others_are_tuned(preset, model, optimizer):
    names = cell(model=model, optimizer=optimizer)
    alone = [preset_space(preset, **names, tune=[group]).parameters for group in REGISTRIES]
    whole = preset_space(preset, **names, tune=list(REGISTRIES)).parameters
    assert [item for parameters in alone for item in parameters.items()] == list(whole.items())


@pytest.mark.parametrize("model", MODELS)
def test_every_model_searches_at_least_the_learning_rates_of_adam(model):
    key = "optimizer.learning_rate"
    space = preset_space("extended", **cell(model=model), tune=["optimizer"])
    assert covers(space.parameters[key], OPTIMIZERS["adam"].extended.parameters[key])


@pytest.mark.parametrize(
    ("preset", "changes", "sentence"),
    [
        ("papr", {}, r"^preset must be one of paper, extended, but got 'papr'; did you mean 'paper'\?$"),
        ("paper", {"model": "vpbr"}, r"^model must be one of .*, but got 'vpbr'; did you mean 'vbpr'\?$"),
        (
            "paper",
            {"objective": "dvib"},
            r"^objective must be one of plain, dvib_c, dvib_a, amr, entropy, but got 'dvib'; did you mean",
        ),
        ("paper", {"update": "bsam+"}, r"did you mean 'bsam'\?$"),
        ("paper", {"optimizer": "lion"}, r"^optimizer must be one of adam, rmsprop, adagrad, sgd, but got 'lion'$"),
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
