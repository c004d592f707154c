"""DVIB: perturb the hidden layer, and distil the perturbed pass into the clean one."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from trainables.models.base import Recommender
from trainables.objectives.base import Objective
from trainables.objectives.distillation import (
    DIVERGENCES,
    DistillationConfig,
    check_distributions,
    distributions,
    divergence_between,
    repetition,
    uniformity_of,
)
from trainables.objectives.noise import NoiseKind, Scale, eq13, kl_std, noise_draws, noise_network, perturbed
from trainables.precision import unrounded
from trainables.types import Batch, Fused, Hidden, Losses


class DVIBConfig(DistillationConfig):
    """Numbers of both forms."""

    gamma_0: float = Field(default=1.0, ge=0)
    """γ0: weight of the model's loss on the perturbed pass."""
    distill: Literal["js", "kl_delta_to_z", "kl_z_to_delta", "released", "entropy", "none"] = "js"
    """`js`: the true Jensen-Shannon divergence of the paper; `kl_delta_to_z`: KL(Z_δ ‖ Z); `kl_z_to_delta`:
    KL(Z ‖ Z_δ); `released`: what the released code computes instead; `entropy`: log n - H(p) of the clean pass, which
    is what the released term mostly is; `none`: no term."""
    combine: Literal["sum", "convex"] = "sum"
    """`sum`: eq. (8) of the paper; `convex`: the released code's (1-γ_d)·losses + γ_d·distillation."""
    stop_gradient: Literal["none", "teacher_delta", "teacher_clean"] = "none"
    """Which pass the distillation's gradient leaves alone, as a teacher: neither, the perturbed or the clean one."""
    noise: NoiseKind = "gaussian"
    """Kind of the noise; every kind but `gaussian` and `uniform01` has mean 0, `uniform` has the variance of
    `gaussian`, and `dropout` grows with H's entries."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """p: share of H's entries set to 0 where `noise` is `dropout`."""

    @model_validator(mode="after")
    def _check_terms(self) -> "DVIBConfig":
        if self.distill in ("none", "entropy") and self.stop_gradient != "none":
            raise ValueError(f"stop_gradient must be none where distill is {self.distill}, which has no teacher")
        if self.distill == "none" and self.combine == "convex":
            raise ValueError("combine must be sum where distill is none: there is nothing to combine the losses with")
        return self


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

    def check(self, model: Recommender) -> None:
        if self.shared.distill != "none":
            check_distributions(self.shared, model)

    def forward(self, model: Recommender, batch: Batch) -> Losses:
        fused = model.fuse()
        with unrounded():
            hidden = model.extract(fused)
            clean = model.loss(hidden, batch)
            draws = {name: noise_draws(self.shared.noise, h, self.shared.dropout) for name, h in fused.items()}
            return self.losses(model, batch, (fused, hidden, clean), draws)

    def losses(
        self,
        model: Recommender,
        batch: Batch,
        clean_pass: tuple[Fused, Hidden, Losses],
        draws: Mapping[str, Float[Tensor, "_ _"]],
    ) -> Losses:
        """The losses for given draws of `noise_draws`, one tensor of H's shape a name; a function of its arguments."""
        fused, hidden, clean = clean_pass
        scales, priors = self.noise(fused)
        noisy = model.extract(self.perturbed(fused, scales, draws))
        again = model.loss(noisy, batch)
        keep = 1 - self.shared.gamma_d if self.shared.combine == "convex" else 1.0
        parts = {name: keep * part for name, part in clean.parts.items()}
        parts["perturbed"] = keep * self.shared.gamma_0 * again.total
        if self.shared.distill != "none":
            weight = self.shared.gamma_d * repetition(self.shared, model, batch)
            parts["distillation"] = weight * self._distillation(model, hidden, noisy, batch)
        return replace(Losses.of(**parts, **priors), memory=clean.memory)

    def perturbed(
        self, fused: Fused, scales: Mapping[str, Scale], draws: Mapping[str, Float[Tensor, "_ _"]]
    ) -> dict[str, Float[Tensor, "_ _"]]:
        """H + δH by name."""
        return {name: perturbed(self.shared.noise, h, scales[name], draws[name]) for name, h in fused.items()}

    def _distillation(self, model: Recommender, clean: Hidden, noisy: Hidden, batch: Batch) -> Float[Tensor, ""]:
        left = distributions(self.shared, model, clean, batch)
        if self.shared.distill == "entropy":
            return uniformity_of(left)
        right = distributions(self.shared, model, noisy, batch)
        if self.shared.stop_gradient == "teacher_clean":
            left = {name: logits.detach() for name, logits in left.items()}
        if self.shared.stop_gradient == "teacher_delta":
            right = {name: logits.detach() for name, logits in right.items()}
        return divergence_between(DIVERGENCES[self.shared.distill], left, right)

    @abstractmethod
    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        """The noise's size on H by name, and the loss terms on the noise itself."""


