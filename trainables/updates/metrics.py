"""How far the SAM family goes: the ball in which a direction is taken to its border."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.vectors import Gradients, Number, combined, global_norm, inner

AdaptiveOn = Literal["matrices", "all", "name_contains_weight"]


class Metric(ABC):
    """A norm on perturbations: of a direction v the way u in which v rises fastest, and u's length in that norm."""

    @abstractmethod
    def __call__(
        self, direction: Gradients, gradients: Gradients, params: Sequence[Tensor], names: Sequence[str]
    ) -> tuple[Gradients, Float[Tensor, ""]]:
        """(u, s): the perturbation of radius ρ is ρ·u/s."""


class Euclidean(Metric):
    """The L2 ball: u = v, s = ‖v‖ over all weights at once."""

    def __call__(
        self, direction: Gradients, gradients: Gradients, params: Sequence[Tensor], names: Sequence[str]
    ) -> tuple[Gradients, Float[Tensor, ""]]:
        return direction, global_norm(direction)


class Adaptive(Metric):
    """The ball ‖T⁻¹ε‖ <= ρ with T = |w| + η on the adaptive tensors and 1 elsewhere: u = T²v, s = ‖Tv‖ (ASAM)."""

    def __init__(self, eta: float, adaptive_on: AdaptiveOn) -> None:
        self.eta = eta
        self.adaptive_on = adaptive_on

    def __call__(
        self, direction: Gradients, gradients: Gradients, params: Sequence[Tensor], names: Sequence[str]
    ) -> tuple[Gradients, Float[Tensor, ""]]:
        once, twice = list(direction), list(direction)
        for index, (part, param, name) in enumerate(zip(direction, params, names, strict=True)):
            if part is not None and self._adapts(param, name):
                size = param.detach().abs() + self.eta
                scaled = size * part
                once[index], twice[index] = scaled, scaled * size
        return twice, global_norm(once)

    def _adapts(self, param: Tensor, name: str) -> bool:
        match self.adaptive_on:
            case "matrices":
                return param.ndim >= 2
            case "name_contains_weight":
                return "weight" in name
            case "all":
                return True


class Fisher(Metric):
    """The ball εᵀF(θ)ε <= ρ² with the diagonal empirical Fisher information f_i = g_i² of the batch gradient.

    1/f is regularised as 1/(1 + η·f): u = v/(1 + η·f), s = √(vᵀu). With `relative` f is divided by its mean over the
    entries that are not 0, which makes η free of the loss's scale; with `l2_norm`, s = ‖u‖, so that ‖ε‖ = ρ.
    """

    def __init__(self, eta: float, *, relative: bool, l2_norm: bool) -> None:
        self.eta = eta
        self.relative = relative
        self.l2_norm = l2_norm

    def __call__(
        self, direction: Gradients, gradients: Gradients, params: Sequence[Tensor], names: Sequence[str]
    ) -> tuple[Gradients, Float[Tensor, ""]]:
        scale = self.eta / (_mean_square(gradients) if self.relative else 1.0)
        bent = combined(lambda v, g: v / (1 + scale * g.square()), direction, gradients)
        return bent, global_norm(bent) if self.l2_norm else inner(direction, bent).clamp_min(0.0).sqrt()


def _mean_square(gradients: Gradients) -> Number:
    """The mean of g² over the entries that are not 0; 1 where all are."""
    known = [g for g in gradients if g is not None]
    if not known:
        return 1.0
    count = torch.stack([torch.count_nonzero(g) for g in known]).sum()
    return (global_norm(known).square() / count).where(count > 0, 1.0)
