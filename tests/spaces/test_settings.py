"""Named sets of fixed values: whose they are, and what they say."""

import pytest

from spaces.errors import SpaceError
from spaces.presets import REGISTRIES, find_row
from spaces.settings import SETTINGS, find_settings, settings_values

CELL = {"model": "vbpr", "objective": "dvib_a", "update": "asam", "optimizer": "adam"}

# strategies.md §3, §4.2, §4.4, §6.3.
EXPECTED = {
    "dvib_paper": {"objective.distill": "js", "objective.combine": "sum", "objective.reg": "eq13"},
    "dvib_released": {
        "objective.distill": "released",
        "objective.combine": "convex",
        "objective.reg": "kl_std",
        "objective.distill_rows": 0,
    },
    "asam_samsung": {"update.adaptive_on": "name_contains_weight", "update.eta": 0.01, "update.rho": 0.5},
    "asam_davda": {"update.adaptive_on": "all", "update.eta": 0.0, "update.rho": 2.0},
    "friendly_sam_official": {
        "update.sigma": 1.0,
        "update.ema_decay": 0.6,
        "update.ema": "previous",
        "update.rho": 0.2,
    },
    "mirror_gradient_official": {
        "update.mode": "official",
        "update.alpha1": 1.0,
        "update.beta": 3,
        "update.draws": "fresh",
    },
}


def test_the_sets_are_those_of_the_specification():
    assert {name: dict(settings.values) for name, settings in SETTINGS.items()} == EXPECTED


@pytest.mark.parametrize("name", SETTINGS)
def test_every_value_is_one_of_a_hyperparameter_of_its_entries(name):
    settings = SETTINGS[name]
    rows = [find_row(settings.group, entry) for entry in settings.entries]
    for key, value in settings.values.items():
        group, _, field = key.partition(".")
        owners = [row for row in rows if field in row.defaults]
        assert group == settings.group
        assert owners
        assert all(row.accept(field, value) == value for row in owners)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_set_says_what_it_is_and_where_it_comes_from(name):
    settings = SETTINGS[name]
    assert settings.summary
    assert settings.source
    assert "\n" not in settings.summary + settings.source
    assert set(settings.entries) <= set(REGISTRIES[settings.group])


def test_a_set_speaks_of_its_own_entries_only():
    assert settings_values(["asam_samsung"], CELL) == EXPECTED["asam_samsung"]
    assert settings_values(["asam_samsung"], {**CELL, "update": "sam"}) == {}
    assert settings_values(["dvib_paper"], {**CELL, "objective": "plain"}) == {}


def test_sets_of_different_groups_are_joined():
    values = settings_values(["asam_davda", "dvib_released"], CELL)
    assert values == {**EXPECTED["asam_davda"], **EXPECTED["dvib_released"]}


def test_two_sets_that_give_the_same_hyperparameter_are_refused():
    sentence = (
        "^two sets must not give one hyperparameter, but asam_samsung and asam_davda give update.adaptive_on for asam$"
    )
    with pytest.raises(SpaceError, match=sentence):
        settings_values(["asam_samsung", "asam_davda"], CELL)
    assert settings_values(["asam_samsung", "asam_davda"], {**CELL, "update": "sam"}) == {}


def test_an_unknown_set_is_refused_with_the_nearest_one():
    with pytest.raises(
        SpaceError, match=r"^must be among dvib_paper, .*, but got 'asam_davd'; did you mean 'asam_davda'\?$"
    ):
        find_settings("asam_davd")
