"""The tuning-cost comparison of arms at equal budget, with its uncertainty and what it assumes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, Protocol, TypeAlias, TypedDict

import pandas as pd

from search.answers import answers, cheapest_rows
from search.arm_results import Yardstick, band_rows, curve_rows, measure, result_row, target_rows, task_row
from search.arms import BASE_ARM, Task, decided_trials, read_specs, read_tasks
from search.assumptions import check_grids, check_samplers, check_trials, choose_arms, notes
from search.errors import ComparisonError
from search.verdicts import Verdict, judge, summarise

Cost: TypeAlias = Literal["gradient_evaluations", "device_seconds", "train_seconds", "trials"]
COST_UNITS: Mapping[Cost, str] = {
    "gradient_evaluations": "gradient evaluations",
    "device_seconds": "device-seconds",
    "train_seconds": "training seconds",
    "trials": "trials",
}


class Readable(Protocol):
    """The part of `search.store.Store` that a comparison uses."""

    def frame(self, view: str, sweep: str | None = None) -> pd.DataFrame:
        """Return a view's rows of one sweep."""


@dataclass(frozen=True)
class Comparison:
    """Arms compared at equal budget.

    Attributes:
        sweeps, arms: what is compared; the base arm comes first.
        cost: what budgets are counted in, a key of `COST_UNITS`.
        confidence: of the bands, for all numbers of trials at once.
        budget_statement: at which budget the arms are read, in one sentence per task.
        summary: how many pairs of arms could be told apart.
        notes: what was assumed, left out or counted in which way, one sentence each.
        tasks: per task the metric, its mode and the yardstick: `base`, `base_source`, `tuned_base`, `reference`,
            `reference_arm`, `budget`.
        results: per task and arm the space, the trials, what they cost, `affordable` (configurations that the budget
            buys at their mean cost), `expected_best` of so many, `gain` over the base as a share, `harm_rate` with its
            interval, `default_regret`, `regret_area`. Null where it cannot be known.
        curves: per task, arm and `budget` the expected best score `value`; `trusted` up to a third of the arm's trials.
        bands: per task, arm and number of `trials` the `median` best, `lower`, `upper`, `trusted`; `budget` is the
            number of trials times the arm's mean cost.
        targets: per task, arm and target the expected `trials` and `cost`; both null where it is `censored`.
        cheapest: per task and arm the expected `cost` of coming within 1 % of the best known score (infinite where no
            trial did), its bootstrap interval `low` to `high` (80 %), and `share`: how often it is the cheapest arm
            when every arm's trials are drawn again; `hits` of `candidates` trials came so close.
        answers: the questions of a reader in a hurry, answered in a sentence for each task.
        verdicts: the fields of `search.verdicts.Verdict`, one row per pair of arms, those told apart first.
    """

    sweeps: tuple[str, ...]
    arms: tuple[str, ...]
    cost: Cost
    confidence: float
    budget_statement: str
    summary: str
    notes: tuple[str, ...]
    tasks: pd.DataFrame
    results: pd.DataFrame
    curves: pd.DataFrame
    bands: pd.DataFrame
    targets: pd.DataFrame
    cheapest: pd.DataFrame
    answers: tuple[str, ...]
    verdicts: pd.DataFrame


