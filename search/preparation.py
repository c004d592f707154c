"""What is done before a sweep starts: mistakes in its configurations are found, and its cost is reckoned."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import torch

from search.errors import SpecError
from search.names import ConfigValue
from search.plan import CellTiming, Estimate
from search.spec import SweepSpec
from search.study_spec import StudySpec
from spaces.params import Parameter, Value
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import ConfigError
from trainables.objectives import OBJECTIVES
from trainables.trainer import Trainer
from trainables.updates import UPDATES

PROBE_BATCHES = 24
STARTUP = Estimate(low=5.0, mid=12.0, high=30.0)
"""Seconds from the command to the first epoch: Ray starts, and its workers import PyTorch."""

SETUP_S = 0.3
"""From a trial's start to its first epoch on a worker that is already up."""

SPREAD = Estimate(low=0.8, mid=1.0, high=1.6)
"""A real trial's seconds over the probe's, where it runs alone."""

SIDE_BY_SIDE = 1.4
"""What trials that share a machine's memory bandwidth take longer; measured with two trials on two cores."""


def check_configurations(studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle], seed: int) -> None:
    """Returns if every cell's extreme points are valid configurations, and every trial can be built on its data.

    Raises:
        SpecError: a value that the space admits lies outside its field's range.
        ModelError: a model cannot work with a data set, or an objective with a model.
    """
    built: set[tuple[str, ...]] = set()
    for study in studies:
        for config in [_parse(study, point, seed) for point in extreme_points(study)]:
            numbers = config.model.model_dump_json(), config.objective.model_dump_json()
            key = (study.dataset, study.model, study.objective, *numbers)
            if key not in built:
                built.add(key)
                Trainer(config, bundles[study.dataset])


def extreme_points(study: StudySpec) -> Iterator[dict[str, Value]]:
    """Points that between them hold both ends of every range and every value of every choice.

    The first has every parameter at its first value; each of the others has one parameter at another one.
    """
    values = {name: _extremes(parameter) for name, parameter in study.space.parameters.items()}
    first = {name: known[0] for name, known in values.items()}
    yield first
    for name, known in values.items():
        yield from ({**first, name: value} for value in known[1:])


def _extremes(parameter: Parameter) -> tuple[Value, ...]:
    match parameter.kind:
        case "float" | "int":
            return tuple(dict.fromkeys((parameter.low, parameter.high)))
        case "choice":
            return parameter.values
        case "fixed":
            return (parameter.value,)


def _parse(study: StudySpec, point: Mapping[str, Value], seed: int) -> TrialConfig:
    try:
        return TrialConfig.from_flat(study.config(point, seed))
    except ConfigError as error:
        raise SpecError(f"cell {study.cell}: {error}") from None


def gradient_evaluations(flat: Mapping[str, ConfigValue], batches: int) -> list[int]:
    """A configuration's own count of its gradient evaluations, epoch by epoch, at full length.

    Losses whose gradient the update takes in an epoch, times the passes that one loss costs in it (AMR's costs two once
    it is warm).

    Args:
        batches: of one pass over the data.
    """
    config = TrialConfig.from_flat(flat)
    losses = UPDATES[config.update_name](config.update).gradient_evaluations(batches)
    # What a loss costs does not depend on the layers that the objective works on; so it is built without any.
    objective = OBJECTIVES[config.objective_name](config.objective, {}, torch.Generator())
    return [losses * objective.gradient_evaluations(epoch) for epoch in range(1, config.train.max_epochs + 1)]


def batches_per_epoch(spec: SweepSpec, bundles: Mapping[str, DataBundle]) -> dict[str, int]:
    """Training batches per epoch of each data set, by its name."""
    return {name: -(-len(bundle.train) // spec.train.batch_size) for name, bundle in bundles.items()}


def probe(
    studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle], seed: int, concurrency: int
) -> dict[str, CellTiming]:
    """How long each cell's parts take on this machine, from a few batches of one trial a (data set, model, objective).

    Updates of the same model differ in the number of gradient evaluations, which the plan counts, and little in the
    seconds of one; so one update is timed for all. The trial is timed alone; where several will run side by side, the
    likely and the most seconds are those of `SIDE_BY_SIDE`.
    """
    beside = SIDE_BY_SIDE if concurrency > 1 else 1.0
    timings: dict[str, CellTiming] = {}
    keyed = sorted(studies, key=_probe_key)
    for _, group in itertools.groupby(keyed, key=_probe_key):
        members = list(group)
        study = members[0]
        point = next(extreme_points(study))
        trainer = Trainer(_parse(study, point, seed), bundles[study.dataset])
        seconds, *validations = trainer.rehearse(PROBE_BATCHES)
        estimate = Estimate(seconds * SPREAD.low, seconds * SPREAD.mid * beside, seconds * SPREAD.high * beside)
        timing = CellTiming(SETUP_S, estimate, *(each * beside for each in validations))
        timings |= {member.cell: timing for member in members}
    return timings


def local_concurrency(spec: SweepSpec) -> int:
    """Trials that would run at once on this machine's CPUs."""
    wanted = spec.resources.max_concurrent
    holds = max(1, len(os.sched_getaffinity(0)) // spec.resources.cpu)
    return holds if wanted == "auto" else min(wanted, holds)


def with_startup(wall: Estimate) -> Estimate:
    """The wall time from the command to its end."""
    return Estimate(wall.low + STARTUP.low, wall.mid + STARTUP.mid, wall.high + STARTUP.high)


def _probe_key(study: StudySpec) -> tuple[str, str, str]:
    return study.dataset, study.model, study.objective
