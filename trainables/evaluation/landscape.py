"""The loss around a point in weight space: directions, and the loss on a grid along them (strategies.md §10).

Everything takes a loss as a function of nothing and the list of weights that it reads, so that it does not care for
models; the weights come back to the same bits, even when the loss raises.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Loss: TypeAlias = Callable[[], Tensor]
"""The loss at the current weights, a scalar with its graph where gradients are on; the same at the same weights."""

Direction: TypeAlias = Sequence[Tensor]
"""One tensor a weight, of its shape."""

Mode: TypeAlias = Literal["filter_norm", "paper"]


@dataclass(frozen=True)
class GridPoint:
    """The loss at θ + x·n1 + y·n2; y is None on a line."""

    x: float
    y: float | None
    loss: float


@contextmanager
def restored(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields copies of the weights, and puts their bits back afterwards, even when the body raises."""
    centre = [param.detach().clone() for param in params]
    try:
        yield centre
    finally:
        with torch.no_grad():
            for param, value in zip(params, centre, strict=True):
                param.copy_(value)


def place(params: Sequence[Tensor], centre: Sequence[Tensor], offsets: Sequence[tuple[float, Direction]]) -> None:
    """Moves the weights to centre + Σ coordinate · direction; coordinates of 0 leave the centre's bits."""
    with torch.no_grad():
        for index, (param, value) in enumerate(zip(params, centre, strict=True)):
            param.copy_(value)
            for coordinate, direction in offsets:
                if coordinate:
                    param.add_(direction[index], alpha=coordinate)


def random_direction(params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """N(0, I) in the full dimension, drawn on the CPU in float32, so that every device and type sees the same."""
    return [torch.randn(param.shape, generator=generator).to(param) for param in params]


def filter_normalised(direction: Direction, params: Sequence[Tensor]) -> list[Tensor]:
    """The direction with every row scaled to the norm of the weights' row: n_r · ‖p_r‖ / ‖n_r‖.

    After Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, with rows of matrices, one entity's
    embedding or one unit's weights, as filters. Tensors of less than two dimensions (biases) do not move, as there.
    """
    return [_rows_scaled(part, param.detach()) for part, param in zip(direction, params, strict=True)]


def _rows_scaled(part: Tensor, param: Tensor) -> Tensor:
    if param.ndim < 2:
        return torch.zeros_like(part)
    norms = row_norms(part)
    return part * torch.where(norms > 0, row_norms(param) / norms, 0.0)


def row_norms(tensor: Tensor) -> Tensor:
    """The L2 norm of every row (all but the first dimension), [R, 1, ...] as the tensor has dimensions."""
    norms: Tensor = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms.view(-1, *[1] * (tensor.ndim - 1))


def directions(params: Sequence[Tensor], mode: Mode, generators: Sequence[torch.Generator]) -> list[list[Tensor]]:
    """One direction a generator: `paper` N(0, I) as drawn, `filter_norm` the same draw scaled to the weights."""
    drawn = [random_direction(params, generator) for generator in generators]
    return drawn if mode == "paper" else [filter_normalised(direction, params) for direction in drawn]


def coordinates(points: int, extent: float) -> Float[np.ndarray, " R"]:
    """Evenly spaced numbers from -extent to extent, in pairs of opposite sign; an odd number has exactly 0 between."""
    values: np.ndarray = extent * (2 * np.arange(points) - (points - 1)) / (points - 1)
    return values


def loss_on_grid(
    loss: Loss, params: Sequence[Tensor], along: Sequence[Direction], steps: Sequence[float]
) -> list[GridPoint]:
    """The loss on a line (one direction) or a grid (two), rows of equal y one after the other.

    Costs one pass forward a point; gradients are never computed. Values may be infinite or NaN far out.
    """
    if len(along) not in (1, 2):
        raise ValueError(f"a landscape must have 1 or 2 directions, but got {len(along)}")
    second: Sequence[float | None] = steps if len(along) == 2 else [None]
    found = []
    with restored(params) as centre, torch.no_grad():
        for y in second:
            for x in steps:
                place(params, centre, list(zip((x, y or 0.0), along, strict=False)))
                found.append(GridPoint(float(x), None if y is None else float(y), float(loss())))
    return found
