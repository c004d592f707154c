"""The "+" form of any member of the SAM family: a perturbed batch mixed with a plain one."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from trainables.types import Closure, Losses, Moment
from trainables.updates.asam import ASAM
from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.base import Stepper, Update
from trainables.updates.bsam import BSAM
from trainables.updates.fisher_sam import FisherSAM
from trainables.updates.friendly_sam import FriendlySAM
from trainables.updates.sam import SAM
from trainables.vectors import Gradients, global_norm, mixed, scaled


class MakesAscent(Protocol):
    """A member's class: builds the member from its numbers."""

    def __call__(self, config: Any) -> Ascent: ...


class MixedConfig(AscentConfig):
    """What the "+" adds to its member's numbers."""

    kappa: float = Field(default=0.6, ge=0, le=1)
    """κ: share of the perturbed gradient; 1 - κ is the share of the plain one."""
    pairing: Literal["consecutive", "independent", "same_batch"] = "consecutive"
    """Where the plain gradient comes from: the next batch of the same pass over the data, with half the steps; a
    second shuffled pass; or the perturbed batch itself."""


class MemoryMixedConfig(MixedConfig):
    """What the "+" adds to a member that has a moving average."""

    ema_batches: Literal["first", "both"] = "first"
    """Whether the average sees the perturbed batch only, as printed, or the plain one too."""


class Mixed(Update):
    """Steps with κ·g̃1 + (1-κ)·g2: the perturbed gradient of one batch and the plain gradient of another.

    Paper: BSAM+ of the BSAM paper (TKDE 2025, Algorithm 1), here for every member of the family (strategies.md §5.4).
    The paper only says that two batches are sampled. By default they are consecutive and disjoint, so an epoch has
    half the optimiser steps and 1.5 gradient evaluations a batch, and an odd last batch takes the member's own step;
    `independent` takes the second from another pass, with all the steps and 3 evaluations a batch. `same_batch` costs
    what the member does. Without a perturbation (`interval`) a step mixes the two plain gradients.
    """

    Member: ClassVar[MakesAscent]

    class Config(MixedConfig):
        """Numbers of the member and the mixture."""

    def __init__(self, config: MixedConfig) -> None:
        self.config = config
        self.member = self.Member(config)
        self.batches_per_step = 1 if config.pairing == "same_batch" else 2
        self.passes = 2 if config.pairing == "independent" else 1

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        if len(closures) < self.batches_per_step:
            return self.member(closures, stepper, now)
        first, *others = closures
        losses = first()
        stepper.gradients(losses.total)
        gradients, loss = stepper.take(), losses.total.detach().double()
        offsets = self.member.offsets(gradients, loss, stepper, now)
        plain = self._plain(others, gradients, stepper)
        perturbed = gradients
        if offsets is not None:
            self.member.look_ahead(first, stepper, offsets, loss)
            perturbed = stepper.take()
        stepper.put(mixed(perturbed, plain, self.config.kappa))
        stepper.step()
        return losses

    def _plain(self, others: Sequence[Closure], gradients: Gradients, stepper: Stepper) -> Gradients:
        """The gradient at θ that is mixed in: of the second batch, or the first one's own."""
        if not others:
            return gradients
        losses = others[0]()
        stepper.gradients(losses.total)
        plain = stepper.take()
        if isinstance(self.config, MemoryMixedConfig) and self.config.ema_batches == "both":
            self.member.direction.observe(plain, losses.total.detach().double())
        return plain

    def gradient_evaluations(self, batches: int) -> int:
        if self.config.pairing == "same_batch":
            return self.member.gradient_evaluations(batches)
        if self.config.pairing == "independent":
            return 2 * batches + self.member.perturbed_steps(batches)
        return batches + self.member.perturbed_steps(-(-batches // 2))

    def diagnostics(self) -> Mapping[str, float]:
        return self.member.diagnostics()

    def state_dict(self) -> dict[str, Any]:
        return self.member.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.member.load_state_dict(state)


class SAMPlus(Mixed):
    """SAM+ (BSAM paper, Table II): SAM mixed with the next batch's plain gradient."""

    Member = SAM

    class Config(SAM.Config, MixedConfig):
        """SAM's numbers and the mixture's."""


class ASAMPlus(Mixed):
    """ASAM+ (BSAM paper, Table II): ASAM mixed with the next batch's plain gradient."""

    Member = ASAM

    class Config(ASAM.Config, MixedConfig):
        """ASAM's numbers and the mixture's."""


class FisherSAMPlus(Mixed):
    """Fisher SAM+ (BSAM paper, Table II): Fisher SAM mixed with the next batch's plain gradient."""

    Member = FisherSAM

    class Config(FisherSAM.Config, MixedConfig):
        """Fisher SAM's numbers and the mixture's."""


class FriendlySAMPlus(Mixed):
    """Friendly SAM mixed with the next batch's plain gradient; not in the paper, the control of BSAM+."""

    Member = FriendlySAM

    class Config(FriendlySAM.Config, MemoryMixedConfig):
        """Friendly SAM's numbers and the mixture's."""


class BSAMPlus(Mixed):
    """BSAM+ (BSAM paper, Algorithm 1): BSAM mixed with the next batch's plain gradient."""

    Member = BSAM

    class Config(BSAM.Config, MemoryMixedConfig):
        """BSAM's numbers and the mixture's."""


class GNP(Mixed):
    """Gradient norm penalty: SAM's gradient mixed with the same batch's plain one.

    Paper: Zhao, Zhang and Hu, "Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning",
    ICML 2022, eq. (10); κ is the paper's α, ρ its r (strategies.md §4.5). The released code divides the plain gradient
    by its norm where its configuration says so, which `normalised` does; the formula does not.
    """

    Member = SAM

    class Config(MixedConfig):
        """GNP's numbers."""

        kappa: float = Field(default=0.8, ge=0, le=1)
        """α: share of the gradient at θ + r·g/‖g‖."""
        pairing: Literal["same_batch"] = "same_batch"
        """The plain gradient is that of the same batch."""
        normalised: bool = False
        """Whether the plain gradient is divided by its norm, as in the released code's default."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.normalised = config.normalised

    def _plain(self, others: Sequence[Closure], gradients: Gradients, stepper: Stepper) -> Gradients:
        if not self.normalised:
            return gradients
        norm = global_norm(gradients)
        return scaled(gradients, 1 / norm.where(norm > 0, 1.0))
