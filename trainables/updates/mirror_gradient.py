"""Mirror Gradient: now and then a step down and a smaller step up on the same batch."""

from collections.abc import Sequence

from pydantic import Field

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update, UpdateConfig


class MirrorGradient(Update):
    """On every β-th batch descends with α1·L, then ascends with α2·L at the new weights; elsewhere a plain step.

    Paper: Zhong et al., "Mirror Gradient: Towards Robust Multimodal Recommender Systems via Exploring Flat Local
    Minima", WWW 2024. Follows the official code where it and the text differ (strategies.md §3): the first batch of
    each epoch is a mirror batch, both half-steps go through the one stateful optimiser, the second draws fresh random
    numbers, and the second sign is +; the minus that the BSAM paper prints would reward sharpness.
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

    def __init__(self, config: Config) -> None:
        self.alpha1 = config.alpha1
        self.alpha2 = config.alpha2_ratio * config.alpha1
        self.beta = config.beta

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        if now.step % self.beta:
            stepper.gradients(losses.total)
            stepper.step()
            return losses
        stepper.gradients(self.alpha1 * losses.total)
        stepper.step()
        stepper.gradients(-self.alpha2 * closure(fresh=True).total)
        stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return batches + -(-batches // self.beta)
