"""Which units a stored sweep's protocols have, and which of them the store lacks."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from search.errors import StoreError
from search.protocols.units import Unit, make_units, missing_units, settings_digest
from search.report.frames import read_frames
from search.sections import ProtocolsSection
from trainables.config import TrialConfig
from trainables.protocols.config import GeneralisationConfig, LandscapeConfig, RobustnessConfig

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


@pytest.fixture
def sweep(new_sweep: Callable[..., Any]) -> Any:
    """Two cells with a better and a worse trial each; the better one of `sam` did not finish."""
    writer = new_sweep(search={"trials": 2, "seeds": [5, 6]})
    writer.trial(DESCENT, 0.3, seed=5)
    writer.trial(DESCENT, 0.4, seed=5, point={"optimizer.learning_rate": 2e-3})
    writer.trial(SAM, 0.5, seed=5)
    writer.trial(SAM, 0.9, seed=5, status="pruned", point={"update.rho": 0.7})
    return writer


def units(writer: Any, cells: list[str] | None = None, seeds: tuple[int, ...] = (5, 6), **given: Any) -> list[Unit]:
    frames = read_frames(writer.store, writer.name)
    return make_units(frames, ProtocolsSection(**given), seeds, cells)


def test_every_cells_best_finished_configuration_is_measured_with_every_seed(sweep: Any) -> None:
    found = units(sweep, robustness=RobustnessConfig(), landscape=LandscapeConfig())
    assert [(unit.cell, unit.protocol, unit.seed) for unit in found] == [
        (cell, protocol, seed) for cell in (DESCENT, SAM) for protocol in ("robustness", "landscape") for seed in (5, 6)
    ]
    trials = sweep.store.frame("trials").set_index("trial")
    assert {trials.loc[unit.trial, "best_score"] for unit in found} == {0.4, 0.5}
    for unit in found:
        stored = json.loads(trials.loc[unit.trial, "config_json"])
        assert unit.flat == {**stored, "seed": unit.seed} and unit.split_seed is None and not unit.own_split
        assert TrialConfig.from_flat(unit.flat).seed == unit.seed
        assert (unit.dataset, unit.data_digest) == ("lfm2k", "digest of lfm2k")


@pytest.mark.parametrize(
    ("vary", "seeds", "split_seeds", "own"),
    [
        ("both", [996, 997], [996, 997], True),
        ("split", [5, 5], [996, 997], True),
        ("init", [996, 997], [None] * 2, False),
    ],
)
def test_generalisation_varies_seed_and_split_as_it_says(
    vary: Any, seeds: list[int], split_seeds: list[int | None], own: bool, sweep: Any
) -> None:
    found = units(sweep, [SAM], generalisation=GeneralisationConfig(vary=vary, seeds=(996, 997)))
    assert [unit.seed for unit in found] == seeds == [unit.flat["seed"] for unit in found]
    assert [unit.split_seed for unit in found] == split_seeds
    assert {unit.own_split for unit in found} == {own}
    if own:
        assert [(unit.flat["data.split"], unit.flat["data.split_seed"]) for unit in found] == [
            ("random", seed) for seed in split_seeds
        ]


def test_a_split_that_the_sweep_draws_itself_is_named_by_its_seed(new_sweep: Callable[..., Any]) -> None:
    writer = new_sweep(data={"names": ["lfm2k"], "root": "/data", "split": "random", "split_seed": 3})
    writer.trial(SAM, 0.5)
    (unit,) = units(writer, seeds=(1,), landscape=LandscapeConfig())
    assert (unit.split_seed, unit.own_split) == (3, False)
    both = units(writer, generalisation=GeneralisationConfig(seeds=(3, 4)))
    assert [unit.own_split for unit in both] == [False, True]


def test_only_the_cells_that_are_asked_for_are_measured(sweep: Any) -> None:
    assert {unit.cell for unit in units(sweep, [SAM], robustness=RobustnessConfig())} == {SAM}


def test_an_unknown_cell_or_one_without_a_finished_trial_is_named(new_sweep: Callable[..., Any]) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, None, status="failed")
    with pytest.raises(StoreError, match=r"^a sweep must have finished trials to be measured, but 'sample' has none$"):
        units(writer, robustness=RobustnessConfig())
    writer.trial(SAM, 0.5)
    assert {unit.cell for unit in units(writer, robustness=RobustnessConfig())} == {SAM}
    with pytest.raises(StoreError, match=f"must have a finished trial to be measured, but {DESCENT} of sweep 'sample'"):
        units(writer, [DESCENT], robustness=RobustnessConfig())
    with pytest.raises(StoreError, match=f"a cell must be one of sweep 'sample', .* did you mean '{SAM}'"):
        units(writer, [SAM.removesuffix("/adam")], robustness=RobustnessConfig())


def test_settings_are_told_apart_by_what_decides_a_units_numbers() -> None:
    digests = {
        settings_digest(settings)
        for settings in (
            RobustnessConfig(),
            RobustnessConfig(draws=2),
            LandscapeConfig(),
            LandscapeConfig(points=3),
            GeneralisationConfig(),
            GeneralisationConfig(vary="init"),
        )
    }
    assert len(digests) == 6
    assert settings_digest(GeneralisationConfig(seeds=(1,))) == settings_digest(GeneralisationConfig())


def stored(sweep: Any, of: list[Unit], subjects: tuple[str, ...] = ("clean", "gaussian")) -> None:
    common = {"sweep": sweep.name, "phase": "", "level": "", "draw": 0, "point": 0, "split": "valid", "metric": "m"}
    cost = {"value": 0.5, "gradient_evaluations": 1, "train_seconds": 1.0}
    rows = [
        {
            **{**common, **cost, "subject": subject, "cell": unit.cell, "trial": unit.trial, "seed": unit.seed},
            **{"split_seed": unit.split_seed, "protocol": unit.protocol, "settings": settings_digest(unit.settings)},
        }
        for unit in of
        for subject in subjects
    ]
    sweep.store.append("protocols", rows)


def missing(sweep: Any, of: list[Unit]) -> list[Unit]:
    current, every = (sweep.store.frame(view, sweep.name) for view in ("protocols", "protocols_all"))
    assert isinstance(current, pd.DataFrame)
    return missing_units(of, current, every)


def test_units_with_rows_are_not_missing_and_those_of_other_settings_or_seeds_are(sweep: Any) -> None:
    found = units(sweep, robustness=RobustnessConfig())
    assert missing(sweep, found) == found
    stored(sweep, found[:3])
    assert missing(sweep, found) == found[3:]
    fewer = units(sweep, robustness=RobustnessConfig(draws=2))
    assert missing(sweep, fewer) == fewer
    other = units(sweep, seeds=(5, 7), robustness=RobustnessConfig())
    assert [unit.seed for unit in missing(sweep, other)] == [7, 7]
    split = units(sweep, generalisation=GeneralisationConfig(seeds=(5, 6)))
    stored(sweep, split[:1])
    assert missing(sweep, split) == split[1:]


def test_units_whose_rows_other_settings_replaced_are_measured_again(sweep: Any) -> None:
    first = units(sweep, robustness=RobustnessConfig())
    stored(sweep, first)
    second = units(sweep, [SAM], robustness=RobustnessConfig(corruptions=("gaussian",)))
    stored(sweep, second)
    assert missing(sweep, second) == []
    assert missing(sweep, first) == [unit for unit in first if unit.cell == SAM]


def test_a_unit_names_itself(sweep: Any) -> None:
    (unit,) = units(sweep, [SAM], seeds=(5,), landscape=LandscapeConfig())
    assert str(unit) == f"landscape of {unit.trial} (seed 5)"
    (drawn,) = units(sweep, [SAM], generalisation=GeneralisationConfig(seeds=(996,)))
    assert str(drawn) == f"generalisation of {unit.trial} (seed 996, split 996)"
