"""Which way the SAM family ascends: one direction a member, some with a memory of earlier gradients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainables.vectors import (
    Gradients,
    Number,
    active_rows,
    combined,
    global_norm,
    inner,
    only_if,
    scaled,
    sum_of_powers,
)

EPSILON = 1e-12

Distance: TypeAlias = Literal[
    "l1_relative",
    "l1",
    "l1_tensor",
    "l1_row",
    "l1_mean",
    "loss_gap",
    "loss_vs_ema",
    "neg_ema",
    "constant",
    "projection",
    "cosine",
]


_CANCELLING = ("constant", "projection", "cosine")
"""Readings under which g and c·m can be the same."""


class Direction(ABC):
    """v from the gradients at θ, of any length; asked once a step.

    Attributes:
        coefficient: how much of a memory the last direction left out, where there is such a number.
    """

    coefficient: Number | None = None

    @abstractmethod
    def __call__(self, gradients: Gradients, loss: Number) -> Gradients:
        """The direction for the gradients of the batch and its loss."""

    def observe(self, gradients: Gradients, loss: Number) -> None:  # noqa: B027
        """Takes gradients at θ into the memory without being asked for a direction. Default: no memory."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial needs. Default: nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Takes back what `state_dict` gave. Default: nothing."""


class GradientDirection(Direction):
    """The batch's gradient itself (SAM)."""

    def __call__(self, gradients: Gradients, loss: Number) -> Gradients:
        return gradients


