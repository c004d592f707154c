"""The two-pass step that the whole SAM family shares; a member is a direction and a metric."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update, UpdateConfig, displaced
from trainables.updates.directions import EPSILON, Direction
from trainables.updates.metrics import Metric
from trainables.updates.monitor import Monitor
from trainables.vectors import Gradients, Number, only_if, scaled


class AscentConfig(UpdateConfig):
    """Numbers of every member of the family."""

    rho: float = Field(default=0.1, ge=0)
    """Radius ρ of the perturbation in parameter space, one ball over all weights."""
    rho_schedule: Literal["constant", "inv_sqrt", "linear"] = "constant"
    """`inv_sqrt`: ρ/√epoch; `linear`: falls to 0 over `rho_schedule_epochs`, where it stays."""
    rho_schedule_epochs: int = Field(default=100, ge=1)
    """Epochs of the linear schedule."""
    rho_warmup_epochs: int = Field(default=0, ge=0)
    """First epochs with a smaller radius, which grows evenly: of w such epochs the e-th has ρ·e/(w + 1)."""
    interval: int = Field(default=1, ge=1)
    """Steps from one with a perturbation to the next, the first of an epoch being one; plain steps between."""
    draws: Literal["same", "fresh"] = "same"
    """Whether the second pass sees the first one's dropout and noise, or fresh ones."""
    diagnose_every: int = Field(default=16, ge=0)
    """Perturbed steps from one whose perturbation is looked at to the next; 0 looks at none. Changes no weight."""

    def radius(self, epoch: int) -> float:
        """ρ in that epoch, counted from 1."""
        warmup = min(1.0, epoch / (self.rho_warmup_epochs + 1))
        match self.rho_schedule:
            case "constant":
                factor = 1.0
            case "inv_sqrt":
                factor = epoch**-0.5
            case "linear":
                factor = max(0.0, 1 - (epoch - 1) / self.rho_schedule_epochs)
        return self.rho * factor * warmup


class Ascent(Update):
    """Steps with the gradient taken at θ + ε, where ε is a direction taken to the border of a ball of radius ρ.

    Formulas: strategies.md §4, §5. A member says which way to go and in which ball. Both passes see the same batch and
    the same random draws unless told otherwise, the weights are restored to the same bits before the base optimiser
    steps, and its weight decay never enters the direction. A direction of length 0 or of no finite length perturbs
    nothing: the step is then the plain one, at the same cost, and `diagnostics` counts it.
    """

    class Config(AscentConfig):
        """Numbers of the member."""

    def __init__(self, config: AscentConfig, direction: Direction, metric: Metric) -> None:
        self.config = config
        self.direction = direction
        self.metric = metric
        self.monitor = Monitor(config.diagnose_every)

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        losses = closure()
        stepper.gradients(losses.total)
        loss = losses.total.detach().double()
        offsets = self.offsets(stepper.take(), loss, stepper, now)
        if offsets is not None:
            self.look_ahead(closure, stepper, offsets, loss)
        stepper.step()
        return losses

    def offsets(self, gradients: Gradients, loss: Number, stepper: Stepper, now: Moment) -> Gradients | None:
        """ε for the gradients at θ of a batch with that loss, or None where the step is a plain one (`interval`).

        The direction's memory, where it has one, has then seen the gradients.
        """
        if now.step % self.config.interval:
            self.direction.observe(gradients, loss)
            return None
        direction = self.direction(gradients, loss)
        way, length = self.metric(direction, gradients, stepper.params, stepper.names)
        usable = (length > 0) & (length < float("inf"))
        offsets = scaled(only_if(usable, way), self.config.radius(now.epoch) / (length.where(usable, 1.0) + EPSILON))
        self.monitor.look(gradients, offsets, self.direction.coefficient, usable)
        return offsets

    def look_ahead(self, closure: Closure, stepper: Stepper, offsets: Gradients, loss: Number) -> None:
        """Puts the gradients at θ + ε in the place of those at θ; `loss` is the batch's at θ."""
        with displaced(stepper.params, offsets):
            perturbed = closure(fresh=self.config.draws == "fresh").total
            stepper.gradients(perturbed)
        self.monitor.rise(perturbed.detach(), loss)

    def gradient_evaluations(self, batches: int) -> int:
        return batches + self.perturbed_steps(batches)

    def perturbed_steps(self, steps: int) -> int:
        """How many of an epoch's steps are perturbed."""
        return -(-steps // self.config.interval)

    def diagnostics(self) -> Mapping[str, float]:
        return self.monitor.means()

    def state_dict(self) -> dict[str, Any]:
        return self.direction.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.direction.load_state_dict(state)
