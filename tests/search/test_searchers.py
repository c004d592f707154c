"""One Optuna study per cell: who is served, what is proposed, what Optuna is told, and how all that goes on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.budgets import Budget
from search.errors import StoreError
from search.guard import Guard
from search.history import PastTrial
from search.names import config_digest
from search.points import planned_points
from search.searchers import CellSearcher, CellStudy
from search.sections import BudgetSection, Share
from search.spec import parse, studies
from search.study_spec import StudySpec

RATES = {"optimizer.learning_rate": {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}}


def sweep(
    updates: tuple[str, ...] = ("sam",), trials: int = 4, root: str | None = None, **space: Any
) -> tuple[StudySpec, ...]:
    """The studies of a sweep with one cell per update."""
    raw = {
        "name": "s",
        "data": {"names": ["synthetic"] if root is None else ["baby"], "root": root},
        "axes": {"model": ["freedom"], "update": list(updates)},
        "space": {"tune": ["update"], **space},
        "search": {"trials": trials},
    }
    return studies(parse(raw))


def serving(*updates: str, trials: int = 4, sampler: str = "random", seeds: tuple[int, ...] = (1,)) -> CellSearcher:
    return CellSearcher(sweep(updates or ("sam",), trials), sampler, seeds, "max")


def result(epoch: int, score: float | None, status: str = "running", **more: Any) -> dict[str, Any]:
    """A trial's result as the searcher sees it; the best score is the last one unless it is given."""
    values = {"epoch": epoch, "score": score, "best_score": score, "status": status, "validated": status == "running"}
    return values | {"gradient_evaluations": 10 * epoch} | more


def told(study: CellStudy) -> list[FrozenTrial]:
    """What Optuna knows of the points that were proposed."""
    return study.optuna.get_trials(deepcopy=False, states=[s for s in TrialState if s is not TrialState.WAITING])


def only(searcher: CellSearcher) -> CellStudy:
    (study,) = searcher.cells.values()
    return study


def run_all(searcher: CellSearcher, score: Callable[[Mapping[str, Any]], float]) -> list[dict[str, Any]]:
    """Runs every trial to its end, one after the other, and returns their configurations."""
    configurations = []
    while isinstance(proposal := searcher.suggest(f"t{len(configurations)}"), dict):
        name = f"t{len(configurations)}"
        configurations.append(proposal["trial"])
        searcher.on_trial_complete(name, result(1, score(proposal["trial"]), "finished"))
    return configurations


@given(st.lists(st.integers(0, 50), min_size=12, max_size=12))
def test_the_cell_with_the_least_cost_is_served(costs: list[int]) -> None:
    searcher = serving("descent", "sam", "bsam", trials=5)
    spent, asked = Counter[str](), Counter[str]()
    for number, cost in enumerate(costs[: searcher.total_trials]):
        waiting = [cell for cell, study in searcher.cells.items() if asked[cell] < study.size]
        proposal = searcher.suggest(str(number))
        if isinstance(proposal, str):
            break
        cell = proposal["cell"]
        assert (spent[cell], asked[cell]) == min((spent[each], asked[each]) for each in waiting)
        asked[cell] += 1
        spent[cell] += cost
        searcher.on_trial_complete(str(number), result(1, 0.5, "finished", gradient_evaluations=cost))


def test_trials_that_still_run_count_as_asked_for() -> None:
    searcher = serving("sam", "bsam")
    served = [searcher.suggest(str(number))["cell"] for number in range(4)]  # type: ignore[index]
    assert served == [*searcher.cells, *searcher.cells]


