"""Schedulers per cell: who is stopped, and against whom a trial is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from search.schedulers import CellScheduler
from search.sections import SchedulerSection

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE


@dataclass(frozen=True)
class StandIn:
    """The part of a Tune trial that schedulers look at."""

    trial_id: str
    config: dict[str, str]


class Controller:
    """Schedulers are handed Tune's controller and never look at it."""


def scheduler(kind: str = "asha", *, grace: int = 2, reduction: int = 2, epochs: int = 8, mode: str = "max") -> Any:
    if kind == "fifo":
        return CellScheduler(SchedulerSection(kind="fifo"), epochs, mode)
    return CellScheduler(SchedulerSection(kind="asha", grace_epochs=grace, reduction=reduction), epochs, mode)


def result(epoch: int, score: float | None, status: str = "running", validated: bool = True) -> dict[str, Any]:
    return {"epoch": epoch, "score": score, "status": status, "validated": validated}


def add(scheduler: CellScheduler, name: str, cell: str = "a") -> StandIn:
    trial = StandIn(name, {"cell": cell})
    scheduler.on_trial_add(Controller(), trial)
    return trial


def judge(scheduler: CellScheduler, trial: StandIn, epoch: int, score: float, validated: bool = True) -> str:
    return scheduler.on_trial_result(Controller(), trial, result(epoch, score, validated=validated))


def decisions(scheduler: CellScheduler, cells: Sequence[str], scores: Sequence[float], epoch: int = 2) -> list[str]:
    """What is decided about trials that come to the first rung one after the other."""
    trials = [add(scheduler, f"{number}", cell) for number, cell in enumerate(cells)]
    return [judge(scheduler, trial, epoch, score) for trial, score in zip(trials, scores, strict=True)]


def test_a_bad_trial_is_stopped_by_good_ones_of_its_own_cell() -> None:
    assert decisions(scheduler(), "aaa", [0.8, 0.9, 0.1]) == [CONTINUE, CONTINUE, STOP]


def test_a_bad_trial_is_not_stopped_by_good_ones_of_another_cell() -> None:
    assert decisions(scheduler(), "aab", [0.8, 0.9, 0.1]) == [CONTINUE, CONTINUE, CONTINUE]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), max_size=20))
def test_a_cell_decides_as_if_it_were_alone(arrivals: list[tuple[str, float]]) -> None:
    together = decisions(scheduler(), [cell for cell, _ in arrivals], [score for _, score in arrivals])
    for cell in "ab":
        scores = [score for each, score in arrivals if each == cell]
        alone = decisions(scheduler(), cell * len(scores), scores)
        assert alone == [made for made, (each, _) in zip(together, arrivals, strict=True) if each == cell]


@given(st.lists(st.floats(0, 1), max_size=20), st.sampled_from(["max", "min"]))
def test_a_trial_is_stopped_where_it_is_worse_than_the_median_of_the_rung(scores: list[float], mode: str) -> None:
    made = decisions(scheduler(mode=mode), "a" * len(scores), scores)
    for number, (score, decision) in enumerate(zip(scores, made, strict=True)):
        before = sorted(scores[:number])
        if before:
            median = (before[(number - 1) // 2] + before[number // 2]) / 2
            assert decision == (STOP if (score < median if mode == "max" else score > median) else CONTINUE)


def test_no_trial_is_stopped_during_its_grace() -> None:
    assert decisions(scheduler(grace=3), "aaa", [0.8, 0.9, 0.1], epoch=2) == [CONTINUE] * 3


def test_the_grace_is_never_longer_than_the_training() -> None:
    assert decisions(scheduler(grace=50, epochs=8), "aa", [0.9, 0.1], epoch=8) == [STOP, STOP]


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_failed_trial_never_enters_a_rung(status: str) -> None:
    asha = scheduler(grace=3)
    failing, good, bad = (add(asha, name) for name in ("failing", "good", "bad"))
    # Its last validation was at epoch 2, before the rung; it broke down in epoch 4.
    assert judge(asha, failing, 2, 0.99) == CONTINUE
    asha.on_trial_complete(Controller(), failing, result(3, 0.99, status, validated=False))
    assert judge(asha, good, 3, 0.2) == CONTINUE
    assert judge(asha, bad, 3, 0.1) == STOP


def test_a_finished_trial_enters_the_rung_in_which_it_ended() -> None:
    asha = scheduler(grace=3)
    early, late = add(asha, "early"), add(asha, "late")
    # Its patience ran out, which Tune does not show to the scheduler before the end.
    asha.on_trial_complete(Controller(), early, result(3, 0.9, "finished"))
    assert judge(asha, late, 3, 0.1) == STOP


def test_a_trial_that_could_not_be_built_leaves_no_trace() -> None:
    asha = scheduler()
    trial = add(asha, "broken")
    asha.on_trial_complete(Controller(), trial, result(0, None, "failed", validated=False))
    assert judge(asha, add(asha, "next"), 2, 0.1) == CONTINUE


def test_epochs_without_a_validation_are_ignored() -> None:
    asha = scheduler()
    first, second, third = (add(asha, name) for name in ("first", "second", "third"))
    assert judge(asha, first, 2, 0.9, validated=False) == CONTINUE
    assert judge(asha, second, 2, 0.1) == CONTINUE
    assert judge(asha, third, 2, 0.05, validated=False) == CONTINUE
    assert judge(asha, third, 3, 0.05) == STOP


def test_a_restarted_trial_is_judged_on_and_keeps_its_rung() -> None:
    asha = scheduler()
    hurt, other = add(asha, "hurt"), add(asha, "other")
    assert judge(asha, hurt, 2, 0.9) == CONTINUE
    asha.on_trial_error(Controller(), hurt)
    asha.on_trial_add(Controller(), hurt)
    assert judge(asha, hurt, 2, 0.9) == CONTINUE
    assert judge(asha, other, 2, 0.1) == STOP


def test_a_trial_that_is_taken_back_before_its_first_result_is_forgotten() -> None:
    asha = scheduler()
    asha.on_trial_remove(Controller(), add(asha, "withdrawn"))
    assert judge(asha, add(asha, "next"), 2, 0.1) == CONTINUE


def test_fifo_stops_nothing() -> None:
    fifo = scheduler("fifo")
    assert decisions(fifo, "aaab", [0.9, 0.8, 0.0, 0.0], epoch=8) == [CONTINUE] * 4
    fifo.on_trial_complete(Controller(), StandIn("0", {"cell": "a"}), result(8, 0.9, "finished"))
