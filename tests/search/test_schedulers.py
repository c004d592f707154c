"""Schedulers per cell: who is stopped, against whom a trial is judged, and what a resumed sweep still knows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.budgets import Budget
from search.guard import Guard
from search.history import PastTrial
from search.schedulers import CellScheduler, GuardStopper
from search.sections import BudgetSection, SchedulerSection

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE


@dataclass(frozen=True)
class StandIn:
    """The part of a Tune trial that schedulers look at."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.PENDING


@dataclass
class Controller:
    """The part of Tune's controller that a scheduler may look at."""

    trials: list[StandIn] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def get_live_trials(self) -> list[StandIn]:
        return self.trials

    def get_trials(self) -> list[StandIn]:
        return self.trials

    def stop_trial(self, trial: StandIn) -> None:
        self.stopped.append(trial.config["name"])
        self.trials.remove(trial)


def scheduler(
    kind: str = "asha", *, grace: int = 2, reduction: int = 2, epochs: int = 8, mode: str = "max", **more: Any
) -> Any:
    if kind == "fifo":
        return CellScheduler(SchedulerSection(kind="fifo"), epochs, mode, **more)
    return CellScheduler(SchedulerSection(kind="asha", grace_epochs=grace, reduction=reduction), epochs, mode, **more)


def result(
    epoch: int, score: float | None, status: str = "running", validated: bool = True, **more: Any
) -> dict[str, Any]:
    cost = {"gradient_evaluations": 10 * epoch, "train_seconds": 1.0 * epoch, "device": "cpu"}
    return {"epoch": epoch, "score": score, "status": status, "validated": validated, "earlier": []} | cost | more


def add(scheduler: CellScheduler, name: str, cell: str = "a", tune_id: str | None = None) -> StandIn:
    trial = StandIn(tune_id or f"id of {name}", {"name": name, "cell": cell, "resources": (1, 0)})
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
    stopped = StandIn("0", {"name": "0", "cell": "a", "resources": (1, 0)})
    fifo.on_trial_complete(Controller(), stopped, result(8, 0.9, "finished"))


def past(name: str, scores: Mapping[int, float], status: str, cell: str = "a", epochs: int | None = None) -> PastTrial:
    """A trial as the store shows it to a resumed sweep."""
    last = max(scores, default=0) if epochs is None else epochs
    return PastTrial(
        name=name,
        cell=cell,
        candidate=0,
        flat={"seed": 1},
        status=status,
        attempt=1,
        best_score=max(scores.values(), default=None),
        gradient_evaluations=10 * last,
        device_seconds=1.0 * last,
        scores=tuple(sorted(scores.items())),
        epochs=frozenset(range(1, last + 1)),
        started=datetime(2026, 1, 1, tzinfo=UTC),
        row={"epochs": last},
    )


class Live:
    """Trials of one cell under a scheduler, run one after the other as Tune would."""

    def __init__(self, epochs: int, every: int, **more: Any) -> None:
        self.epochs, self.every = epochs, every
        self.scheduler = scheduler(epochs=epochs, **more)

    def run(self, name: str, scores: Sequence[float], end: str = "finished", at: int = 99) -> PastTrial:
        """A trial that would score `scores`; in epoch `at` it ends as `end` unless that is "finished"."""
        trial, seen = add(self.scheduler, name), {}
        for epoch in range(1, self.epochs + 1):
            if epoch == at and end in ("failed", "diverged"):
                last = result(epoch - 1, seen.get(epoch - 1, 0.0), end, validated=False)
                self.scheduler.on_trial_complete(Controller(), trial, last)
                return past(name, seen, end, epochs=epoch - 1)
            validated = epoch % self.every == 0 or epoch == self.epochs
            if validated:
                seen[epoch] = scores[epoch - 1]
            score = seen[max(seen)] if seen else None
            if epoch == self.epochs:
                break
            shown = result(epoch, score, validated=validated)
            if self.scheduler.on_trial_result(Controller(), trial, shown) == STOP:
                self.scheduler.on_trial_complete(Controller(), trial, shown)
                return past(name, seen, "pruned", epochs=epoch)
        self.scheduler.on_trial_complete(Controller(), trial, result(self.epochs, score, "finished"))
        return past(name, seen, "finished", epochs=self.epochs)