@settings(max_examples=20)
@given(data=st.data(), sampler=st.sampled_from(["random", "grid"]))
def test_planned_points_do_not_depend_on_the_order_in_which_trials_end(data: st.DataObject, sampler: str) -> None:
    preset = "paper" if sampler == "grid" else "extended"
    cells = sweep(("mirror_gradient", "bsam_plus"), 6, preset=preset, tune=["model", "update", "optimizer"])
    searcher = CellSearcher(cells, sampler, (3, 4), "max")
    seen: dict[str, list[dict[str, Any]]] = {cell.cell: [] for cell in cells}
    running: list[str] = []
    for number in range(searcher.total_trials):
        proposal = searcher.suggest(str(number))
        assert isinstance(proposal, dict)
        seen[proposal["cell"]].append(proposal["trial"])
        running.append(str(number))
        for _ in range(data.draw(st.integers(0, len(running)))):
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            cost, score = data.draw(st.integers(0, 99)), data.draw(st.floats(0, 1))
            searcher.on_trial_complete(ended, result(1, score, "finished", gradient_evaluations=cost))
    for cell in cells:
        points = planned_points(cell, sampler, 3)
        assert points is not None and len(points) == 6
        assert seen[cell.cell] == [cell.config(point, seed) for point in points for seed in (3, 4)]


def test_a_point_with_several_seeds_is_told_once_with_their_mean() -> None:
    searcher = serving(trials=2, seeds=(5, 6, 7))
    configurations = [searcher.suggest(str(number))["trial"] for number in range(3)]  # type: ignore[index]
    assert [configuration.pop("seed") for configuration in configurations] == [5, 6, 7]
    assert configurations[0] == configurations[1] == configurations[2]
    for name, score in (("2", 0.6), ("0", 0.1)):
        searcher.on_trial_complete(name, result(1, score, "finished"))
        assert [trial.state for trial in told(only(searcher))] == [TrialState.RUNNING]
    searcher.on_trial_complete("1", result(1, 0.2, "finished"))
    (trial,) = told(only(searcher))
    assert trial.state is TrialState.COMPLETE and trial.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        (("finished", "running"), TrialState.PRUNED),
        (("running", "finished"), TrialState.PRUNED),
        (("finished", "diverged"), TrialState.FAIL),
        (("diverged", "running"), TrialState.FAIL),
    ],
)
def test_a_point_ends_as_its_worst_seed(ends: tuple[str, str], state: TrialState) -> None:
    searcher = serving(trials=1, seeds=(1, 2))
    for number, status in enumerate(ends):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), result(1, 0.5, status))
    assert [trial.state for trial in told(only(searcher))] == [state]


def test_a_finished_trial_is_complete_with_its_best_score_not_its_last() -> None:
    searcher = serving()
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.7))
    searcher.on_trial_complete("a", result(2, 0.4, "finished", best_score=0.7, validated=True))
    (trial,) = told(only(searcher))
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.7)


def test_a_trial_that_was_stopped_while_running_is_pruned_with_its_intermediate_values() -> None:
    searcher = serving()
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, None, validated=False))
    searcher.on_trial_result("a", result(2, 0.3))
    searcher.on_trial_result("a", result(3, 0.3, validated=False))
    # Tune does not pass on the result at which the scheduler stops a trial; it comes with the end.
    searcher.on_trial_complete("a", result(4, 0.2, best_score=0.3))
    (trial,) = told(only(searcher))
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {2: 0.3, 4: 0.2})


def test_epochs_that_a_restarted_trial_runs_again_are_reported_once() -> None:
    searcher = serving()
    searcher.suggest("a")
    for epoch in (1, 2, 3, 2, 3, 4):
        searcher.on_trial_result("a", result(epoch, epoch / 10))
    searcher.on_trial_complete("a", result(4, 0.4))
    assert told(only(searcher))[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_diverged_or_failed_trial_is_failed_even_with_a_good_score(status: str) -> None:
    searcher = serving()
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(1, 0.9, status))
    assert [trial.state for trial in told(only(searcher))] == [TrialState.FAIL]


