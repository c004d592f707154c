"""The tuning-cost comparison of arms at equal budget, with its uncertainty and what it assumes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, Protocol, TypeAlias, TypedDict

import pandas as pd

from search import profiles, ranking, transfer
from search.answers import answer_rows, cheapest_rows
from search.arm_results import Yardstick, band_rows, curve_rows, measure, result_row, target_rows, task_row
from search.arms import BASE_ARM, Task, decided_trials, read_specs, read_tasks
from search.assumptions import check_grids, check_samplers, check_trials, choose_arms, notes
from search.equal_budgets import equal_budget_rows
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
        ranking: how the arms rank over tasks, in one sentence; None with fewer than three tasks or arms.
        notes: what was assumed, left out or counted in which way, one sentence each.
        tasks: per task the metric, its mode and the yardstick: `base`, `base_source`, `tuned_base`, `reference`,
            `reference_arm`, `budget`.
        results: per task and arm the space, the trials, what they cost, `affordable` (configurations that the budget
            buys at their mean cost), `expected_best` of so many, `gain` over the base as a share, `regret_area`. How
            much its score hangs on its hyperparameters: `default_regret`, `harm_rate` with its interval, `deviation`,
            `iqr` and `p10` (what nine in ten configurations reach). Null where it cannot be known.
        equal_budgets: per task, arm and `budget` (a key of `search.equal_budgets.BUDGETS`) its `amount`, how many
            `trials` that buys, their `expected_best`, its `rank` among the arms, `leads`: the share of bootstrap draws
            in which it leads; `capped` where a published grid is larger than what was tried.
        curves: per task, arm and `budget` the expected best score `value`; `trusted` up to a third of the arm's trials.
        bands: per task, arm and number of `trials` the `median` best, `lower`, `upper`, `trusted`; `budget` is the
            number of trials times the arm's mean cost.
        targets: per task, arm and target the expected `trials` and `cost`; both null where it is `censored`.
        cheapest: per task and arm the expected `cost` of coming within 1 % of the best known score (infinite where no
            trial did), its interval `low` to `high` (80 %), and `share`: how often it is the cheapest arm when every
            arm's trials are drawn again; `hits` of `candidates` trials came so close.
        profiles: per arm and `factor` the `share` of the tasks on which it comes so close at no more than `factor`
            times the cheapest arm's cost. No rows with fewer than two tasks.
        ranks: per arm its `mean_rank` by expected best over `tasks`, and of all arms Friedman's `chi_square`, Iman and
            Davenport's `f` and the `p_value` by permutation. No rows with fewer than three tasks or arms.
        transfer: per setting, arm and ordered pair of data sets what the best configuration of `source` misses on
            `target`, in the metric (`regret`) and as a share of the best there (`relative`), among the `shared`
            configurations that ran on both. No rows with one data set; null where fewer than two are shared.
        answers: the questions of a reader in a hurry, per task `question` and `answer`.
        verdicts: the fields of `search.verdicts.Verdict`, one row per pair of arms: those told apart first, then those
            with the base arm.
    """

    sweeps: tuple[str, ...]
    arms: tuple[str, ...]
    cost: Cost
    confidence: float
    budget_statement: str
    summary: str
    ranking: str | None
    notes: tuple[str, ...]
    tasks: pd.DataFrame
    results: pd.DataFrame
    equal_budgets: pd.DataFrame
    curves: pd.DataFrame
    bands: pd.DataFrame
    targets: pd.DataFrame
    cheapest: pd.DataFrame
    profiles: pd.DataFrame
    ranks: pd.DataFrame
    transfer: pd.DataFrame
    answers: pd.DataFrame
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
    carried = transfer.transfer_rows(tasks, yardsticks, chosen)
    return Comparison(
        sweeps=names,
        arms=chosen,
        cost=cost,
        confidence=confidence,
        budget_statement=_budget_statement(tasks, yardsticks, cost),
        notes=(
            *notes(specs, trials, decided, tasks, yardsticks),
            *filter(None, [transfer.transfer_note(carried)]),
        ),
        **frames,
        **_overview(tasks, yardsticks, chosen, frames["curves"], cost, seed),
        transfer=pd.DataFrame(carried, columns=list(transfer.COLUMNS)).astype(_NULLABLE_TRANSFER),
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


class _Overview(TypedDict):
    ranking: str | None
    equal_budgets: pd.DataFrame
    cheapest: pd.DataFrame
    profiles: pd.DataFrame
    ranks: pd.DataFrame
    answers: pd.DataFrame


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


def _overview(
    tasks: Sequence[Task],
    yardsticks: Mapping[str, Yardstick],
    arms: Sequence[str],
    curves: pd.DataFrame,
    cost: Cost,
    seed: int,
) -> _Overview:
    """Return what holds the arms against each other, inside a task and over tasks."""
    cheapest = [row for task in tasks for row in cheapest_rows(task, arms, yardsticks[task.name], seed)]
    equal = [row for task in tasks for row in equal_budget_rows(task, arms, yardsticks[task.name], seed)]
    ranks = ranking.rank_rows(tasks, yardsticks, arms, seed)
    answers = [
        row
        for task in tasks
        for row in answer_rows(task, yardsticks[task.name], cheapest, curves, equal, COST_UNITS[cost])
    ]
    return {
        "ranking": ranking.ranking_sentence(ranks),
        "equal_budgets": pd.DataFrame(equal),
        "cheapest": pd.DataFrame(cheapest),
        "profiles": pd.DataFrame(profiles.profile_rows(tasks, arms, cheapest), columns=list(profiles.COLUMNS)),
        "ranks": pd.DataFrame(ranks, columns=list(ranking.COLUMNS)),
        "answers": pd.DataFrame(answers),
    }


_NULLABLE_TRANSFER = {"regret": "float64", "relative": "float64"}

# Columns that may be null in every row, which pandas would otherwise make columns of objects.
_NULLABLE_RESULTS = {"space_size": "Int64"} | dict.fromkeys(
    (
        *("gain", "default_score", "default_regret", "regret_area"),
        *("harm_rate", "harm_low", "harm_high", "deviation", "iqr", "p10"),
    ),
    "float64",
)


def _verdicts(verdicts: Sequence[Verdict]) -> _VerdictFrame:
    ordered = sorted(verdicts, key=lambda each: (each.winner is None, BASE_ARM not in (each.first, each.second)))
    frame = pd.DataFrame([asdict(each) for each in ordered], columns=[each.name for each in fields(Verdict)])
    # As a column of text it would hold NaN instead of None.
    winners = pd.Series([each.winner for each in ordered], dtype=object)
    return {"summary": summarise(ordered), "verdicts": frame.assign(winner=winners)}


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
