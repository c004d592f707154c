"""What is confirmed, and with which seeds."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from search.confirmation.choices import choices, fresh_seeds, make_units
from search.errors import SearchError, StoreError
from search.report.frames import read_frames
from trainables.config import TrialConfig

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


@pytest.fixture
def sweep(new_sweep: Callable[..., Any]) -> Any:
    """Two cells with three finished configurations and two; the best number of all is that of a pruned trial."""
    writer = new_sweep(search={"trials": 3, "seeds": [2]})
    for number, score in enumerate((0.3, 0.4, 0.2)):
        writer.trial(DESCENT, score, seed=2, point={"optimizer.learning_rate": 1e-3 * (number + 1)})
    writer.trial(SAM, 0.5, seed=2)
    writer.trial(SAM, 0.45, seed=2, point={"update.rho": 0.3})
    writer.trial(SAM, 0.9, seed=2, status="pruned", point={"update.rho": 0.7})
    return writer


def test_of_every_cell_the_configuration_that_validation_chose(sweep: Any) -> None:
    frames = read_frames(sweep.store, sweep.name)
    scores = frames.trials.set_index("trial")["score"]
    found = choices(frames)
    assert [(each.cell, each.rank, scores[each.trial], each.candidates) for each in found] == [
        (DESCENT, 1, 0.4, 3),
        (SAM, 1, 0.5, 2),
    ]
    more = choices(frames, [DESCENT], top=2)
    assert [(each.rank, scores[each.trial]) for each in more] == [(1, 0.4), (2, 0.3)]
    assert len(choices(frames, top=99)) == 5


def test_each_is_trained_as_it_was_but_for_the_seed_and_seed_by_seed(sweep: Any) -> None:
    frames = read_frames(sweep.store, sweep.name)
    units = make_units(frames, choices(frames), (1, 3))
    assert [(unit.seed, unit.cell) for unit in units] == [(1, DESCENT), (1, SAM), (3, DESCENT), (3, SAM)]
    configs = frames.trials.set_index("trial")["config_json"]
    for unit in units:
        assert unit.flat == json.loads(configs[unit.trial]) | {"seed": unit.seed} and not unit.own_split
        assert TrialConfig.from_flat(unit.flat).seed == unit.seed and unit.data_digest == "digest of lfm2k"


def test_an_unknown_cell_is_an_error_with_the_nearest(sweep: Any) -> None:
    with pytest.raises(StoreError, match=f"did you mean .*{SAM}"):
        choices(read_frames(sweep.store, sweep.name), [SAM.replace("sam", "sma")])


def test_configurations_that_are_named_by_their_trials_are_taken_whatever_their_rank(sweep: Any) -> None:
    frames = read_frames(sweep.store, sweep.name)
    names = dict(zip(frames.trials["score"], frames.trials["trial"], strict=True))
    found = choices(frames, trials=[names[0.45], names[0.2]])
    assert [(each.cell, each.rank, each.trial, each.candidates) for each in found] == [
        (DESCENT, 3, names[0.2], 3),
        (SAM, 2, names[0.45], 2),
    ]


def test_a_trial_that_is_unknown_or_was_pruned_is_an_error_with_the_nearest(sweep: Any) -> None:
    frames = read_frames(sweep.store, sweep.name)
    names = dict(zip(frames.trials["score"], frames.trials["trial"], strict=True))
    with pytest.raises(StoreError, match=r"finished one of sweep .*, but got 'vbpr-sma-1'; did you mean 'vbpr-sam"):
        choices(frames, trials=["vbpr-sma-1"])
    with pytest.raises(StoreError, match=names[0.9]):
        choices(frames, trials=[names[0.9]])


def test_seeds_are_the_least_that_the_search_did_not_use() -> None:
    assert fresh_seeds(4, {2, 3, 999}) == (1, 4, 5, 6)
    assert fresh_seeds((7, 5), {2}) == (7, 5)


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        (0, "must have a seed at least, but got 0"),
        ((1, 2, 3), "must be fresh, but the search used 2"),
        ((), "one or more, each once"),
        ((5, 5), "one or more, each once"),
    ],
)
def test_other_seeds_are_refused(seeds: Any, says: str) -> None:
    with pytest.raises(SearchError, match=says):
        fresh_seeds(seeds, {2})
