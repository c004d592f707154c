"""Plain training: one gradient, one optimiser step; and the same on two batches at once."""

from collections.abc import Sequence

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update
from trainables.vectors import mixed


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


class DoubleBatch(Update):
    """The control for the "+" forms: plain steps with the mean gradient of two consecutive batches.

    The "+" forms see twice the batch a step and make half the steps; this is what that does without a perturbation
    (strategies.md §11). Both batches weigh the same, also where the second is the epoch's short last one.
    """

    batches_per_step = 2

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        first, *others = closures
        losses = first()
        stepper.gradients(losses.total)
        for other in others:
            gradients = stepper.take()
            stepper.gradients(other().total)
            stepper.put(mixed(gradients, stepper.take(), 0.5))
        stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return batches