def test_a_trial_that_could_not_be_built_is_failed_and_costs_nothing() -> None:
    searcher = serving()
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"status": "failed", "epoch": 0, "score": None, "validated": False})
    assert [trial.state for trial in told(only(searcher))] == [TrialState.FAIL]
    assert only(searcher).spent == 0


def test_a_lost_trial_is_failed_whatever_it_reported_before() -> None:
    searcher = serving()
    for name, how in (("a", {"error": True}), ("b", {"result": None})):
        searcher.suggest(name)
        searcher.on_trial_result(name, result(1, 0.9))
        searcher.on_trial_complete(name, **how)  # type: ignore[arg-type]
    assert [trial.state for trial in told(only(searcher))] == [TrialState.FAIL] * 2


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_nothing_is_left_running_after_the_end(sampler: str) -> None:
    searcher = serving("sam", "bsam", sampler=sampler, seeds=(1, 2))
    for number in range(6):
        searcher.suggest(str(number))
    searcher.on_trial_complete("0", result(1, 0.5, "finished"))
    searcher.close()
    states = [trial.state for study in searcher.cells.values() for trial in told(study)]
    assert states == [TrialState.FAIL] * len(states) and len(states) == 4


def test_less_is_better_in_the_mode_min() -> None:
    searcher = CellSearcher(sweep(), "random", (1,), "min")
    run_all(searcher, lambda config: float(config["update.rho"]))
    study = only(searcher).optuna
    assert study.direction is StudyDirection.MINIMIZE
    assert study.best_value == min(trial.params["update.rho"] for trial in told(only(searcher)))


def test_no_two_trials_have_the_same_name_even_where_their_configuration_is_the_same() -> None:
    cells = sweep(trials=3, narrow={"update.rho": {"kind": "choice", "values": [0.1, 0.2, 0.3]}})
    repeats = 0
    for seed in range(10):
        searcher = CellSearcher(cells, "tpe", (seed,), "max")
        proposals = [searcher.suggest(str(number)) for number in range(3)]
        names = [proposal["name"] for proposal in proposals if isinstance(proposal, dict)]
        repeats += 3 - len({str(proposal["trial"]) for proposal in proposals if isinstance(proposal, dict)})
        assert len(set(names)) == 3 and set(searcher.suggested) == set(names)
    assert repeats > 0


def test_a_sweep_is_finished_when_every_cell_has_run_its_trials() -> None:
    cells = sweep(("descent", "sam", "bsam"), trials=3)
    searcher = CellSearcher(cells, "random", (1, 2), "max")
    # Descent has nothing to tune, so its space has one point.
    assert searcher.total_trials == len(run_all(searcher, lambda config: 0.5)) == (1 + 3 + 3) * 2
    assert searcher.suggest("late") == Searcher.FINISHED


def _adaptive(seed: int) -> list[dict[str, Any]]:
    searcher = CellSearcher(sweep(trials=14, narrow=RATES), "tpe", (seed,), "max")
    configurations = run_all(searcher, lambda config: -abs(config["optimizer.learning_rate"] - 0.01))
    for configuration in configurations:
        del configuration["seed"]
    return configurations


def test_tpe_repeats_with_its_seed_and_differs_with_another() -> None:
    assert _adaptive(1) == _adaptive(1) != _adaptive(2)


def test_tpe_of_one_cell_does_not_hear_of_another_cells_scores() -> None:
    def rates(bad: float) -> list[float]:
        searcher = CellSearcher(sweep(("sam", "bsam"), 13, narrow=RATES), "tpe", (1,), "max")
        score = {"sam": lambda rate: rate, "bsam": lambda rate: bad * rate}
        ran = run_all(searcher, lambda config: score[config["update.name"]](config["optimizer.learning_rate"]))
        return [config["optimizer.learning_rate"] for config in ran if config["update.name"] == "sam"]

    assert rates(1.0) == rates(-1.0)


