"""Spaces and trainables never import each other; here they must agree."""

from typing import Any

import pytest

import spaces.models
import spaces.objectives
import spaces.optimizers
import spaces.updates
from search.points import planned_points
from search.sections import METRICS
from search.spec import parse, studies
from spaces.presets import PUBLISHED_OPTIMIZER, find_row
from spaces.row import Row
from trainables.config import TrialConfig
from trainables.evaluation.metrics import METRIC_NAMES
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.optimizers import OPTIMIZERS
from trainables.updates import UPDATES

REGISTRIES: dict[str, tuple[dict[str, Row], dict[str, Any]]] = {
    "model": (spaces.models.MODELS, {name: entry.Config for name, entry in MODELS.items()}),
    "objective": (spaces.objectives.OBJECTIVES, {name: entry.Config for name, entry in OBJECTIVES.items()}),
    "update": (spaces.updates.UPDATES, {name: entry.Config for name, entry in UPDATES.items()}),
    "optimizer": (spaces.optimizers.OPTIMIZERS, dict(OPTIMIZERS)),
}
ENTRIES = [(group, name) for group, (_, configs) in REGISTRIES.items() for name in configs]


@pytest.mark.parametrize("group", REGISTRIES)
def test_both_sides_have_the_same_names(group: str) -> None:
    rows, configs = REGISTRIES[group]
    assert list(rows) == list(configs)


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_a_row_has_every_field_of_the_config_with_its_default(group: str, name: str) -> None:
    rows, configs = REGISTRIES[group]
    assert dict(rows[name].defaults) == configs[name]().model_dump()


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_every_searched_parameter_is_a_field_and_its_default_lies_in_the_wide_range(group: str, name: str) -> None:
    rows, _ = REGISTRIES[group]
    row = rows[name]
    # A model's grid may include hyperparameters of the optimizer that it was published with.
    owners = {group: row} | ({"optimizer": find_row("optimizer", PUBLISHED_OPTIMIZER)} if group == "model" else {})
    defaults = {f"{owner}.{field}": value for owner, of in owners.items() for field, value in of.defaults.items()}
    assert {*row.paper.parameters, *row.extended.parameters} <= set(defaults)
    for key, parameter in row.extended.parameters.items():
        assert parameter.contains(defaults[key]), key


@pytest.mark.parametrize("preset", ["paper", "extended"])
@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_every_suggested_point_is_a_valid_configuration(group: str, name: str, preset: str) -> None:
    """Groups are parsed one by one, so each entry is tried with the first of the others (VBPR has modalities)."""
    chosen = {"model": "vbpr", "objective": "plain", "update": "descent", "optimizer": "adam"} | {group: name}
    axes = {axis: [entry] for axis, entry in chosen.items()}
    spec = parse({"name": "x", "data": {"names": ["synthetic"]}, "axes": axes, "space": {"preset": preset}})
    for study in studies(spec):
        points = planned_points(study, "random", 1) or []
        assert points
        for point in points[:16]:
            TrialConfig.from_flat(study.config(point, 999))


def test_the_goal_can_be_any_metric_that_is_computed() -> None:
    assert set(METRICS) == set(METRIC_NAMES)
