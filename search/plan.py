"""What a sweep will do and cost, before anything runs.

All counts are for trials of full length, `train.max_epochs`: early stopping, pruning and divergence only lower them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from search.names import ConfigValue
from search.points import planned_points
from search.spec import SweepSpec, studies
from search.study_spec import StudySpec
from spaces.params import Choice, Fixed, Value

# (a trial's complete flat configuration, batches per epoch) -> gradient evaluations of each of its epochs
GradientEvaluations: TypeAlias = Callable[[Mapping[str, ConfigValue], int], Sequence[int]]


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
        gradient_evaluations_per_epoch: least and most over the points and epochs.
        gradient_evaluations: of all trials at full length; exact for random and grid search.
        validations: of all trials at full length, estimates among them.
        estimates: of all trials; validations made by `train.early_validation`.
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
    estimates: int = 0


@dataclass(frozen=True)
class ProtocolRuns:
    """What one protocol will train of one cell's best configuration.

    Attributes:
        trainings: of all its seeds.
        batches: training batches per epoch, on the protocol's own split where it has one.
    """

    cell: str
    protocol: str
    trainings: int
    batches: int


@dataclass(frozen=True)
class ProtocolPlan:
    """What one protocol will cost in one cell, whose best configuration the search has yet to find.

    Attributes:
        trainings: of all its seeds.
        gradient_evaluations: of all trainings at full length, least and most over the configurations that may be best;
            what is measured after a training is not in it.
        validations: of all trainings at full length, estimates among them.
        estimates: of all trainings.
    """

    cell: str
    protocol: str
    trainings: int
    gradient_evaluations: Count
    validations: int
    estimates: int = 0


@dataclass(frozen=True)
class Plan:
    """What a sweep will do, cell by cell; all counts at full length."""

    name: str
    digest: str
    max_epochs: int
    cells: tuple[CellPlan, ...]
    protocols: tuple[ProtocolPlan, ...] = ()

    @property
    def trials(self) -> int:
        """Trials of all cells."""
        return sum(cell.trials for cell in self.cells)

    @property
    def gradient_evaluations(self) -> Count:
        """Gradient evaluations of all cells' trials."""
        return _sum([cell.gradient_evaluations for cell in self.cells])

    @property
    def protocol_trainings(self) -> int:
        """Trainings of all protocols."""
        return sum(protocol.trainings for protocol in self.protocols)

    @property
    def protocol_gradient_evaluations(self) -> Count:
        """Gradient evaluations of all protocols' trainings."""
        return _sum([protocol.gradient_evaluations for protocol in self.protocols])


@dataclass(frozen=True)
class CellTiming:
    """How long one trial's parts take in one cell, from a probe or from the store's history.

    Attributes:
        setup_s: seconds before the first epoch, once per trial.
        gradient_evaluation_s: seconds per gradient evaluation.
        evaluation_s: seconds per full validation.
        estimate_s: seconds per estimate.
    """

    setup_s: float
    gradient_evaluation_s: Estimate
    evaluation_s: float
    estimate_s: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """How long a sweep of full-length trials takes.

    Attributes:
        cells: seconds of trials per cell, summed over its trials; None where there is no evidence for a cell.
        trial_s: seconds of all trials, one after the other; None where a cell has no evidence.
        wall_s: seconds from start to end at the concurrency; None where a cell has no evidence.
        concurrency: trials that run at once.
        protocols: seconds of trainings per protocol and cell, in the plan's order; beside the sweep's own seconds.
    """

    cells: Mapping[str, Estimate | None]
    trial_s: Estimate | None
    wall_s: Estimate | None
    concurrency: int
    protocols: tuple[Estimate | None, ...] = ()

    @property
    def protocols_wall_s(self) -> Estimate | None:
        """Seconds of the protocols' trainings at the concurrency, after the search; None where one has no evidence."""
        known = [estimate for estimate in self.protocols if estimate is not None]
        if not known or len(known) < len(self.protocols):
            return None
        return Estimate(*(seconds / self.concurrency for seconds in _bounds(_combine(sum, known))))


def plan(
    spec: SweepSpec,
    batches: Mapping[str, int],
    gradient_evaluations: GradientEvaluations,
    protocols: Sequence[ProtocolRuns] = (),
) -> Plan:
    """Return what the sweep will do.

    Args:
        batches: training batches per epoch of each data set, by its name.
        gradient_evaluations: a configuration's own count, epoch by epoch.
        protocols: what is trained after the search.
    """
    known = {study.cell: study for study in studies(spec)}
    cells = tuple(_cell_plan(spec, study, batches[study.dataset], gradient_evaluations) for study in known.values())
    measured = tuple(_protocol_plan(spec, known[runs.cell], runs, gradient_evaluations) for runs in protocols)
    return Plan(spec.name, spec.digest, spec.train.max_epochs, cells, measured)