def test_optunas_own_messages_are_off() -> None:
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Fate:
    """How a trial goes, decided by its configuration: its score in every epoch, and how it ends after the last."""

    scores: tuple[float, ...]
    status: str

    @classmethod
    def of(cls, flat: Mapping[str, Any]) -> "Fate":
        rng = np.random.default_rng(int(config_digest(flat), 16))
        scores = tuple(rng.uniform(size=int(rng.integers(1, 6))).tolist())
        return cls(scores, str(rng.choice(["finished", "finished", "pruned", "diverged", "failed"])))

    def results(self, start: int = 1, earlier: bool = False) -> list[dict[str, Any]]:
        """What the trial reports from that epoch on; with `earlier` the first result carries those before it."""
        found = []
        for epoch in range(start, len(self.scores) + 1):
            last = epoch == len(self.scores) and self.status in ("finished", "pruned")
            status = self.status if last and self.status == "finished" else "running"
            best = max(self.scores[:epoch])
            found.append(result(epoch, self.scores[epoch - 1], status, best_score=best, validated=True, earlier=[]))
        if earlier and found:
            found[0]["earlier"] = self.results()[: start - 1]
        if self.status in ("diverged", "failed"):
            epoch, best = len(self.scores), max(self.scores)
            found.append(result(epoch, None, self.status, best_score=best, validated=False, earlier=[]))
        return found