def compare(
    store: Readable,
    sweeps: Sequence[str],
    arms: Sequence[str] = (),
    *,
    cost: Cost = "gradient_evaluations",
    confidence: float = 0.8,
    permutations: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Return the comparison of `arms` (of all, if none is named) with the base arm, plain `descent`.

    An arm is an update, an objective, or "objective+update"; a task is a data set with a model. The same store,
    arguments and seed give the same numbers.

    Raises:
        ComparisonError: the trials cannot support it; the sentence says why.
    """
    names = tuple(dict.fromkeys(sweeps))
    if not names:
        raise ComparisonError("at least one sweep must be named to be compared")
    specs = read_specs(_together(store, "sweeps", names))
    check_samplers(specs)
    trials = _together(store, "trials", names)
    check_trials(names, trials)
    decided = decided_trials(trials)
    chosen = choose_arms(arms, sorted(decided["arm"].unique()))
    decided = decided[decided["arm"].isin(chosen)]
    tasks = read_tasks(specs, decided, _together(store, "params", names), cost)
    check_grids(specs, decided, tasks)
    yardsticks = {task.name: measure(task) for task in tasks}
    frames = _arm_frames(tasks, yardsticks, chosen, confidence=confidence, permutations=permutations, seed=seed)
    cheapest = [row for task in tasks for row in cheapest_rows(task, chosen, yardsticks[task.name], seed)]
    return Comparison(
        sweeps=names,
        arms=chosen,
        cost=cost,
        confidence=confidence,
        budget_statement=_budget_statement(tasks, yardsticks, cost),
        notes=tuple(notes(specs, trials, decided, tasks, yardsticks)),
        **frames,
        cheapest=pd.DataFrame(cheapest),
        answers=tuple(
            sentence
            for task in tasks
            for sentence in answers(task, yardsticks[task.name], cheapest, frames["curves"], COST_UNITS[cost])
        ),
        **_verdicts(judge(tasks, yardsticks, chosen, seed)),
    )


def _together(store: Readable, view: str, sweeps: Sequence[str]) -> pd.DataFrame:
    frames = [store.frame(view, sweep) for sweep in sweeps]
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


class _ArmFrames(TypedDict):
    tasks: pd.DataFrame
    results: pd.DataFrame
    curves: pd.DataFrame
    bands: pd.DataFrame
    targets: pd.DataFrame


class _VerdictFrame(TypedDict):
    summary: str
    verdicts: pd.DataFrame


def _arm_frames(
    tasks: Sequence[Task],
    yardsticks: Mapping[str, Yardstick],
    arms: Sequence[str],
    *,
    confidence: float,
    permutations: int,
    seed: int,
) -> _ArmFrames:
    entries = [(task, task.arms[arm], yardsticks[task.name]) for task in tasks for arm in arms if arm in task.arms]
    curves = [curve_rows(*entry, permutations=permutations, seed=seed) for entry in entries]
    results = [result_row(*entry, rows) for entry, rows in zip(entries, curves, strict=True)]
    targets = [row for entry in entries for row in target_rows(*entry)]
    return {
        "tasks": pd.DataFrame([task_row(task, yardsticks[task.name]) for task in tasks]),
        "results": pd.DataFrame(results).astype(_NULLABLE_RESULTS),
        "curves": pd.DataFrame([row for rows in curves for row in rows]),
        "bands": pd.DataFrame([row for entry in entries for row in band_rows(*entry, confidence)]),
        "targets": pd.DataFrame(targets).astype({"trials": "float64", "cost": "float64"}),
    }


# Columns that may be null in every row, which pandas would otherwise make columns of objects.
_NULLABLE_RESULTS = {"space_size": "Int64"} | dict.fromkeys(
    ("gain", "default_score", "default_regret", "regret_area", "harm_rate", "harm_low", "harm_high"), "float64"
)


def _verdicts(verdicts: Sequence[Verdict]) -> _VerdictFrame:
    ordered = sorted(verdicts, key=lambda verdict: verdict.winner is None)
    columns = [each.name for each in fields(Verdict)]
    return {
        "summary": summarise(ordered),
        "verdicts": pd.DataFrame([asdict(each) for each in ordered], columns=columns).astype({"winner": object}),
    }


def _budget_statement(tasks: Sequence[Task], yardsticks: Mapping[str, Yardstick], cost: Cost) -> str:
    if not any(arm.tuned for task in tasks for arm in task.arms.values()):
        return "No arm has anything to tune, so every arm is read after its only configuration."
    base_is_tuned = all(task.arms[BASE_ARM].tuned for task in tasks)
    base_budget = (
        "has the same budget for its own hyperparameters"
        if base_is_tuned
        else "has nothing to tune, so one configuration of it stands against all that the others tried"
    )
    budgets = [f"{yardstick.budget:,.0f} {COST_UNITS[cost]} on {name}" for name, yardstick in yardsticks.items()]
    return (
        f"Every arm is read at the same budget, {', '.join(budgets)}: the least that an arm with something to tune "
        f"spent there. The base arm, {BASE_ARM}, {base_budget}."
    )