class MovingAverage:
    """m ← decay·m + (1 - decay)·g, tensor by tensor; a tensor without a gradient keeps its average.

    Attributes:
        values: m; None for a tensor that never had a gradient.
        counts: gradients that went into each.
    """

    def __init__(self, decay: float, *, starts_at_gradient: bool) -> None:
        """Starts empty.

        Args:
            starts_at_gradient: whether the first average is the first gradient itself, or (1 - decay) of it as if it
                had been 0 before.
        """
        self.decay = decay
        self.starts_at_gradient = starts_at_gradient
        self.values: Gradients = []
        self.counts: list[int] = []

    def update(self, gradients: Gradients) -> None:
        """Takes in the gradients."""
        self.values = self.values or [None] * len(gradients)
        self.counts = self.counts or [0] * len(gradients)
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            self.counts[index] += 1
            average = self.values[index]
            if average is not None:
                average.mul_(self.decay).add_(gradient, alpha=1 - self.decay)
            else:
                self.values[index] = gradient.clone() if self.starts_at_gradient else (1 - self.decay) * gradient

    def unbiased(self) -> Gradients:
        """m / (1 - decayᵗ) after t gradients, for an average that began at 0 (Adam's correction)."""
        pairs = zip(self.values, self.counts, strict=True)
        return [None if value is None else value / (1 - self.decay**count) for value, count in pairs]

    def state_dict(self) -> dict[str, Any]:
        values = [None if value is None else value.clone() for value in self.values]
        return {"averages": values, "counts": list(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values = [None if value is None else torch.clone(value) for value in state["averages"]]
        self.counts = list(state["counts"])


class FriendlyDirection(Direction):
    """d = g - σ·m with m the moving average of earlier batch gradients (Friendly SAM, strategies.md §4.4).

    The first gradient of a tensor becomes its average and its direction. After that the released code subtracts the
    average before the current gradient enters it (`inclusive=False`), the paper the average with it.
    """

    def __init__(self, sigma: float, decay: float, *, inclusive: bool) -> None:
        self.coefficient = sigma
        self.sigma = sigma
        self.inclusive = inclusive
        self.average = MovingAverage(decay, starts_at_gradient=True)

    def __call__(self, gradients: Gradients, loss: Number) -> Gradients:
        known = [value is not None for value in self.average.values] or [False] * len(gradients)
        if self.inclusive:
            self.average.update(gradients)
        result: Gradients = []
        for gradient, average, seen in zip(gradients, self.average.values or gradients, known, strict=True):
            if gradient is None or average is None or not seen:
                result.append(gradient)
            else:
                result.append(gradient - self.sigma * average)
        if not self.inclusive:
            self.average.update(gradients)
        return result

    def observe(self, gradients: Gradients, loss: Number) -> None:
        self.average.update(gradients)

    def state_dict(self) -> dict[str, Any]:
        return self.average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average.load_state_dict(state)


class DistanceDirection(Direction):
    """v = g - c·m with m the moving average, the current gradient included, and c a distance of both (BSAM).

    `distance` chooses the reading of c (strategies.md §5.3). A weight without a gradient is neither perturbed nor
    averaged in that step. A direction that is rounding error beside g, as that of `projection` at the first step, is
    none at all.
    """

    def __init__(
        self, decay: float, distance: Distance, *, constant: float, bias_correction: bool, mask_inactive_rows: bool
    ) -> None:
        self.distance = distance
        self.constant = constant
        self.bias_correction = bias_correction
        self.mask_inactive_rows = mask_inactive_rows
        self.average = MovingAverage(decay, starts_at_gradient=False)
        self._cancels = distance in _CANCELLING
        self.loss_average: Number | None = None

    def __call__(self, gradients: Gradients, loss: Number) -> Gradients:
        self.observe(gradients, loss)
        known = self._known(gradients)
        direction = self._direction(gradients, known, loss)
        if self.mask_inactive_rows:
            direction = combined(
                lambda v, g: v if g.ndim < 2 else torch.where(active_rows(g), v, 0.0), direction, gradients
            )
        return only_if(_is_more_than_rounding(direction, gradients), direction) if self._cancels else direction

    def observe(self, gradients: Gradients, loss: Number) -> None:
        self.average.update(gradients)
        decay, before = self.average.decay, self.loss_average
        # Unlike m this one starts at the first loss: from 0, the first gaps would be that start and nothing else.
        self.loss_average = loss if before is None else decay * before + (1 - decay) * loss

    def _known(self, gradients: Gradients) -> Gradients:
        averages = self.average.unbiased() if self.bias_correction else self.average.values
        return [None if g is None else m for g, m in zip(gradients, averages, strict=True)]

    def _direction(self, gradients: Gradients, averages: Gradients, loss: Number) -> Gradients:
        if self.distance == "neg_ema":
            return scaled(averages, -1.0)
        if self.distance in ("l1_tensor", "l1_row"):
            by_row = self.distance == "l1_row"
            return combined(lambda g, m: g - _local_distance(g, m, by_row=by_row) * m, gradients, averages)
        coefficient = self._coefficient(gradients, averages, loss)
        self.coefficient = coefficient
        return combined(lambda g, m: g - coefficient * m, gradients, averages)

    def _coefficient(self, gradients: Gradients, averages: Gradients, loss: Number) -> Number:
        match self.distance:
            case "constant":
                return self.constant
            case "loss_gap":
                assert self.loss_average is not None  # `observe` has seen the loss
                return torch.as_tensor(loss - self.loss_average, dtype=torch.float64).abs()
            case "loss_vs_ema":
                return sum_of_powers([None if m is None else loss - m for m in averages], order=1)
            case "projection" | "cosine":
                return self._similarity(gradients, averages)
        distance = sum_of_powers(combined(torch.sub, gradients, averages), order=1)
        if self.distance == "l1_relative":
            distance = distance / (sum_of_powers(gradients, order=1) + sum_of_powers(averages, order=1) + EPSILON)
        elif self.distance == "l1_mean":
            distance = distance / max(1, sum(g.numel() for g in gradients if g is not None))
        return distance

    def _similarity(self, gradients: Gradients, averages: Gradients) -> Float[Tensor, ""]:
        length = global_norm(averages)
        other = length if self.distance == "projection" else global_norm(gradients)
        lengths = length * other
        return (inner(gradients, averages) / lengths).where(lengths > 0, 0.0)

    def state_dict(self) -> dict[str, Any]:
        average = self.loss_average
        return self.average.state_dict() | {"loss_average": None if average is None else float(average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average.load_state_dict(state)
        self.loss_average = state["loss_average"]


def _local_distance(gradient: Tensor, average: Tensor, *, by_row: bool) -> Tensor:
    """‖g - m‖₁ over the whole tensor [], or over each row of it [R, 1]; a vector is one row."""
    gaps = (gradient - average).abs()
    return gaps.sum(dim=-1, keepdim=True) if by_row and gaps.ndim > 1 else gaps.sum()


def _is_more_than_rounding(direction: Gradients, gradients: Gradients) -> Bool[Tensor, ""]:
    """Whether more is left of the gradients than the error of the subtraction."""
    precision = max((torch.finfo(g.dtype).eps for g in gradients if g is not None), default=0.0)
    return ~(global_norm(direction) <= 16 * precision * global_norm(gradients))
