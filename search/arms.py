"""From the store's trials to what is compared: tasks, their arms, and a score and a cost per configuration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from search.errors import ComparisonError
from search.spec import SweepSpec, parse, studies
from search.study_spec import StudySpec
from search.tuning_cost import FloatArray, Mode
from spaces.params import Fixed
from spaces.presets import preset_space

BASE_ARM = "descent"

UNITS = ("trials", "gradient_evaluations", "device_seconds", "train_seconds")
"""What budgets can be counted in; all but trials are columns of the store."""

# What a trial's end means for its score. A lost machine says nothing about the configuration, a running trial not yet.
EVALUATED = ("finished",)
TRUNCATED = ("pruned", "stopped")
FAILED = ("failed", "diverged")
UNDECIDED = ("running", "lost")

# The tuned values of a trial without its seed, sorted by name: equal for trials of one configuration.
Point: TypeAlias = tuple[tuple[str, object], ...]

# By sweep and cell: the study, and the size of its published grid.
_Studies: TypeAlias = Mapping[tuple[str, str], tuple[StudySpec, int]]


@dataclass(frozen=True)
class Arm:
    """The evaluated configurations of one arm on one task; a configuration run with several seeds counts once.

    Attributes:
        scores: best validation score per configuration, the mean over its seeds; NaN where it failed, or was ended
            before it was validated in full. [n]
        costs: cost per configuration in the unit of the comparison, the sum over its seeds. [n]
        prices: the same in every one of `UNITS`. [n] each
        points: the tuned values of each configuration. [n]
        complete: whether all trials of the configuration finished with a score. [n]
        device_seconds: of all configurations together.
        finished, failed, truncated: trials by how they ended; their sum is the number of trials. A trial of which there
            are only estimates was truncated.
        tuned: names of the tuned hyperparameters.
        space_size: number of configurations in the space; None where it is continuous.
        published: number of configurations in the published grid of what the sweep tunes (the preset `paper`).
        distinct: number of distinct configurations among the n.
        default_score: score of the configuration whose tuned values are all the defaults, from this search or from a
            sweep that tuned nothing; None where it was not run.
    """

    name: str
    scores: FloatArray
    costs: FloatArray
    prices: Mapping[str, FloatArray]
    points: tuple[Point, ...]
    complete: npt.NDArray[np.bool_]
    device_seconds: float
    finished: int
    failed: int
    truncated: int
    tuned: tuple[str, ...]
    space_size: int | None
    published: int
    distinct: int
    default_score: float | None

    @property
    def trials(self) -> int:
        """The number of evaluated configurations, n."""
        return self.scores.size

    @property
    def exhausted(self) -> bool:
        """Whether the whole space was evaluated, so that a larger budget buys nothing more."""
        return self.space_size is not None and self.distinct >= self.space_size


@dataclass(frozen=True)
class Task:
    """What the arms share: data set and model (and optimizer, where the sweeps have several), and the goal.

    `setting` is the name without the data set: tasks that share it differ in their data alone.
    """

    name: str
    dataset: str
    setting: str
    metric: str
    mode: Mode
    arms: Mapping[str, Arm]


def arm_name(objective: str, update: str) -> str:
    """Return how an arm is called: the update, the objective where the update is plain descent, or both."""
    if objective == "plain":
        return update
    return objective if update == BASE_ARM else f"{objective}+{update}"


def read_specs(sweeps: pd.DataFrame) -> dict[str, SweepSpec]:
    """Return each sweep's specification by the sweep's name, as stored at its last start."""
    ordered = sweeps.sort_values("started", kind="stable")
    texts = zip(ordered["sweep"], ordered["spec_json"], strict=True)
    return {str(name): parse(json.loads(text), f"sweep {name}") for name, text in texts}


def decided_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that ended by themselves or were ended, with the columns `arm` and `task` added.

    A trial's name is its configuration's: one that several of the sweeps ran is the same trial and counts once.
    """
    decided = trials[~trials["status"].isin(UNDECIDED)].drop_duplicates(["cell", "trial"])
    arms = [arm_name(o, u) for o, u in zip(decided["objective"], decided["update"], strict=True)]
    tasks = decided["dataset"] + "/" + decided["model"]
    if decided["optimizer"].nunique() > 1:
        tasks = tasks + "/" + decided["optimizer"]
    return decided.assign(arm=arms, task=tasks)


