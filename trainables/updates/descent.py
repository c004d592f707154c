"""Plain training: one gradient, one optimiser step."""

from collections.abc import Sequence

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update


class Descent(Update):
    """The base optimiser's own step on each batch, the baseline of every comparison (strategies.md §2)."""

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        stepper.gradients(losses.total)
        stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return batches
