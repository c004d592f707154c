"""How fast each arm gets to its best score: the best trials' scores against epochs, gradient evaluations and time.

An epoch does not cost the same under every update, so the same curves are read on three axes. What is drawn is the best
score so far: a run keeps its best weights, so what came later and was worse does not count, and a run that has ended
stays at its best.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from search.arms import BASE_ARM, decided_trials
from search.candidates import configuration, rank_configurations
from search.comparison import Readable
from search.errors import ComparisonError
from search.tuning_cost import FloatArray
from spaces.nearest import did_you_mean

AXES = ("epoch", "gradient_evaluations", "train_seconds")

# Shares of a run's own best score whose first reaching is reported.
SHARES = (0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Convergence:
    """The best configuration of every arm, epoch by epoch.

    Attributes:
        sweeps, arms: what is shown; plain descent comes first.
        notes: what a reader must know to weigh it, one sentence each.
        tasks: `task` (data set with model, and optimizer where the sweeps have several), `metric`, `mode`.
        runs: the trials behind the curves, one row per task, arm and seed: `sweep`, `trial`, `seed`, `score` (best of
            its curve), and where the run ended: `epoch`, `gradient_evaluations`, `train_seconds`.
        curves: per task, arm and `axis` of `AXES` the steps of the best score so far: at `x` it becomes `mean` over the
            seeds, between `low` and `high`; `training` is how many runs still train there. A curve begins where all
            its runs have been validated.
        milestones: per run and `share` of its own best score, where that was first reached: `score` there, `epoch`,
            `gradient_evaluations`, `train_seconds`.
    """

    sweeps: tuple[str, ...]
    arms: tuple[str, ...]
    notes: tuple[str, ...]
    tasks: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame
    milestones: pd.DataFrame


def convergence(store: Readable, names: Sequence[str], arms: Sequence[str] = ()) -> Convergence:
    """Return how the best configuration of each of `arms` (of all, if none is named) converged in the sweeps `names`.

    Raises:
        ComparisonError: an arm is unknown, no trial has finished with a score, or the trials of a task have different
            goals or data.
    """
    sweeps = tuple(dict.fromkeys(names))
    if not sweeps:
        raise ComparisonError("at least one sweep must be named to be drawn")
    trials = pd.concat([store.frame("trials", name) for name in sweeps], ignore_index=True)
    metrics = pd.concat([store.frame("metrics", name) for name in sweeps], ignore_index=True)
    found = converge(sweeps, trials, metrics, arms)
    if found.runs.empty:
        rule = "at least one trial must have finished with a score and its curve"
        raise ComparisonError(f"{rule}, but none of {', '.join(sweeps)} has")
    return found


def converge(
    sweeps: tuple[str, ...], trials: pd.DataFrame, metrics: pd.DataFrame, arms: Sequence[str] = ()
) -> Convergence:
    """Return the same from the store's views of `trials` and `metrics`; without finished trials its frames are empty.

    Raises:
        ComparisonError: as `convergence`, except that nothing need have finished.
    """
    finished = _finished(trials)
    chosen = _chosen_arms(arms, sorted(finished["arm"].unique(), key=lambda arm: (arm != BASE_ARM, arm)))
    shown = finished[finished["arm"].isin(chosen)]
    scores = _curves(metrics)
    tasks, runs, curves, milestones = [], [], [], []
    for name, rows in shown.groupby("task", sort=True):
        task = _task(str(name), rows)
        tasks.append(task)
        for arm in chosen:
            drawn = _runs(task, arm, rows[rows["arm"] == arm], scores)
            place = {"task": task["task"], "arm": arm}
            runs += [{**place, **_end(run)} for run in drawn]
            milestones += [{**place, **row} for run in drawn for row in _milestones(run, task["mode"])]
            curves += [{**place, **row} for row in _steps(drawn, task["mode"])] if drawn else []
    frame = pd.DataFrame(runs, columns=_RUNS)
    return Convergence(
        sweeps=sweeps,
        arms=tuple(arm for arm in chosen if (frame["arm"] == arm).any()),
        notes=tuple(_notes(shown, chosen, frame)),
        tasks=pd.DataFrame(tasks, columns=["task", "metric", "mode"]),
        runs=frame,
        curves=pd.DataFrame(curves, columns=["task", "arm", "axis", "x", "mean", "low", "high", "training"]),
        milestones=pd.DataFrame(milestones, columns=["task", "arm", "trial", "seed", "share", "score", *AXES]),
    )


_RUNS = ["task", "arm", "sweep", "trial", "seed", "score", *AXES]


@dataclass(frozen=True)
class _Run:
    """One trial's validations in the order of their epochs."""

    sweep: str
    trial: str
    seed: int
    score: FloatArray
    best: FloatArray
    costs: dict[str, FloatArray]


def _finished(trials: pd.DataFrame) -> pd.DataFrame:
    decided = decided_trials(trials) if len(trials) else trials.assign(arm="", task="")
    score = decided["best_score"].astype(float).replace([np.inf, -np.inf], np.nan)
    candidates = decided.assign(score=score)[(decided["status"] == "finished") & score.notna()]
    return candidates.assign(configuration=[configuration(text) for text in candidates["config_json"]])


