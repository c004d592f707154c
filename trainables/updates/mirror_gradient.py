"""Mirror Gradient: now and then a step down and a smaller step up on the same batch; and the control for it."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update, UpdateConfig, displaced
from trainables.vectors import Gradients, scaled


class MirrorGradient(Update):
    """On every β-th batch descends with α1·L, then ascends with α2·L at the new weights; elsewhere a plain step.

    Paper: Zhong et al., "Mirror Gradient: Towards Robust Multimodal Recommender Systems via Exploring Flat Local
    Minima", WWW 2024. Follows the official code where it and the text differ (strategies.md §3): the first batch of
    each epoch is a mirror batch, both half-steps go through the one stateful optimiser, the second draws fresh random
    numbers, only the second is clipped, and the second sign is +; the minus that the BSAM paper prints would reward
    sharpness.
    The paper's condition α1 > α2 holds by construction: the searched number is the ratio α2/α1.
    """

    class Config(UpdateConfig):
        """Mirror Gradient's numbers."""

        alpha1: float = Field(default=1.0, gt=0)
        """α1: factor of the loss in the descending half-step."""
        alpha2_ratio: float = Field(default=0.2, ge=0, lt=1)
        """α2/α1: factor of the ascending half-step, relative to α1, in [0, 1)."""
        beta: int = Field(default=3, ge=1)
        """β: batches from one mirror batch to the next; 1 makes every batch one."""
        mode: Literal["official", "sgd_half", "fused"] = "official"
        """How the half-steps move the weights. `official`: each is a step of the optimiser; `sgd_half`: θ - α1γg and
        θ' + α2γg', past the optimiser and its state, the equation to the letter; `fused`: one step of the optimiser
        with α1·g(θ) - α2·g(θ - α1γg)."""
        second_sign: Literal[1, -1] = 1
        """+1 ascends in the second half-step; -1 is the BSAM paper's misprint, for studying it."""
        draws: Literal["same", "fresh"] = "fresh"
        """Whether the second half-step sees the first one's dropout and noise, or fresh ones."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.alpha1 = config.alpha1
        self.alpha2 = config.second_sign * config.alpha2_ratio * config.alpha1

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        if now.step % self.config.beta:
            stepper.gradients(losses.total)
            stepper.step()
        elif self.config.mode == "fused":
            self._fused(closure, losses.total, stepper)
        else:
            self._halves(closure, losses.total, stepper)
        return losses

    def _halves(self, closure: Closure, loss: Tensor, stepper: Stepper) -> None:
        if self.config.mode == "official":
            stepper.gradients(self.alpha1 * loss)
            stepper.step(clip=False)
            stepper.gradients(-self.alpha2 * self._second(closure))
            stepper.step()
        else:
            stepper.gradients(loss)
            stepper.move(-self.alpha1)
            stepper.gradients(self._second(closure))
            stepper.move(self.alpha2)

    def _fused(self, closure: Closure, loss: Tensor, stepper: Stepper) -> None:
        stepper.gradients(loss)
        first = stepper.take()
        with displaced(stepper.params, scaled(first, -self.alpha1 * stepper.learning_rate)):
            stepper.gradients(self._second(closure))
        stepper.put(self._difference(first, stepper.take()))
        stepper.step()

    def _difference(self, first: Gradients, second: Gradients) -> Gradients:
        """α1·g - α2·g', where what only one of both has counts as zero in the other."""
        result: Gradients = []
        for down, up in zip(first, second, strict=True):
            if down is None:
                result.append(None if up is None else -self.alpha2 * up)
            else:
                result.append(self.alpha1 * down if up is None else self.alpha1 * down - self.alpha2 * up)
        return result

    def _second(self, closure: Closure) -> Tensor:
        return closure(fresh=self.config.draws == "fresh").total

    def gradient_evaluations(self, batches: int) -> int:
        return batches + -(-batches // self.config.beta)


class ExtraSteps(Update):
    """The control for Mirror Gradient: as many optimiser steps, without its ascent.

    Under Adam the "ascent" of Mirror Gradient goes on downhill, driven by the moving average (strategies.md §3), so
    what it does may be nothing but more steps. Here every β-th batch is followed by a step with the gradient 0, which
    is Mirror Gradient with α2 = 0, or by a plain second step on the same batch.
    """

    class Config(UpdateConfig):
        """Numbers of the control."""

        beta: int = Field(default=3, ge=1)
        """β: batches from one with an extra step to the next."""
        second: Literal["zero", "descent"] = "zero"
        """Gradient of the extra step: 0, so that only the optimiser's memory moves the weights, or the batch's."""
        draws: Literal["same", "fresh"] = "fresh"
        """Whether the batch's second gradient sees the first one's dropout and noise, or fresh ones."""

        @model_validator(mode="after")
        def _check_draws(self) -> "ExtraSteps.Config":
            if self.second == "zero" and self.draws == "same":
                raise ValueError("draws must be left at 'fresh' where second is 'zero', which draws nothing")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        stepper.gradients(losses.total)
        stepper.step()
        if now.step % self.config.beta == 0:
            if self.config.second == "descent":
                stepper.gradients(closure(fresh=self.config.draws == "fresh").total)
            else:
                stepper.put([None if gradient is None else gradient * 0 for gradient in stepper.take()])
            stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return batches + (-(-batches // self.config.beta) if self.config.second == "descent" else 0)
