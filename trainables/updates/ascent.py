"""The two-pass step that the whole SAM family shares; a member is a direction."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Gradients, Stepper, Update, UpdateConfig, displaced

NORM_EPSILON = 1e-12


class AscentConfig(UpdateConfig):
    """Numbers of every member of the family."""

    rho: float = Field(default=0.1, ge=0)
    """L2 radius ρ of the perturbation in parameter space, one ball over all weights."""


class Ascent(Update):
    """Steps with the gradient taken at θ + ε, where ε is the direction scaled to radius ρ (strategies.md §4, §5).

    A member says only which way to go. Both passes see the same batch and the same random draws, the weights are
    restored to the same bits before the base optimiser steps, and its weight decay never enters the direction. A
    direction of norm 0 or of no finite norm perturbs nothing: the step is then the plain one, at the same cost.
    """

    class Config(AscentConfig):
        """Numbers of the member."""

    def __init__(self, config: AscentConfig) -> None:
        self.config = config

    @abstractmethod
    def direction(self, gradients: Gradients) -> Gradients:
        """The way of the ascent from the gradients at θ, of any length; called once per first pass."""

    def offsets(self, gradients: Gradients) -> list[Tensor | None]:
        """ε: the direction, scaled to radius ρ in the global L2 norm."""
        direction = self.direction(gradients)
        norm = global_norm(direction)
        if not 0 < norm < float("inf"):
            return [None] * len(direction)
        return [None if part is None else part * (self.config.rho / (norm + NORM_EPSILON)) for part in direction]

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        stepper.gradients(losses.total)
        with displaced(stepper.params, self.offsets(stepper.take())):
            stepper.gradients(closure().total)
        stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return 2 * batches


def global_norm(tensors: Sequence[Tensor | None]) -> float:
    """The L2 norm over all entries of all tensors, summed in float64; None counts as nothing."""
    return math.sqrt(sum_of_norms(tensors, order=2))


def sum_of_norms(tensors: Sequence[Tensor | None], order: int) -> float:
    """Σ |x|^order over all entries of all tensors, each tensor reduced in float64."""
    parts = [torch.linalg.vector_norm(t, order, dtype=torch.float64) ** order for t in tensors if t is not None]
    return float(torch.stack(parts).sum()) if parts else 0.0
