"""The noise that DVIB puts on H: its kinds, the network that learns its size, and the priors that hold it."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from trainables.layers.tensors import linear_xavier_uniform

NoiseKind: TypeAlias = Literal["gaussian", "uniform", "uniform01", "dropout"]

Scale: TypeAlias = Float[Tensor, "R 1"] | float
"""Size of the noise: one number, or one a row."""


def noise_draws(kind: NoiseKind, h: Float[Tensor, "R W"], dropout: float) -> Float[Tensor, "R W"]:
    """Random factors of H's shape from the global generator, before they are scaled (strategies.md §6.3).

    `gaussian`: N(0, 1). `uniform`: √3 U(-1, 1), so mean 0 and variance 1. `uniform01`: U(0, 1), of mean 1/2.
    `dropout`: M / (1 - p) - 1 with M = 0 at probability p, else 1: what dropout of rate p adds to an entry of size 1.
    All but the first are extrapolated: the paper's tables name these kinds, its text and code do not define them.
    """
    if kind == "gaussian":
        return torch.randn_like(h)
    even = torch.rand_like(h)
    if kind == "uniform":
        return math.sqrt(3) * (2 * even - 1)
    return even if kind == "uniform01" else (even >= dropout).to(h.dtype) / (1 - dropout) - 1


def perturbed(
    kind: NoiseKind, h: Float[Tensor, "R W"], scale: Scale, draws: Float[Tensor, "R W"]
) -> Float[Tensor, "R W"]:
    """H + δH with δH = scale · draws, for `dropout` scale · draws ∘ H."""
    return h + scale * (draws * h if kind == "dropout" else draws)


def noise_network(width: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Two hidden layers with ReLU from a row of H to the logit of its noise level φ."""
    return nn.Sequential(
        linear_xavier_uniform(width, hidden, generator),
        nn.ReLU(),
        linear_xavier_uniform(hidden, hidden, generator),
        nn.ReLU(),
        linear_xavier_uniform(hidden, 1, generator),
    )


def kl_std(h: Float[Tensor, "R W"], logits: Float[Tensor, "R 1"], prior_std: float) -> Float[Tensor, ""]:
    """Mean over H's entries of KL(N(h, φ²) ‖ N(0, a²)) = log(a/φ) + (φ² + h²) / (2a²) - ½, at least 0.

    Args:
        logits: of φ = sigmoid(logits), a row's standard deviation.
        prior_std: a.
    """
    log_ratio = math.log(prior_std) - F.logsigmoid(logits)
    quadratic = (torch.sigmoid(logits) ** 2 + h**2) / (2 * prior_std**2)
    return (log_ratio + quadratic - 0.5).mean()


def eq13(
    h: Float[Tensor, "R W"], logits: Float[Tensor, "R 1"], prior_std: float, alpha_0: float, beta_0: float
) -> Float[Tensor, ""]:
    """The paper's eq. (13) as printed, a mean over rows: α0 ‖h‖² + β0 (φ/a - log(φ/a) - 1), at least 0."""
    log_ratio = F.logsigmoid(logits) - math.log(prior_std)
    return alpha_0 * (h**2).sum(-1).mean() + beta_0 * (log_ratio.exp() - log_ratio - 1).mean()