class Drive:
    """A sweep driven one trial at a time, as Tune and the store would see it."""

    def __init__(self, cells: Sequence[StudySpec], sampler: str, seeds: tuple[int, ...], **more: Any) -> None:
        self.searcher = CellSearcher(cells, sampler, seeds, "max", **more)
        self.proposed: list[dict[str, Any]] = []
        self.stored: list[PastTrial] = []
        self.estimates = False

    def run(self, checkpoint: int = 0) -> "Drive":
        """Runs to the end; the first trial goes on from a checkpoint of that epoch."""
        while isinstance(proposal := self.searcher.suggest(str(len(self.proposed))), dict):
            identity, fate = str(len(self.proposed)), Fate.of(proposal["trial"])
            self.proposed.append(proposal)
            first = min(checkpoint, len(fate.scores)) if identity == "0" else 0
            *before, last = fate.results(max(1, first), earlier=first > 0)
            if self.estimates and fate.status == "pruned":
                last["best_score"] = None
            for each in before:
                self.searcher.on_trial_result(identity, each)
            self.searcher.on_trial_complete(identity, last)
            self.stored.append(self._past(proposal, fate, last))
        return self

    def _past(self, proposal: Mapping[str, Any], fate: Fate, last: Mapping[str, Any]) -> PastTrial:
        return PastTrial(
            name=proposal["name"],
            cell=proposal["cell"],
            candidate=proposal["candidate"],
            flat=proposal["trial"],
            status=fate.status,
            attempt=proposal["attempt"] + 1,
            best_score=last["best_score"],
            gradient_evaluations=last["gradient_evaluations"],
            device_seconds=1.0,
            scores=tuple(enumerate(fate.scores, start=1)),
            epochs=frozenset(range(1, len(fate.scores) + 1)),
            started=START + timedelta(seconds=len(self.stored)),
            row={},
        )

    def proposals(self) -> list[dict[str, Any]]:
        return [{name: each[name] for name in ("name", "cell", "candidate", "trial")} for each in self.proposed]

    def optuna(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that Optuna knows of every cell."""
        return {
            cell: [(each.number, each.params, each.state, each.value, each.intermediate_values) for each in told(study)]
            for cell, study in self.searcher.cells.items()
        }


def cut_off(trial: PastTrial, epochs: int) -> PastTrial:
    """The same trial as the store shows it where its driver died when so many epochs were stored."""
    scores = trial.scores[:epochs]
    best = max((score for _, score in scores), default=None)
    known = frozenset(range(1, len(scores) + 1))
    return replace(trial, status="running", scores=scores, best_score=best, epochs=known, gradient_evaluations=0)


def in_stored_order(trials: Sequence[PastTrial]) -> list[PastTrial]:
    """As `past_trials` returns them."""
    return sorted(trials, key=lambda trial: (trial.cell, trial.candidate, trial.flat["seed"]))


SPACES: dict[str, dict[str, Any]] = {
    "random": {"narrow": RATES},
    "grid": {"preset": "paper", "tune": ["model", "update"]},
    "tpe": {"narrow": RATES},
    # So few points that the sampler proposes some of them twice.
    "tpe of few points": {"narrow": {"update.rho": {"kind": "choice", "values": [0.1, 0.2, 0.3]}}},
}
TRIALS = {"random": 5, "grid": 5, "tpe": 13, "tpe of few points": 3}


def drive(kind: str, seeds: tuple[int, ...], **more: Any) -> Drive:
    updates = ("sam",) if kind == "tpe" else ("sam", "bsam")
    return Drive(sweep(updates, TRIALS[kind], **SPACES[kind]), kind.split(maxsplit=1)[0], seeds, **more)


@settings(max_examples=60)
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(SPACES)),
    seeds=st.sampled_from([(1,), (3, 1), (7,), (12,)]),
    stored=st.integers(0, 5),
    checkpoint=st.integers(0, 5),
)
def test_a_sweep_that_is_cut_off_anywhere_goes_on_as_if_it_had_not_been(
    data: st.DataObject, kind: str, seeds: tuple[int, ...], stored: int, checkpoint: int
) -> None:
    whole = drive(kind, seeds).run()
    ended = data.draw(st.integers(0, len(whole.stored)))
    midst = ended < len(whole.stored) and data.draw(st.booleans())
    past = whole.stored[:ended] + ([cut_off(whole.stored[ended], stored)] if midst else [])
    resumed = drive(kind, seeds, past=in_stored_order(past))
    assert resumed.searcher.left == len(whole.stored) - ended
    resumed.run(checkpoint if midst else 0)
    assert resumed.proposals() == whole.proposals()[ended:]
    assert resumed.optuna() == whole.optuna()
    attempts = [proposal["attempt"] for proposal in resumed.proposed]
    assert attempts == [1 if midst and number == 0 else 0 for number in range(len(attempts))]


@settings(max_examples=40)
@given(data=st.data(), kind=st.sampled_from(sorted(SPACES)), seeds=st.sampled_from([(1,), (3, 1), (7,)]))
def test_trials_of_which_the_store_lost_every_row_are_drawn_again(
    data: st.DataObject, kind: str, seeds: tuple[int, ...]
) -> None:
    whole = drive(kind, seeds).run()
    ended = data.draw(st.integers(1, len(whole.stored)))
    lost = data.draw(st.sets(st.integers(0, ended - 1), max_size=1 if kind.startswith("tpe") else 3))
    past = [trial for number, trial in enumerate(whole.stored[:ended]) if number not in lost]
    resumed = drive(kind, seeds, past=in_stored_order(past)).run()
    again = [whole.proposals()[number] for number in sorted({*lost, *range(ended, len(whole.stored))})]
    assert sorted(map(repr, resumed.proposals())) == sorted(map(repr, again))
    names = [each["name"] for each in resumed.proposed] + [trial.name for trial in past]
    assert len(set(names)) == len(names) == len(whole.stored)


@pytest.mark.parametrize(("key", "value"), [("update.rho", 0.123456), ("train.patience", 3), ("model.knn_k", 7)])
def test_a_stored_trial_of_another_study_is_refused(key: str, value: object) -> None:
    (first, *_) = drive("grid", (1,)).run().stored
    strange = replace(first, flat={**first.flat, key: value})
    with pytest.raises((StoreError, ValueError), match="must be"):
        drive("grid", (1,), past=[strange])


def test_data_may_lie_elsewhere_when_a_sweep_goes_on() -> None:
    whole = Drive(sweep(trials=3, root="/here"), "random", (1,)).run()
    moved = Drive(sweep(trials=3, root="/there"), "random", (1,), past=whole.stored[:2]).run()
    assert [each["name"] for each in moved.proposed] == [whole.proposed[2]["name"]]
    assert moved.proposed[0]["trial"] == whole.proposed[2]["trial"] | {"data.root": "/there"}


def test_unfinished_trials_come_first_in_the_order_in_which_they_began() -> None:
    whole = drive("random", (1,)).run()
    names = [trial.name for trial in whole.stored[:4]]
    began = [START + timedelta(days=day) for day in (3, 1, 2, 0)]
    pairs = zip(whole.stored[:4], began, ("running", "lost", "stopped", "finished"), strict=True)
    past = [replace(trial, started=at, status=status) for trial, at, status in pairs]
    resumed = drive("random", (1,), past=in_stored_order(past)).run()
    assert [each["name"] for each in resumed.proposed[:3]] == [names[1], names[2], names[0]]
    assert [each["attempt"] for each in resumed.proposed[:4]] == [1, 1, 1, 0]
    assert sorted(map(repr, resumed.proposals())) == sorted(map(repr, whole.proposals()[:3] + whole.proposals()[4:]))


def test_a_complete_sweep_has_nothing_left() -> None:
    whole = drive("random", (1,)).run()
    resumed = drive("random", (1,), past=in_stored_order(whole.stored))
    assert (resumed.searcher.left, resumed.searcher.suggest("late")) == (0, Searcher.FINISHED)


def test_earlier_epochs_that_a_restarted_trial_brings_are_told() -> None:
    searcher = serving()
    searcher.suggest("a")
    earlier = [result(1, 0.1), result(2, None, validated=False), result(3, 0.3)]
    searcher.on_trial_complete("a", result(4, 0.4, "finished", validated=True, earlier=earlier))
    assert told(only(searcher))[0].intermediate_values == {1: 0.1, 3: 0.3, 4: 0.4}


def test_tpe_draws_a_candidate_from_a_stream_of_its_own() -> None:
    """What the second candidate is does not hang on how many numbers were drawn for the first."""
    cells = sweep(trials=3, narrow=RATES)
    first, second = (CellSearcher(cells, "tpe", (1,), "max") for _ in range(2))
    for searcher, ends in ((first, ("finished", "finished")), (second, ("diverged", "failed"))):
        for name, status in zip("ab", ends, strict=True):
            searcher.suggest(name)
            searcher.on_trial_complete(name, result(1, 0.5, status))
    # Both are still in the phase in which TPE draws at random.
    third = [searcher.suggest("c")["trial"] for searcher in (first, second)]  # type: ignore[index]
    assert third[0] == third[1]
    rates = [trial.params["optimizer.learning_rate"] for trial in told(only(first))]
    assert len(set(rates)) == 3


def test_no_more_trials_are_under_way_than_the_limit_of_the_moment() -> None:
    room = 2
    searcher = CellSearcher(sweep(trials=6), "random", (1,), "max", limit=lambda: room)
    assert [isinstance(searcher.suggest(name), dict) for name in "abc"] == [True, True, False]
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", result(1, 0.5, "finished"))
    assert isinstance(searcher.suggest("c"), dict) and searcher.suggest("d") is None
    room = 4
    assert [isinstance(searcher.suggest(name), dict) for name in "def"] == [True, True, False]
    room = 1
    searcher.on_trial_complete("b", result(1, 0.5, "finished"))
    assert searcher.suggest("f") is None


def test_a_trial_occupies_the_share_of_its_cell() -> None:
    shares = {"sam": Share(2, 0.5), "bsam": Share(1, 0)}
    searcher = CellSearcher(sweep(("sam", "bsam")), "random", (1,), "max", shares=lambda study: shares[study.update])
    served = [searcher.suggest(str(number)) for number in range(2)]
    assert [each["resources"] for each in served] == [(2, 0.5), (1, 0)]  # type: ignore[index]


def test_after_an_order_to_stop_no_trial_begins() -> None:
    guard = Guard()
    searcher = drive("random", (1,), guard=guard).searcher
    assert isinstance(searcher.suggest("a"), dict)
    guard.stop("stop", "enough")
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_stopped_sweep_does_not_begin_unfinished_trials_again() -> None:
    whole, guard = drive("random", (1,)).run(), Guard()
    guard.stop("stop", "enough")
    resumed = drive("random", (1,), guard=guard, past=[replace(whole.stored[0], status="stopped")])
    assert resumed.searcher.suggest("a") == Searcher.FINISHED


def test_a_cell_that_has_spent_its_share_is_not_served_and_the_others_are() -> None:
    cells = sweep(("sam", "bsam"), trials=3)
    guard = Guard(Budget(BudgetSection(amount=25), [cell.cell for cell in cells]))
    searcher = CellSearcher(cells, "random", (1,), "max", guard=guard)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    guard.charge(first["cell"], first["name"], 25, 1.0)
    served = [proposal["cell"] for name in "bcd" if isinstance(proposal := searcher.suggest(name), dict)]
    assert served == [cells[1].cell] * 3 and searcher.suggest("e") == Searcher.FINISHED
    assert list(guard.refused) == [cells[0].cell] and guard.kind is None


def test_a_limit_of_trials_lets_unfinished_ones_go_on_and_none_begin() -> None:
    whole = drive("random", (1,)).run()
    cells = sorted({trial.cell for trial in whole.stored})
    guard = Guard(Budget(BudgetSection(amount=1, unit="trials"), cells))
    mine = [trial for trial in whole.stored if trial.cell == cells[0]][:1]
    for trial in mine:
        assert guard.budget is not None
        guard.budget.restore(trial.cell, trial.name, 10, 1.0)
    resumed = drive("random", (1,), guard=guard, past=[replace(trial, status="stopped") for trial in mine]).run()
    names = [each["name"] for each in resumed.proposed]
    assert names[0] == mine[0].name and len(names) == 2
    assert [each["cell"] for each in resumed.proposed] == cells


def test_optuna_is_not_asked_to_keep_what_the_store_keeps(tmp_path: Any) -> None:
    searcher = serving()
    searcher.save(str(tmp_path / "state"))
    searcher.restore(str(tmp_path / "state"))
    assert list(tmp_path.iterdir()) == []


def test_a_trial_pruned_by_its_estimates_is_pruned_and_one_without_any_validation_has_failed() -> None:
    searcher = serving()
    for name in "ab":
        searcher.suggest(name)
    searcher.on_trial_complete("a", result(5, 0.3, best_score=None))
    searcher.on_trial_complete("b", result(5, None, best_score=None, validated=False))
    pruned, failed = told(only(searcher))
    assert (pruned.state, pruned.value, pruned.intermediate_values) == (TrialState.PRUNED, 0.3, {5: 0.3})
    assert failed.state is TrialState.FAIL


@pytest.mark.parametrize("seeds", [(1,), (3, 1)])
def test_a_study_is_rebuilt_with_trials_that_were_pruned_by_their_estimates(seeds: tuple[int, ...]) -> None:
    whole = drive("tpe", seeds).run()
    # All that the store and the live searcher knew of the pruned ones was estimated.
    estimated = drive("tpe", seeds)
    estimated.estimates = True
    estimated.run()
    assert any(trial.best_score is None and trial.status == "pruned" for trial in estimated.stored)
    resumed = drive("tpe", seeds, past=in_stored_order(estimated.stored))
    assert resumed.optuna() == estimated.optuna()
    states = [[each[2] for each in drive.optuna()[cell]] for drive in (whole, estimated) for cell in drive.optuna()]
    assert TrialState.PRUNED in states[0] and states[0] == states[1]