def _chosen_arms(wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for arm in wanted:
        if arm not in known:
            listed = ", ".join(known) or "none yet"
            raise ComparisonError(
                f"an arm must be one that has a finished trial ({listed}), but got {arm!r}{did_you_mean(arm, known)}"
            )
    return tuple(arm for arm in known if arm in wanted or not wanted)


def _task(name: str, rows: pd.DataFrame) -> dict[str, str]:
    for column in ("metric", "mode", "data_digest"):
        found = sorted(rows[column].dropna().unique())
        if len(found) > 1:
            raise ComparisonError(f"task {name}: trials in one figure must share one {column}, but got {found}")
    return {"task": name, "metric": str(rows["metric"].iloc[0]), "mode": str(rows["mode"].iloc[0])}


def _curves(metrics: pd.DataFrame) -> pd.DataFrame:
    chosen = metrics[(metrics["split"] == "valid") & np.isfinite(metrics["value"].astype(float))]
    return chosen.sort_values(["sweep", "trial", "epoch"], kind="stable")


def _runs(task: dict[str, str], arm: str, rows: pd.DataFrame, scores: pd.DataFrame) -> list[_Run]:
    """Return the runs of the arm's best configuration that have a curve, one per seed."""
    mine = rows[rows["arm"] == arm].sort_values(["started", "trial"], kind="stable")
    if mine.empty:
        return []
    best = rank_configurations(mine, better_is_larger=task["mode"] == "max").iloc[0]
    members = mine[mine["configuration"] == best["configuration"]]
    goal = scores[scores["metric"] == task["metric"]]
    keys = zip(members["sweep"], members["trial"], members["seed"], strict=True)
    found = [(key, goal[(goal["sweep"] == key[0]) & (goal["trial"] == key[1])]) for key in keys]
    return [_run(*key, points, task["mode"]) for key, points in found if len(points)]


def _run(sweep: str, trial: str, seed: int, points: pd.DataFrame, mode: str) -> _Run:
    score = points["value"].to_numpy(dtype=np.float64)
    costs = {axis: points[axis].to_numpy(dtype=np.float64) for axis in AXES}
    return _Run(sweep, trial, int(seed), score, _accumulate(mode)(score), costs)


def _accumulate(mode: str) -> Callable[[FloatArray], FloatArray]:
    return np.minimum.accumulate if mode == "min" else np.maximum.accumulate


def _end(run: _Run) -> dict[str, object]:
    costs = {axis: float(cost[-1]) for axis, cost in run.costs.items()}
    return {"sweep": run.sweep, "trial": run.trial, "seed": run.seed, "score": float(run.best[-1]), **costs}


def _milestones(run: _Run, mode: str) -> Iterator[dict[str, object]]:
    """Yield where the run first came within (1 - share) x |best| of its best score, for each share."""
    turn = -1.0 if mode == "min" else 1.0
    best = float(run.best[-1])
    for share in SHARES:
        first = int(np.argmax(turn * (best - run.score) <= (1 - share) * abs(best)))
        costs = {axis: float(cost[first]) for axis, cost in run.costs.items()}
        yield {"trial": run.trial, "seed": run.seed, "share": share, "score": float(run.score[first]), **costs}


def _steps(runs: Sequence[_Run], mode: str) -> Iterator[dict[str, object]]:
    for axis in AXES:
        places = [run.costs[axis] for run in runs]
        start = max(place[0] for place in places)
        grid = np.unique(np.concatenate(places))
        grid = grid[grid >= start]
        # At each cost what every run had by then; one that has ended keeps its best.
        values = np.stack(
            [run.best[np.searchsorted(place, grid, side="right") - 1] for run, place in zip(runs, places, strict=True)]
        )  # [runs, grid]
        kept = _changes(values)
        for x, column in zip(grid[kept], values[:, kept].T, strict=True):
            summary = {"mean": float(column.mean()), "low": float(column.min()), "high": float(column.max())}
            training = sum(bool(place[-1] >= x) for place in places)
            yield {"axis": axis, "x": float(x), **summary, "training": training}


def _changes(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which columns of [runs, grid] differ from the one before; the first and the last always count."""
    kept = np.append(True, (np.diff(values, axis=1) != 0).any(axis=0))
    kept[-1] = True
    return kept


def _notes(shown: pd.DataFrame, chosen: Sequence[str], runs: pd.DataFrame) -> Iterator[str]:
    yield (
        "Best score so far: a run keeps its best weights, so a later, worse score does not count, and a run that has "
        "ended stays at its best."
    )
    yield (
        "Shares are of each arm's own best, so an arm that ends lower gets there sooner: read its score beside them."
    )
    if any("train.early_validation" in json.loads(text) for text in shown["config_json"]):
        yield (
            "Early validations of some trials were estimates, which are no scores: their curves and shares begin at "
            "the first full validation."
        )
    for arm in chosen:
        missing = sorted(set(shown.loc[shown["arm"] == arm, "task"]) - set(runs.loc[runs["arm"] == arm, "task"]))
        if missing:
            yield f"The store holds no validation curve of {arm} on {', '.join(missing)}."
    if len(runs) and not runs.duplicated(["task", "arm"]).any():
        yield "Every curve is one seed's: part of what lies between two of them is luck."
    devices = sorted(set(shown["device"].dropna()))
    if len(devices) > 1:
        yield f"The runs had different devices ({', '.join(devices)}), so their seconds do not compare."
    if any("dvib" in arm for arm in runs["arm"]):
        yield "DVIB runs part of the model twice in one gradient evaluation: hold it against others by seconds."