def only_estimated(specs: Mapping[str, SweepSpec], trials: pd.DataFrame) -> pd.Series:
    """Return which trials were ended by order when early validation had only estimated their scores; bool [trials].

    They have no score: an estimate is none.
    """
    early = [name for name, spec in specs.items() if spec.train.early_validation is not None]
    return trials["sweep"].isin(early) & trials["status"].isin(TRUNCATED) & trials["best_score"].isna()


def read_tasks(
    specs: Mapping[str, SweepSpec], decided: pd.DataFrame, params: pd.DataFrame, cost: str
) -> tuple[Task, ...]:
    """Return the tasks of these sweeps in the order of their names, with every arm that has a decided trial.

    Args:
        specs, decided: what `read_specs` and `decided_trials` return.
        params: the store's view of the same sweeps.
        cost: which of `UNITS` `Arm.costs` are counted in.

    Raises:
        ComparisonError: a task mixes goals or data, or an arm is pooled from sweeps with different spaces.
    """
    studies_by_cell = {
        (name, study.cell): (study, _published(spec, study)) for name, spec in specs.items() for study in studies(spec)
    }
    prices = {unit: 1.0 if unit == "trials" else decided[unit].astype(float).fillna(0.0) for unit in UNITS}
    rows = decided.assign(point=_points(decided, params), estimated=only_estimated(specs, decided), **prices)
    return tuple(_read_task(str(name), group, studies_by_cell, cost) for name, group in rows.groupby("task", sort=True))


def _published(spec: SweepSpec, study: StudySpec) -> int:
    entries = {"model": study.model, "objective": study.objective, "update": study.update}
    return preset_space("paper", **entries, optimizer=study.optimizer, tune=spec.space.tune).finite_size()


def _points(trials: pd.DataFrame, params: pd.DataFrame) -> pd.Series:
    tuned = params[params["tuned"].astype(bool) & (params["name"] != "seed")].sort_values("name", kind="stable")
    values = tuned["number"].astype(object).where(tuned["number"].notna(), tuned["text"])
    points: dict[tuple[str, str], Point] = {}
    for sweep, trial, name, value in zip(tuned["sweep"], tuned["trial"], tuned["name"], values, strict=True):
        points[sweep, trial] = (*points.get((sweep, trial), ()), (name, value))
    keys = zip(trials["sweep"], trials["trial"], strict=True)
    return pd.Series([points.get(key, ()) for key in keys], index=trials.index, dtype=object)


def _read_task(name: str, rows: pd.DataFrame, studies_by_cell: _Studies, cost: str) -> Task:
    for column in ("metric", "mode", "data_digest"):
        found = sorted(rows[column].dropna().unique())
        if len(found) > 1:
            raise ComparisonError(f"task {name}: the trials that are compared must share one {column}, but got {found}")
    arms = {
        str(arm): _read_arm(f"task {name}, arm {arm}", str(arm), group, studies_by_cell, cost)
        for arm, group in rows.groupby("arm", sort=True)
    }
    mode: Mode = "min" if rows["mode"].iloc[0] == "min" else "max"
    dataset = str(rows["dataset"].iloc[0])
    return Task(name, dataset, name.removeprefix(f"{dataset}/"), str(rows["metric"].iloc[0]), mode, arms)


