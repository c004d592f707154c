"""DVIB: perturb the hidden layer, and distil the perturbed pass into the clean one."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trainables.layers.divergences import jensen_shannon, released_divergence
from trainables.layers.tensors import linear_xavier_uniform
from trainables.models.base import Recommender
from trainables.objectives.base import Objective, ObjectiveConfig
from trainables.types import Batch, Fused, Hidden, Losses

Scale: TypeAlias = Float[Tensor, "R 1"] | float
"""Standard deviation of the noise: one number, or one a row."""

DISTILLATIONS = {"js": jensen_shannon, "released": released_divergence}


class DVIBConfig(ObjectiveConfig):
    """Numbers of both forms."""

    gamma_0: float = Field(default=1.0, ge=0)
    """γ0: weight of the model's loss on the perturbed pass."""
    gamma_d: float = Field(default=0.1, ge=0, le=1)
    """γ_d: weight of the distillation term."""
    distill: Literal["js", "released", "none"] = "js"
    """`js`: the true Jensen-Shannon divergence of the paper; `released`: what the released code computes instead."""
    combine: Literal["sum", "convex"] = "sum"
    """`sum`: eq. (8) of the paper; `convex`: the released code's (1-γ_d)·losses + γ_d·distillation."""
    distill_rows: int | None = Field(default=512, ge=1)
    """Rows of the batch that are distilled; None takes what the released code takes (strategies.md §6.3)."""


class DVIB(Objective):
    """L0(Z) + γ0·L0(Z_δ) + γ_d·JS(Z_δ ‖ Z) + regulariser, with Z_δ from H + δH: what survives noise is kept.

    Paper: "Variational Information Bottleneck Distillation" (DVIB), WWW 2025, eq. (8); official code
    MarshmallowLight/DVIB. H is whatever the model's `fuse` returns, Z what follows from it; the regularisation and
    auxiliary terms of the model count in both passes, as released. Where paper and code differ, strategies.md §6
    decides and both forms are config fields. The clean pass comes first, so its dropout is that of plain training.
    Cost: the part of the model behind H runs twice within one gradient evaluation.
    """

    def __init__(self, config: DVIBConfig, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.shared = config

    def forward(self, model: Recommender, batch: Batch) -> Losses:
        fused = model.fuse()
        hidden = model.extract(fused)
        clean = model.loss(hidden, batch)
        draws = {name: torch.randn_like(h) for name, h in fused.items()}
        return self.losses(model, batch, (fused, hidden, clean), draws)

    def losses(
        self,
        model: Recommender,
        batch: Batch,
        clean_pass: tuple[Fused, Hidden, Losses],
        draws: Mapping[str, Float[Tensor, "_ _"]],
    ) -> Losses:
        """The losses for given standard normal draws, one tensor of H's shape a name; a function of its arguments."""
        fused, hidden, clean = clean_pass
        scales, priors = self.noise(fused)
        noisy = model.extract({name: h + scales[name] * draws[name] for name, h in fused.items()})
        perturbed = model.loss(noisy, batch)
        keep = 1 - self.shared.gamma_d if self.shared.combine == "convex" else 1.0
        parts = {name: keep * part for name, part in clean.parts.items()}
        parts["perturbed"] = keep * self.shared.gamma_0 * perturbed.total
        if self.shared.distill != "none":
            parts["distillation"] = self.shared.gamma_d * self._distillation(model, hidden, noisy, batch)
        return replace(Losses.of(**parts, **priors), memory=clean.memory)

    def _distillation(self, model: Recommender, clean: Hidden, noisy: Hidden, batch: Batch) -> Tensor:
        divergence = DISTILLATIONS[self.shared.distill]
        left = model.distilled(clean, batch, self.shared.distill_rows)
        right = model.distilled(noisy, batch, self.shared.distill_rows)
        return torch.stack([divergence(left[name], right[name]) for name in left]).sum()

    @abstractmethod
    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        """The noise's standard deviation on H by name, and the loss terms on the noise itself."""


class DVIBConstant(DVIB):
    """DVIB_c: Gaussian noise of one constant standard deviation σ.

    With σ <= 1e-3, the paper's range, a true JS is below float32 noise (strategies.md §6.3): search σ wider.
    """

    class Config(DVIBConfig):
        """DVIB_c's numbers."""

        sigma: float = Field(default=5e-4, ge=0)
        """σ: standard deviation of the noise on H."""

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.sigma = config.sigma

    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        return dict.fromkeys(fused, self.sigma), {}


class DVIBAdaptive(DVIB):
    """DVIB_a: a small network gives every row of H its own noise level φ in (0, 1), held near a prior N(0, a²).

    φ is the noise's standard deviation, as in eq. (12) and the released code (Theorem 3.1 would have it a variance).
    `kl_std` is the released regulariser, the closed form of mean KL(N(h, φ²) ‖ N(0, a²)) over entries; `eq13` the
    printed one, with α0 = β0 = 1. One network per name of H.
    """

    class Config(DVIBConfig):
        """DVIB_a's numbers."""

        gamma_r: float = Field(default=1e-3, ge=0)
        """γ_r: weight of the regulariser that holds the noise near its prior."""
        prior_std: float = Field(default=0.5, gt=0)
        """The paper's a: standard deviation of the prior."""
        reg: Literal["kl_std", "eq13", "none"] = "kl_std"
        """Form of the regulariser."""
        hidden_size: int = Field(default=32, ge=1)
        """Width of the noise network."""

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.config = config
        self.names = tuple(widths)
        self.networks = nn.ModuleList(_noise_network(widths[name], config.hidden_size, generator) for name in widths)

    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        logits = {name: network(fused[name]) for name, network in zip(self.names, self.networks, strict=True)}
        scales = {name: torch.sigmoid(value) for name, value in logits.items()}
        if self.config.reg == "none":
            return scales, {}
        form = self._kl_std if self.config.reg == "kl_std" else self._eq13
        terms = torch.stack([form(h, logits[name]) for name, h in fused.items()])
        return scales, {"noise_prior": self.config.gamma_r * terms.sum()}

    def _kl_std(self, h: Float[Tensor, "R W"], logits: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
        log_ratio = math.log(self.config.prior_std) - F.logsigmoid(logits)
        quadratic = (torch.sigmoid(logits) ** 2 + h**2) / (2 * self.config.prior_std**2)
        return (log_ratio + quadratic - 0.5).mean()

    def _eq13(self, h: Float[Tensor, "R W"], logits: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
        log_ratio = F.logsigmoid(logits) - math.log(self.config.prior_std)
        return (h**2).sum(-1).mean() + (log_ratio.exp() - log_ratio - 1).mean()


def _noise_network(width: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    return nn.Sequential(
        linear_xavier_uniform(width, hidden, generator),
        nn.ReLU(),
        linear_xavier_uniform(hidden, hidden, generator),
        nn.ReLU(),
        linear_xavier_uniform(hidden, 1, generator),
    )
