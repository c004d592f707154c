"""The "+" form of any member of the SAM family: a perturbed batch mixed with a plain one."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates.ascent import Ascent
from trainables.updates.base import Stepper, Update, UpdateConfig, displaced
from trainables.updates.bsam import BSAM
from trainables.updates.sam import SAM


class MixedConfig(UpdateConfig):
    """What the "+" adds to its member's numbers."""

    kappa: float = Field(default=0.6, ge=0, le=1)
    """κ: share of the perturbed gradient; 1 - κ is the share of the second batch's plain one."""


class Mixed(Update):
    """Steps with κ·g̃1 + (1-κ)·g2: the perturbed gradient of one batch and the plain gradient of the next.

    Paper: BSAM+ of the BSAM paper (TKDE 2025, Algorithm 1), here for every member of the family. Two consecutive,
    disjoint batches make one step, so an epoch has half the optimiser steps and 1.5 gradient evaluations a batch
    (strategies.md §5.4). Moving averages see the first batch only. An odd last batch takes the member's own step.
    """

    batches_per_step: ClassVar[int] = 2

    def __init__(self, member: Ascent, kappa: float) -> None:
        self.member = member
        self.kappa = kappa

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        if len(closures) == 1:
            return self.member(closures, stepper, now)
        first, second = closures
        losses = first()
        stepper.gradients(losses.total)
        offsets = self.member.offsets(stepper.take())
        stepper.gradients(second().total)
        plain = stepper.take()
        with displaced(stepper.params, offsets):
            stepper.gradients(first().total)
        stepper.put([self._mix(*pair) for pair in zip(stepper.take(), plain, strict=True)])
        stepper.step()
        return losses

    def _mix(self, perturbed: Tensor | None, plain: Tensor | None) -> Tensor | None:
        if perturbed is None and plain is None:
            return None
        if perturbed is None:
            return (1 - self.kappa) * plain if plain is not None else None
        mixed = self.kappa * perturbed
        return mixed if plain is None else mixed.add_(plain, alpha=1 - self.kappa)

    def gradient_evaluations(self, batches: int) -> int:
        return 3 * (batches // 2) + self.member.gradient_evaluations(batches % 2)

    def state_dict(self) -> dict[str, Any]:
        return self.member.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.member.load_state_dict(state)


class SAMPlus(Mixed):
    """SAM+ (BSAM paper, Table II): SAM mixed with the next batch's plain gradient."""

    class Config(SAM.Config, MixedConfig):
        """SAM's numbers and κ."""

    def __init__(self, config: Config) -> None:
        super().__init__(SAM(config), config.kappa)


class BSAMPlus(Mixed):
    """BSAM+ (BSAM paper, Algorithm 1): BSAM mixed with the next batch's plain gradient."""

    class Config(BSAM.Config, MixedConfig):
        """BSAM's numbers and κ."""

    def __init__(self, config: Config) -> None:
        super().__init__(BSAM(config), config.kappa)
