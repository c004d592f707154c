"""What a sweep will do and cost, before anything runs.

All counts are for trials of full length, `train.max_epochs`: early stopping, pruning and divergence only lower them.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from search.points import planned_points
from search.spec import SweepSpec, studies
from search.study import StudySpec
from spaces.params import Choice, Fixed, Value

# (update's name, its hyperparameters by bare name, batches per epoch) -> gradient evaluations per epoch
GradientEvaluations: TypeAlias = Callable[[str, Mapping[str, Value], int], int]


@dataclass(frozen=True)
class Count:
    """A number that lies in [low, high]; exact where both are the same."""

    low: int
    high: int

    @property
    def exact(self) -> bool:
        """Whether the number is known."""
        return self.low == self.high


@dataclass(frozen=True)
class Estimate:
    """A number of seconds: the least, the likely and the most."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class CellPlan:
    """What one cell will do.

    Attributes:
        configurations: points that are tried.
        trials: configurations times seeds.
        tuned: names of the hyperparameters that have more than one value.
        space_size: points of the space; None where one is continuous.
        batches: training batches per epoch.
        gradient_evaluations_per_epoch: least and most over the points.
        gradient_evaluations: of all trials at full length; exact for random and grid search.
        validations: of all trials at full length.
    """

    cell: str
    configurations: int
    trials: int
    tuned: tuple[str, ...]
    space_size: int | None
    batches: int
    gradient_evaluations_per_epoch: Count
    gradient_evaluations: Count
    validations: int


@dataclass(frozen=True)
class Plan:
    """What a sweep will do, cell by cell; all counts at full length."""

    name: str
    digest: str
    max_epochs: int
    cells: tuple[CellPlan, ...]

    @property
    def trials(self) -> int:
        """Trials of all cells."""
        return sum(cell.trials for cell in self.cells)

    @property
    def gradient_evaluations(self) -> Count:
        """Gradient evaluations of all cells."""
        counts = [cell.gradient_evaluations for cell in self.cells]
        return Count(sum(count.low for count in counts), sum(count.high for count in counts))


@dataclass(frozen=True)
class CellTiming:
    """How long one trial's parts take in one cell, from a probe or from the store's history.

    Attributes:
        setup_s: seconds before the first epoch, once per trial.
        gradient_evaluation_s: seconds per gradient evaluation.
        evaluation_s: seconds per validation.
    """

    setup_s: float
    gradient_evaluation_s: Estimate
    evaluation_s: float


@dataclass(frozen=True)
class Prediction:
    """How long a sweep of full-length trials takes.

    Attributes:
        cells: seconds of trials per cell, summed over its trials; None where there is no evidence for a cell.
        trial_s: seconds of all trials, one after the other; None where a cell has no evidence.
        wall_s: seconds from start to end at the concurrency; None where a cell has no evidence.
        concurrency: trials that run at once.
    """

    cells: Mapping[str, Estimate | None]
    trial_s: Estimate | None
    wall_s: Estimate | None
    concurrency: int


def plan(spec: SweepSpec, batches: Mapping[str, int], gradient_evaluations: GradientEvaluations) -> Plan:
    """Return what the sweep will do.

    Args:
        batches: training batches per epoch of each data set, by its name.
        gradient_evaluations: the update's own count; it is given every hyperparameter of the update by bare name.
    """
    cells = tuple(_cell_plan(spec, study, batches[study.dataset], gradient_evaluations) for study in studies(spec))
    return Plan(name=spec.name, digest=spec.digest, max_epochs=spec.train.max_epochs, cells=cells)