def predict(plan: Plan, timings: Mapping[str, CellTiming], concurrency: int) -> Prediction:
    """Return how long the planned trials take at full length.

    Args:
        timings: by cell; a cell that is missing has no evidence, and then neither has the sweep.
        concurrency: trials that run at once, at least 1.
    """
    if concurrency < 1:
        raise ValueError(f"`concurrency >= 1` must hold, but got {concurrency}")
    seconds = {cell.cell: _cell_seconds(cell, timings.get(cell.cell)) for cell in plan.cells}
    protocols = tuple(_protocol_seconds(protocol, timings.get(protocol.cell)) for protocol in plan.protocols)
    known = [(cell, estimate) for cell in plan.cells if (estimate := seconds[cell.cell]) is not None]
    if len(known) < len(plan.cells):
        return Prediction(seconds, trial_s=None, wall_s=None, concurrency=concurrency, protocols=protocols)
    trial_s = _combine(sum, [estimate for _, estimate in known])
    longest = _combine(max, [_longest_trial(plan, cell, timings[cell.cell]) for cell, _ in known])
    slots = min(concurrency, plan.trials)
    wall = Estimate(
        low=max(trial_s.low / slots, longest.low),
        mid=max(trial_s.mid / slots, longest.mid),
        # Graham's bound: no order of starting trials on free slots takes longer.
        high=trial_s.high / slots + longest.high * (1 - 1 / slots),
    )
    return Prediction(seconds, trial_s, wall, concurrency, protocols)


def _cell_plan(spec: SweepSpec, study: StudySpec, batches: int, gradient_evaluations: GradientEvaluations) -> CellPlan:
    seeds = len(spec.search.seeds)
    points = planned_points(study, spec.search.sampler, spec.search.seeds[0])
    configurations = study.trials if points is None else len(points)
    validations, estimates = (configurations * seeds * each for each in spec.train.validations())
    counts = [gradient_evaluations(config, batches) for config in _candidates(spec, study)]
    totals = [sum(count) for count in counts]
    if points is None:
        total = Count(configurations * seeds * min(totals), configurations * seeds * max(totals))
    else:
        total = Count(seeds * sum(totals), seeds * sum(totals))
    return CellPlan(
        cell=study.cell,
        configurations=configurations,
        trials=configurations * seeds,
        tuned=study.space.tuned(),
        space_size=study.space.size(),
        batches=batches,
        gradient_evaluations_per_epoch=Count(min(map(min, counts)), max(map(max, counts))),
        gradient_evaluations=total,
        validations=validations,
        estimates=estimates,
    )


def _protocol_plan(
    spec: SweepSpec, study: StudySpec, runs: ProtocolRuns, gradient_evaluations: GradientEvaluations
) -> ProtocolPlan:
    totals = [sum(gradient_evaluations(config, runs.batches)) for config in _candidates(spec, study)]
    validations, estimates = (runs.trainings * each for each in spec.train.validations())
    return ProtocolPlan(
        cell=study.cell,
        protocol=runs.protocol,
        trainings=runs.trainings,
        gradient_evaluations=Count(runs.trainings * min(totals), runs.trainings * max(totals)),
        validations=validations,
        estimates=estimates,
    )


def _candidates(spec: SweepSpec, study: StudySpec) -> list[dict[str, ConfigValue]]:
    """The configurations that are tried, or where results decide on them those between which they lie in cost."""
    seed = spec.search.seeds[0]
    points = planned_points(study, spec.search.sampler, seed)
    return [study.config(point, seed) for point in (_corners(study) if points is None else points)]


def _corners(study: StudySpec) -> Iterator[dict[str, Value]]:
    """Yield the points between which a trial's cost lies.

    It depends on the update's and the objective's hyperparameters alone, and is monotone in every number, as in β. A
    choice, such as that of the pairing, may lead anywhere; each of its values is taken.
    """
    domains = study.space.parameters
    ends: list[Sequence[Value]] = [
        domain.grid() if isinstance(domain, Choice | Fixed) else (domain.low, domain.high)
        for domain in domains.values()
    ]
    decides = [name.startswith(("update.", "objective.")) for name in domains]
    for values in itertools.product(*(end if free else end[:1] for end, free in zip(ends, decides, strict=True))):
        yield dict(zip(domains, values, strict=True))


def _sum(counts: Sequence[Count]) -> Count:
    return Count(sum(count.low for count in counts), sum(count.high for count in counts))


def _cell_seconds(cell: CellPlan, timing: CellTiming | None) -> Estimate | None:
    if timing is None:
        return None
    return _seconds(timing, cell.trials, cell.validations, cell.estimates, cell.gradient_evaluations)


def _protocol_seconds(protocol: ProtocolPlan, timing: CellTiming | None) -> Estimate | None:
    if timing is None:
        return None
    made = protocol.validations, protocol.estimates
    return _seconds(timing, protocol.trainings, *made, protocol.gradient_evaluations)


def _longest_trial(plan: Plan, cell: CellPlan, timing: CellTiming) -> Estimate:
    per_epoch = cell.gradient_evaluations_per_epoch
    # Where the points are known, the dearest one is among them; an adaptive sampler may never try it.
    least = per_epoch.high if cell.gradient_evaluations.exact else per_epoch.low
    count = Count(least * plan.max_epochs, per_epoch.high * plan.max_epochs)
    return _seconds(timing, 1, cell.validations // cell.trials, cell.estimates // cell.trials, count)


def _seconds(
    timing: CellTiming, trials: int, validations: int, estimates: int, gradient_evaluations: Count
) -> Estimate:
    least, most = gradient_evaluations.low, gradient_evaluations.high
    counts, speed = (least, (least + most) / 2, most), timing.gradient_evaluation_s
    validating = (validations - estimates) * timing.evaluation_s + estimates * timing.estimate_s
    fixed = trials * timing.setup_s + validating
    return Estimate(*(fixed + count * pace for count, pace in zip(counts, _bounds(speed), strict=True)))


def _combine(function: Callable[[Sequence[float]], float], estimates: Sequence[Estimate]) -> Estimate:
    low, mid, high = (function(values) for values in zip(*map(_bounds, estimates), strict=True))
    return Estimate(low, mid, high)


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.mid, estimate.high