def _read_arm(where: str, name: str, rows: pd.DataFrame, studies_by_cell: _Studies, cost: str) -> Arm:
    untuned = _run_at_defaults(rows, studies_by_cell)
    rows, defaults_run = rows[~untuned], rows[untuned]
    study, published = _shared_study(where, rows, studies_by_cell)
    scores = _scores(rows)
    rows = rows.assign(score=scores, complete=scores.notna() & rows["status"].isin(EVALUATED))
    # A configuration of which one seed failed has failed: the mean over the seeds that survived would flatter it.
    configurations = (
        rows.groupby(["sweep", "point"], sort=False)
        .agg(
            score=("score", lambda seeds: seeds.mean(skipna=False)),
            complete=("complete", "all"),
            **{unit: (unit, "sum") for unit in UNITS},
        )
        .reset_index()
    )
    prices = {unit: configurations[unit].to_numpy(dtype=np.float64) for unit in UNITS}
    is_default = [_is_default(point, study) for point in configurations["point"]]
    defaults = pd.concat([configurations["score"][is_default], _scores(defaults_run)]).dropna()
    scored = rows["score"].notna()
    return Arm(
        name=name,
        scores=configurations["score"].to_numpy(dtype=np.float64),
        costs=prices[cost],
        prices=prices,
        points=tuple(configurations["point"]),
        complete=configurations["complete"].to_numpy(dtype=np.bool_),
        device_seconds=float(prices["device_seconds"].sum()),
        finished=int(rows["complete"].sum()),
        failed=int((~scored & ~rows["estimated"]).sum()),
        truncated=int((scored & rows["status"].isin(TRUNCATED)).sum() + rows["estimated"].sum()),
        tuned=study.space.tuned(),
        space_size=study.space.size(),
        published=published,
        distinct=int(configurations["point"].nunique()),
        default_score=float(defaults.mean()) if len(defaults) else None,
    )


def _run_at_defaults(rows: pd.DataFrame, studies_by_cell: _Studies) -> pd.Series:
    """Return which rows are of sweeps that ran the arm at its defaults alone, where others tuned it; bool [rows].

    They are no draws from a space: they say what the arm is worth untuned, and count neither as trials nor as cost.
    """
    keys = list(zip(rows["sweep"], rows["cell"], strict=True))
    known = {key: studies_by_cell[key][0] for key in dict.fromkeys(keys) if key in studies_by_cell}
    searched = [study for study in known.values() if study.space.tuned()]
    defaults = {
        key
        for key, study in known.items()
        if not study.space.tuned() and any(_at_defaults(study) == _at_defaults(other) for other in searched)
    }
    return pd.Series([key in defaults for key in keys], index=rows.index, dtype=bool)


def _at_defaults(study: StudySpec) -> dict[str, object]:
    """Return the configuration without the seed that has every tuned hyperparameter at its default."""
    fixed = {name: each.value for name, each in study.space.parameters.items() if isinstance(each, Fixed)}
    return {**study.base, **fixed}


def _scores(rows: pd.DataFrame) -> pd.Series:
    """Return the best scores, missing where the trial failed, however well it did before."""
    scores = rows["best_score"].astype(float).replace([np.inf, -np.inf], np.nan)
    return scores.where(~rows["status"].isin(FAILED))


def _shared_study(where: str, rows: pd.DataFrame, studies_by_cell: _Studies) -> tuple[StudySpec, int]:
    keys = list(dict.fromkeys(zip(rows["sweep"], rows["cell"], strict=True)))
    if unknown := [key for key in keys if key not in studies_by_cell]:
        raise ComparisonError(
            f"{where}: sweep {unknown[0][0]} must have the cell {unknown[0][1]}, but its spec has not"
        )
    first, *others = keys
    for key in others:
        if studies_by_cell[key][0].space != studies_by_cell[first][0].space:
            names = f"{first[0]} and {key[0]}"
            raise ComparisonError(f"{where}: sweeps that are pooled must search the same space, but {names} do not")
    return studies_by_cell[first]


def _is_default(point: Point, study: StudySpec) -> bool:
    return all(study.base.get(name) == value for name, value in point)
