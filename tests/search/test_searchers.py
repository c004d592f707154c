"""One Optuna study per cell: who is served, what is proposed, and what Optuna is told about the end."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.points import planned_points
from search.searchers import CellSearcher, CellStudy
from search.spec import parse, studies
from search.study import StudySpec

RATES = {"optimizer.learning_rate": {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}}


def sweep(updates: tuple[str, ...] = ("sam",), trials: int = 4, **space: Any) -> tuple[StudySpec, ...]:
    """The studies of a sweep with one cell per update."""
    raw = {
        "name": "s",
        "data": {"names": ["synthetic"]},
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
