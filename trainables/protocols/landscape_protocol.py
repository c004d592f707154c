"""The landscape protocol: the training loss around a trained configuration's weights (strategies.md §10)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.evaluation.landscape import Loss, Mode, coordinates, directions, loss_on_grid, random_direction
from trainables.evaluation.sharpness import (
    ascent_sharpness,
    average_sharpness,
    hessian_product,
    largest_eigenvalue,
)
from trainables.protocols.config import LandscapeConfig
from trainables.protocols.measurement import Measurement
from trainables.protocols.training import at_best, train
from trainables.seeding import numpy_stream, torch_stream
from trainables.trainer import Trainer
from trainables.types import Batch


def landscape(
    config: TrialConfig, data: DataBundle, settings: LandscapeConfig, *, device: torch.device | str = "cpu"
) -> list[Measurement]:
    """Trains a configuration and measures the loss around its best weights: grids, and sharpness in single numbers.

    The loss is the model's own, regularisers and all, whatever the objective of the training; its mean over a few
    training batches with their negatives. The model is in evaluation mode: no dropout, and the graphs of evaluation,
    not an epoch's pruned ones. Batches, negatives and directions are named by the seed alone, so that strategies of
    one model see the same; θ are the model's weights, not the objective's. Grids are in float32, the rest in float64.
    What is not finite is NaN; where the training diverged, so is every number, one for a whole grid.

    Raises:
        ModelError: the model cannot work with the data set.
    """
    trained = train(config, data, device)
    if trained.diverged:
        return trained.priced(_diverged(settings))
    found: list[Measurement] = []
    single = at_best(trained, data)
    for mode in settings.modes:
        found += _grid(single, mode, settings)
    if settings.ascent_rhos or settings.average_sigmas or settings.hessian:
        found += _sharpness(at_best(trained, data, dtype=torch.float64), settings)
    return trained.priced([m if math.isfinite(m.value) else replace(m, value=math.nan) for m in found])


def fixed_batches(trainer: Trainer, count: int) -> list[Batch]:
    """The first batches of a shuffle of the training pairs that only the seed decides, with negatives."""
    seed, model = trainer.config.seed, trainer.model
    streams = numpy_stream(seed, "landscape/batches"), numpy_stream(seed, "landscape/negatives")
    columns = trainer.sampler.epoch(*streams, 1 if model.uses_negatives else 0)
    size = trainer.config.train.batch_size
    parts = [torch.split(torch.from_numpy(column).to(trainer.device), size)[:count] for column in columns]
    return [Batch(*part) for part in zip(*parts, strict=True)]


def model_loss(trainer: Trainer, batches: Sequence[Batch]) -> Loss:
    """The model's mean loss over the batches, as a function of its weights.

    All batches share one pass through the model, because in evaluation mode nothing is drawn per batch.
    """
    model = trainer.model.eval()

    def loss() -> Tensor:
        hidden = model.extract(model.fuse())
        return torch.stack([model.loss(hidden, batch).total for batch in batches]).mean()

    return loss


def weights(trainer: Trainer) -> list[Tensor]:
    """θ: the model's trained weights."""
    return [param for param in trainer.model.parameters() if param.requires_grad]


def _streams(trainer: Trainer, purpose: str, count: int) -> list[torch.Generator]:
    return [torch_stream(trainer.config.seed, f"landscape/{purpose}", index) for index in range(count)]


def _grid(trainer: Trainer, mode: Mode, settings: LandscapeConfig) -> list[Measurement]:
    params = weights(trainer)
    loss = model_loss(trainer, fixed_batches(trainer, settings.batches))
    along = directions(params, mode, _streams(trainer, "direction", settings.dimensions))
    points, extent = (
        (settings.paper_points, settings.paper_extent) if mode == "paper" else (settings.points, settings.extent)
    )
    grid = loss_on_grid(loss, params, along, coordinates(points, extent).tolist())
    return [
        Measurement(mode, "loss", point.loss, "train", point=number, x=point.x, y=point.y)
        for number, point in enumerate(grid)
    ]


def _diverged(settings: LandscapeConfig) -> list[Measurement]:
    """One NaN for each number asked for."""
    nan = math.nan
    found = [Measurement(mode, "loss", nan, "train") for mode in settings.modes]
    for subject, numbers in (
        ("ascent_sharpness", settings.ascent_rhos),
        ("average_sharpness", settings.average_sigmas),
    ):
        found += [Measurement(subject, "value", nan, "train", level=f"{n:g}", severity=n) for n in numbers]
    return found + ([Measurement("hessian_eigenvalue", "value", nan, "train")] if settings.hessian else [])


def _sharpness(trainer: Trainer, settings: LandscapeConfig) -> list[Measurement]:
    params = weights(trainer)
    loss = model_loss(trainer, fixed_batches(trainer, settings.batches))
    rhos = settings.ascent_rhos
    found = [
        Measurement("ascent_sharpness", "value", value, "train", level=f"{rho:g}", severity=rho)
        for rho, value in zip(rhos, ascent_sharpness(loss, params, rhos) if rhos else [], strict=True)
    ]
    for sigma in settings.average_sigmas:
        values = average_sharpness(loss, params, sigma, _streams(trainer, "average", settings.average_draws))
        found += [
            Measurement("average_sharpness", "value", value, "train", level=f"{sigma:g}", severity=sigma, draw=draw)
            for draw, value in enumerate(values)
        ]
    return found + (_hessian(trainer, loss, params, settings) if settings.hessian else [])


def _hessian(trainer: Trainer, loss: Loss, params: Sequence[Tensor], settings: LandscapeConfig) -> list[Measurement]:
    (stream,) = _streams(trainer, "eigenvector", 1)
    product = hessian_product(loss, params, settings.difference_step)
    start = random_direction(params, stream)
    top = largest_eigenvalue(product, start, settings.hessian_tolerance, settings.hessian_iterations)
    values = {"value": top.value, "residual": top.residual, "iterations": float(top.iterations)}
    return [Measurement("hessian_eigenvalue", name, value, "train") for name, value in values.items()]
