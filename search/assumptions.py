"""What a comparison assumes of the stored trials: refused where it does not hold, noted where it weakens the result."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from search.arm_results import Yardstick
from search.arms import BASE_ARM, FAILED, TRUNCATED, UNDECIDED, Task, only_estimated
from search.controls import missing_controls
from search.errors import ComparisonError
from search.significance import TASKS_FOR_SIGNED_RANKS
from search.spec import SweepSpec
from search.wording import plural
from spaces.nearest import did_you_mean

FEW = 16
"""Configurations an arm below which no simulation has shown that intervals hold what they say (test_coverage.py)."""


def check_samplers(specs: Mapping[str, SweepSpec]) -> None:
    """Return if no sweep's sampler learns from earlier trials.

    Raises:
        ComparisonError: naming the first sweep whose sampler does.
    """
    for name, spec in specs.items():
        if spec.search.sampler not in ("random", "grid"):
            raise ComparisonError(
                f"sweep {name}: search.sampler must be random, or grid run whole, because what a budget buys is "
                f"estimated from independent trials, but it is {spec.search.sampler}, which learns from earlier ones; "
                "launch it again with search.sampler=random"
            )


def check_trials(names: Sequence[str], trials: pd.DataFrame) -> None:
    """Return if every sweep has a finished trial.

    Raises:
        ComparisonError: naming the first sweep that has none.
    """
    finished = trials[(trials["status"] == "finished") & trials["best_score"].notna()]
    for name in names:
        if not (finished["sweep"] == name).any():
            raise ComparisonError(f"sweep {name}: at least one trial must have finished with a score, but none has")


def choose_arms(wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the arms to compare, the base arm first; all known ones where none is wanted.

    Raises:
        ComparisonError: one is unknown, or fewer than two are left.
    """
    for arm in wanted:
        if arm not in known:
            listed = ", ".join(known)
            raise ComparisonError(f"an arm must be one of {listed}, but got {arm!r}{did_you_mean(arm, known)}")
    if BASE_ARM not in known:
        raise ComparisonError(
            f"the base arm `{BASE_ARM}` must be among the arms, but the sweeps have {', '.join(known)}"
        )
    chosen = tuple(dict.fromkeys((BASE_ARM, *(wanted or known))))
    if len(chosen) < 2:
        raise ComparisonError(f"at least two arms must be compared, but the sweeps have only `{BASE_ARM}`")
    return chosen


def check_grids(specs: Mapping[str, SweepSpec], decided: pd.DataFrame, tasks: Sequence[Task]) -> None:
    """Return if every arm of a grid sweep was run whole: the first points of a grid are no random draw.

    Raises:
        ComparisonError: naming the first arm that was not.
    """
    grids = [name for name, spec in specs.items() if spec.search.sampler == "grid"]
    from_grids = decided[decided["sweep"].isin(grids)]
    for task in tasks:
        for arm in task.arms.values():
            rows = from_grids[(from_grids["task"] == task.name) & (from_grids["arm"] == arm.name)]
            if len(rows) and not arm.exhausted:
                raise ComparisonError(
                    f"task {task.name}, arm {arm.name}: a grid must be run whole to be compared, because its first "
                    f"points are no random draw, but {arm.distinct} of {arm.space_size} configurations have ended"
                )


def notes(
    specs: Mapping[str, SweepSpec],
    trials: pd.DataFrame,
    decided: pd.DataFrame,
    tasks: Sequence[Task],
    yardsticks: Mapping[str, Yardstick],
) -> Iterator[str]:
    """Yield what a reader must know to weigh the comparison, one sentence each.

    Args:
        trials: every trial of the sweeps.
        decided: those that are compared.
    """
    yield from _notes_on_trials(specs, trials, decided)
    yield from _notes_on_settings(specs, decided)
    yield from _notes_on_few(tasks)
    for name, yardstick in yardsticks.items():
        yield f"{name}: the base score {yardstick.base:.4f} is that of {BASE_ARM}, {yardstick.base_source}."
        if not yardstick.has_gain:
            yield f"{name}: no arm found anything better than the base score, so there is no gain to reach."
    if len(tasks) < TASKS_FOR_SIGNED_RANKS:
        names = ", ".join(task.name for task in tasks)
        yield f"The verdicts hold for {names} only; {TASKS_FOR_SIGNED_RANKS} tasks are needed to speak beyond them."


def _notes_on_trials(specs: Mapping[str, SweepSpec], trials: pd.DataFrame, decided: pd.DataFrame) -> Iterator[str]:
    undecided, estimated = int(trials["status"].isin(UNDECIDED).sum()), int(only_estimated(specs, decided).sum())
    failed = int((decided["status"].isin(FAILED) | decided["best_score"].isna()).sum()) - estimated
    truncated = int((decided["status"].isin(TRUNCATED) & decided["best_score"].notna()).sum())
    if undecided:
        yield f"Trials left out because they still run or were lost with their machine: {undecided}."
    if failed:
        yield (
            f"Trials that failed, diverged or were never validated: {failed}. They count with their cost and with the "
            "worst score seen on their task."
        )
    if truncated:
        yield (
            f"Trials that were pruned or stopped early: {truncated}. They count with their cost and with their best "
            "score so far, a lower bound; their arms have no harm rate, and pruned trials are not quite independent."
        )
    if estimated:
        yield (
            f"Trials that were pruned or stopped when there were only estimates of their scores: {estimated}. They "
            "count with their cost and, as an estimate is no score, with the worst score seen on their task; their "
            "arms have no harm rate."
        )


def _notes_on_settings(specs: Mapping[str, SweepSpec], decided: pd.DataFrame) -> Iterator[str]:
    if decided["seed"].nunique() == 1:
        yield f"Every trial ran with the one seed {decided['seed'].iloc[0]}: luck of the seed is part of every score."
    elif any(len(spec.search.seeds) > 1 for spec in specs.values()):
        yield "A configuration that ran with several seeds counts once, with its mean score and its total cost."
    if len({spec.train.model_dump_json() for spec in specs.values()}) > 1:
        yield "The sweeps differ in their training settings (`train`), which the arms are not to blame for."
    yield from missing_controls(zip(decided["objective"], decided["update"], strict=True))


def _notes_on_few(tasks: Sequence[Task]) -> Iterator[str]:
    few = [(arm.trials, arm.name, task.name) for task in tasks for arm in task.arms.values() if not arm.exhausted]
    count, arm, task = min(few, default=(FEW, "", ""))
    if count < FEW:
        yield (
            f"{arm} on {task} has {plural(count, 'configuration')}, and no arm fewer: below {FEW} a bootstrap draws "
            "the same few scores again and again, so shares of draws and intervals look surer than they are."
        )