CURVES = st.lists(
    st.tuples(
        st.lists(st.floats(0, 1), min_size=12, max_size=12),
        st.sampled_from(["finished", "failed", "diverged"]),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=12,
)


@given(
    curves=CURVES,
    cut=st.integers(0, 12),
    every=st.integers(1, 3),
    extra=st.integers(0, 2),
    reduction=st.integers(2, 4),
    mode=st.sampled_from(["max", "min"]),
)
def test_after_a_resume_every_decision_is_the_one_of_the_scheduler_that_saw_everything(
    curves: list[tuple[list[float], str, int]], cut: int, every: int, extra: int, reduction: int, mode: str
) -> None:
    settings = {"grace": every + extra, "reduction": reduction, "mode": mode}
    live = Live(12, every, **settings)
    ran = [live.run(f"t{number}", *curve) for number, curve in enumerate(curves)]
    resumed = Live(12, every, past=ran[:cut], **settings)
    assert [resumed.run(f"t{number}", *curve) for number, curve in list(enumerate(curves))[cut:]] == ran[cut:]


@given(curves=CURVES, stored=st.integers(0, 12), saved=st.integers(0, 12))
def test_an_unfinished_trial_is_decided_as_if_it_had_not_been_interrupted(
    curves: list[tuple[list[float], str, int]], stored: int, saved: int
) -> None:
    live = Live(12, 1)
    ran = [live.run(f"t{number}", *curve) for number, curve in enumerate(curves)]
    # The last one was cut off when `stored` of its epochs were in the store, and comes again from checkpoint `saved`.
    scores, last = curves[-1][0], ran[-1]
    stored = min(stored, max(last.epochs, default=0))
    saved = min(saved, max(last.epochs, default=0))
    begun = past("again", dict(last.scores[:stored]), "running")
    resumed = scheduler(epochs=12, past=[*ran[:-1], begun])
    trial, decision = add(resumed, "again"), CONTINUE
    for epoch in range(max(saved, 1), max(last.epochs, default=0) + 1):
        earlier = [result(each, scores[each - 1]) for each in range(1, epoch)] if epoch == saved else []
        if epoch == 12:
            break
        assert decision == CONTINUE
        decision = resumed.on_trial_result(Controller(), trial, result(epoch, scores[epoch - 1], earlier=earlier))
    assert decision == (STOP if last.status == "pruned" else CONTINUE)


def test_the_undecided_last_validation_of_an_unfinished_trial_is_decided_when_it_comes_again() -> None:
    good = [past(name, {2: 0.8}, "pruned") for name in ("first", "second")]
    asha = scheduler(past=[*good, past("cut off", {2: 0.1}, "running")])
    assert judge(asha, add(asha, "cut off"), 2, 0.1) == STOP


def test_an_epoch_that_an_earlier_driver_let_pass_is_not_judged_again() -> None:
    asha = scheduler(past=[past("cut off", {2: 0.5, 3: 0.5}, "running"), past("better", {2: 0.9}, "pruned")])
    assert judge(asha, add(asha, "cut off"), 3, 0.5) == CONTINUE


def test_earlier_epochs_that_the_store_missed_fill_the_rungs() -> None:
    asha = scheduler()
    restarted, other = add(asha, "restarted"), add(asha, "other")
    earlier = [result(1, 0.9), result(2, 0.9), result(3, None, validated=False)]
    assert asha.on_trial_result(Controller(), restarted, result(4, 0.95, earlier=earlier)) == CONTINUE
    assert judge(asha, other, 2, 0.5) == STOP


def test_a_trial_is_known_in_its_rung_by_its_name_whatever_tune_calls_it() -> None:
    asha = scheduler(past=[past("named", {2: 0.9, 4: 0.9}, "stopped")])
    trial = add(asha, "named", tune_id="another id")
    assert [judge(asha, trial, epoch, 0.1) for epoch in (2, 3)] == [CONTINUE, CONTINUE]


def test_past_trials_of_one_cell_do_not_judge_those_of_another() -> None:
    asha = scheduler(past=[past(name, {2: 0.9}, "pruned", cell="b") for name in ("first", "second")])
    assert judge(asha, add(asha, "mine"), 2, 0.1) == CONTINUE
    assert judge(asha, add(asha, "theirs", cell="b"), 2, 0.1) == STOP


def test_past_trials_without_a_score_leave_no_trace() -> None:
    asha = scheduler(past=[past("failed", {}, "failed"), past("begun", {}, "running")])
    assert judge(asha, add(asha, "next"), 2, 0.1) == CONTINUE


@pytest.mark.parametrize("kind", ["fifo", "asha"])
def test_an_order_to_stop_is_carried_out_at_checkpoints_only(kind: str) -> None:
    guard = Guard()
    orders = scheduler(kind, guard=guard, every_epochs=3)
    trial = add(orders, "t")
    assert [judge(orders, trial, epoch, 0.5) for epoch in (1, 2, 3)] == [CONTINUE] * 3
    guard.stop("stop", "enough")
    assert [judge(orders, trial, epoch, 0.5) for epoch in (4, 5)] == [CONTINUE] * 2 and guard.ended == {}
    assert judge(orders, trial, 6, 0.5, validated=False) == STOP
    assert guard.ended == {"t": ("stopped", "enough")}


def test_a_trial_that_a_rung_stops_is_pruned_even_where_the_guard_would_stop_it() -> None:
    guard = Guard()
    asha = scheduler(guard=guard)
    first, second = add(asha, "first"), add(asha, "second")
    assert judge(asha, first, 2, 0.9) == CONTINUE
    guard.stop("stop", "enough")
    assert judge(asha, second, 2, 0.1) == STOP and guard.ended == {}


def test_a_trial_that_takes_too_long_is_pruned_at_any_epoch_with_the_reason() -> None:
    guard = Guard(Budget(BudgetSection(trial_minutes=0.05), ["a"]))
    fifo = scheduler("fifo", guard=guard, every_epochs=5)
    trial = add(fifo, "t")
    assert [judge(fifo, trial, epoch, 0.5, validated=False) for epoch in (1, 2, 3)] == [CONTINUE, CONTINUE, STOP]
    status, reason = guard.ended["t"]
    assert status == "pruned" and reason.startswith("budget.trial_minutes: ")


def test_a_trial_that_is_ended_between_two_validations_leaves_the_rungs_as_they_were() -> None:
    asha = scheduler(grace=3, guard=Guard(Budget(BudgetSection(trial_minutes=0.05), ["a"])))
    slow = add(asha, "slow")
    judge(asha, slow, 2, 0.9)
    assert judge(asha, slow, 3, 0.9, validated=False) == STOP
    asha.on_trial_complete(Controller(), slow, result(3, 0.9, validated=False))
    judge(asha, add(asha, "next"), 3, 0.1)
    assert _rung(asha, "a", 3) == {"next": 0.1}


def _rung(asha: CellScheduler, cell: str, milestone: int) -> dict[str, float]:
    (bracket,) = asha._cells[cell]._brackets
    return dict(next(recorded for each, recorded in bracket._rungs if each == milestone))


def test_what_a_trial_has_cost_is_charged_by_its_share_and_ends_the_sweep() -> None:
    guard = Guard(Budget(BudgetSection(device_hours=1), ["a"]))
    fifo = scheduler("fifo", guard=guard)
    trial = add(fifo, "t")
    trial.config["resources"] = (4, 0.5)
    hour = result(1, 0.5, train_seconds=600.0, evaluation_seconds=200.0, setup_seconds=99.0)
    assert fifo.on_trial_result(Controller(), trial, hour) == CONTINUE and guard.kind is None
    assert guard.budget is not None and guard.budget.spent().device_seconds == 4 * 899
    assert fifo.on_trial_result(Controller(), trial, hour | {"epoch": 2, "setup_seconds": 100.0}) == STOP
    assert guard.kind == "budget" and guard.ended["t"][0] == "stopped"


def test_a_last_result_is_charged_too_though_tune_shows_it_at_the_end_alone() -> None:
    guard = Guard(Budget(BudgetSection(amount=30), ["a"]))
    fifo = scheduler("fifo", guard=guard)
    trial = add(fifo, "t")
    judge(fifo, trial, 1, 0.5)
    fifo.on_trial_complete(Controller(), trial, result(3, 0.5, "finished"))
    assert guard.budget is not None and guard.budget.spent().gradient_evaluations == 30
    assert guard.against("a") is not None


def test_a_cell_that_has_spent_its_share_stops_while_the_others_go_on() -> None:
    guard = Guard(Budget(BudgetSection(amount=30), ["a", "b"]))
    fifo = scheduler("fifo", guard=guard)
    mine, theirs = add(fifo, "mine"), add(fifo, "theirs", "b")
    assert [judge(fifo, mine, epoch, 0.5) for epoch in (1, 2, 3)] == [CONTINUE, CONTINUE, STOP]
    assert judge(fifo, theirs, 2, 0.5) == CONTINUE and guard.kind is None and list(guard.refused) == ["a"]


def test_trials_of_a_stopped_sweep_that_wait_for_a_worker_are_withdrawn() -> None:
    guard = Guard()
    fifo = scheduler("fifo", guard=guard)
    running, waiting = add(fifo, "running"), add(fifo, "waiting")
    trials = [StandIn(running.trial_id, running.config, Trial.RUNNING), waiting]
    controller = Controller(list(trials))
    guard.stop("stop", "enough")
    fifo.choose_trial_to_run(controller)
    assert controller.stopped == ["waiting"] and guard.ended == {"waiting": ("stopped", "enough")}


def test_only_trials_of_the_closed_cell_are_withdrawn() -> None:
    guard = Guard(Budget(BudgetSection(amount=5), ["a", "b"]))
    fifo = scheduler("fifo", guard=guard)
    guard.charge("a", "done", 5, 1.0)
    assert guard.against("a") is not None
    controller = Controller([add(fifo, "mine"), add(fifo, "theirs", "b")])
    fifo.choose_trial_to_run(controller)
    assert controller.stopped == ["mine"]


def test_all_trials_end_at_once_only_where_the_guard_says_so() -> None:
    guard = Guard()
    stopper = GuardStopper(guard)
    guard.stop("stop", "enough")
    assert not stopper.stop_all() and not stopper("t", {})
    guard.stop("broken", "lost", at_once=True)
    assert stopper.stop_all()


def test_a_trial_that_was_over_when_its_driver_was_lost_fills_the_rungs_that_it_passed() -> None:
    """Tune shows a last result to no scheduler but here, and the store may have seen none of its epochs."""
    asha = scheduler()
    early = add(asha, "early")
    earlier = [result(epoch, 0.5) for epoch in range(1, 8)]
    asha.on_trial_complete(Controller(), early, {**result(8, 0.9, "finished"), "earlier": earlier})
    assert judge(asha, add(asha, "bad"), 2, 0.4) == STOP
    assert judge(asha, add(asha, "good"), 2, 0.6) == CONTINUE