class DVIBConstant(DVIB):
    """DVIB_c: noise of one constant standard deviation σ; dropout has its rate instead.

    With σ <= 1e-3, the paper's range, a true JS is below float32 noise (strategies.md §6.3): search σ wider.
    """

    class Config(DVIBConfig):
        """DVIB_c's numbers."""

        sigma: float = Field(default=5e-4, ge=0)
        """σ: standard deviation of the noise on H; the upper end of `uniform01`."""

        @model_validator(mode="after")
        def _check_sigma(self) -> "DVIBConstant.Config":
            usual = type(self).model_fields["sigma"].default
            if self.noise == "dropout" and self.sigma != usual:
                raise ValueError(f"sigma must be left at {usual} where noise is dropout, whose size is set by dropout")
            return self

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.scale = 1.0 if config.noise == "dropout" else config.sigma

    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        return dict.fromkeys(fused, self.scale), {}


class DVIBAdaptive(DVIB):
    """DVIB_a: a small network gives every row of H its own noise level φ in (0, 1), held near a prior N(0, a²).

    φ is the noise's standard deviation, as in eq. (12) and the released code (Theorem 3.1 would have it a variance);
    dropout's noise is multiplied by it. `kl_std` is the released regulariser, the closed form of mean
    KL(N(h, φ²) ‖ N(0, a²)) over entries; `eq13` the printed one. One network per name of H.
    """

    class Config(DVIBConfig):
        """DVIB_a's numbers."""

        gamma_r: float = Field(default=1e-3, ge=0)
        """γ_r: weight of the regulariser that holds the noise near its prior."""
        prior_std: float = Field(default=0.5, gt=0)
        """The paper's a: standard deviation of the prior."""
        reg: Literal["kl_std", "eq13", "none"] = "kl_std"
        """Form of the regulariser."""
        alpha_0: float = Field(default=1.0, ge=0)
        """α0 of `eq13`: weight of the rows' mean squared norm."""
        beta_0: float = Field(default=1.0, ge=0)
        """β0 of `eq13`: weight of the noise level's distance from the prior."""
        hidden_size: int = Field(default=32, ge=1)
        """Width of the noise network."""

        @model_validator(mode="after")
        def _check_weights(self) -> "DVIBAdaptive.Config":
            for name, value in (("alpha_0", self.alpha_0), ("beta_0", self.beta_0)):
                if self.reg != "eq13" and value != 1.0:
                    raise ValueError(f"{name} must be left at 1.0 where reg is {self.reg}, which has no such weight")
            return self

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.config = config
        self.names = tuple(widths)
        self.networks = nn.ModuleList(noise_network(widths[name], config.hidden_size, generator) for name in widths)

    def noise(self, fused: Fused) -> tuple[Mapping[str, Scale], dict[str, Float[Tensor, ""]]]:
        logits = {name: network(fused[name]) for name, network in zip(self.names, self.networks, strict=True)}
        scales = {name: torch.sigmoid(value) for name, value in logits.items()}
        if self.config.reg == "none":
            return scales, {}
        terms = torch.stack([self._prior(h, logits[name]) for name, h in fused.items()])
        return scales, {"noise_prior": self.config.gamma_r * terms.sum()}

    def _prior(self, h: Float[Tensor, "R W"], logits: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
        if self.config.reg == "kl_std":
            return kl_std(h, logits, self.config.prior_std)
        return eq13(h, logits, self.config.prior_std, self.config.alpha_0, self.config.beta_0)