def predict(plan: Plan, timings: Mapping[str, CellTiming], concurrency: int) -> Prediction:
    """Return how long the planned trials take at full length.

    Args:
        timings: by cell; a cell that is missing has no evidence, and then neither has the sweep.
        concurrency: trials that run at once, at least 1.
    """
    if concurrency < 1:
        raise ValueError(f"`concurrency >= 1` must hold, but got {concurrency}")
    seconds = {cell.cell: _cell_seconds(cell, timings.get(cell.cell)) for cell in plan.cells}
    known = [(cell, estimate) for cell in plan.cells if (estimate := seconds[cell.cell]) is not None]
    if len(known) < len(plan.cells):
        return Prediction(cells=seconds, trial_s=None, wall_s=None, concurrency=concurrency)
    trial_s = _combine(sum, [estimate for _, estimate in known])
    longest = _combine(max, [_longest_trial(plan, cell, timings[cell.cell]) for cell, _ in known])
    slots = min(concurrency, plan.trials)
    wall = Estimate(
        low=max(trial_s.low / slots, longest.low),
        mid=max(trial_s.mid / slots, longest.mid),
        # Graham's bound: no order of starting trials on free slots takes longer.
        high=trial_s.high / slots + longest.high * (1 - 1 / slots),
    )
    return Prediction(cells=seconds, trial_s=trial_s, wall_s=wall, concurrency=concurrency)


def _cell_plan(spec: SweepSpec, study: StudySpec, batches: int, gradient_evaluations: GradientEvaluations) -> CellPlan:
    seeds, epochs = len(spec.search.seeds), spec.train.max_epochs
    points = planned_points(study, spec.search.sampler, spec.search.seeds[0])
    configurations = study.trials if points is None else len(points)
    candidates = _update_corners(study) if points is None else points
    per_epoch = [gradient_evaluations(study.update, _update_settings(study, point), batches) for point in candidates]
    cheapest, dearest = min(per_epoch), max(per_epoch)
    if points is None:
        total = Count(configurations * seeds * epochs * cheapest, configurations * seeds * epochs * dearest)
    else:
        total = Count(seeds * epochs * sum(per_epoch), seeds * epochs * sum(per_epoch))
    return CellPlan(
        cell=study.cell,
        configurations=configurations,
        trials=configurations * seeds,
        tuned=study.space.tuned(),
        space_size=study.space.size(),
        batches=batches,
        gradient_evaluations_per_epoch=Count(cheapest, dearest),
        gradient_evaluations=total,
        validations=configurations * seeds * math.ceil(epochs / spec.train.validate_every),
    )


def _update_settings(study: StudySpec, point: Mapping[str, Value]) -> dict[str, Value]:
    values = {**study.defaults(), **point}
    return {key.removeprefix("update."): value for key, value in values.items() if key.startswith("update.")}


def _update_corners(study: StudySpec) -> Iterator[dict[str, Value]]:
    """Yield the points between which an update's cost lies: it is monotone in every number, as in β."""
    domains = {key: domain for key, domain in study.space.parameters.items() if key.startswith("update.")}
    ends: list[Sequence[Value]] = [
        domain.grid() if isinstance(domain, Choice | Fixed) else (domain.low, domain.high)
        for domain in domains.values()
    ]
    for values in itertools.product(*ends):
        yield dict(zip(domains, values, strict=True))


def _cell_seconds(cell: CellPlan, timing: CellTiming | None) -> Estimate | None:
    return None if timing is None else _seconds(timing, cell.trials, cell.validations, cell.gradient_evaluations)


def _longest_trial(plan: Plan, cell: CellPlan, timing: CellTiming) -> Estimate:
    per_epoch = cell.gradient_evaluations_per_epoch
    # Where the points are known, the dearest one is among them; an adaptive sampler may never try it.
    least = per_epoch.high if cell.gradient_evaluations.exact else per_epoch.low
    count = Count(least * plan.max_epochs, per_epoch.high * plan.max_epochs)
    return _seconds(timing, 1, cell.validations // cell.trials, count)


def _seconds(timing: CellTiming, trials: int, validations: int, gradient_evaluations: Count) -> Estimate:
    least, most = gradient_evaluations.low, gradient_evaluations.high
    counts, speed = (least, (least + most) / 2, most), timing.gradient_evaluation_s
    fixed = trials * timing.setup_s + validations * timing.evaluation_s
    return Estimate(*(fixed + count * pace for count, pace in zip(counts, _bounds(speed), strict=True)))


def _combine(function: Callable[[Sequence[float]], float], estimates: Sequence[Estimate]) -> Estimate:
    low, mid, high = (function(values) for values in zip(*map(_bounds, estimates), strict=True))
    return Estimate(low, mid, high)


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.mid, estimate.high
