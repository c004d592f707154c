"""How a batch moves the weights: the verbs that every update is written in."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from trainables.eager import bare_step
from trainables.types import Closure, Losses, Moment
from trainables.vectors import Gradients


class UpdateConfig(BaseModel):
    """Base of every update's numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Stepper:
    """The weights and their optimiser, as the two verbs `gradients` and `step`, and the counters of both.

    Attributes:
        params: the weights that the optimiser moves.
        names: their names, in the same order.
        evaluations_per_loss: forward + backward passes that one loss costs (AMR's costs two).
        gradient_evaluations: forward + backward passes of one batch so far.
        optimizer_steps: steps of the base optimiser so far.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        names: Sequence[str] | None = None,
        clip_norm: float = 0.0,
    ) -> None:
        """Takes the weights and their optimiser.

        Args:
            names: of the parameters; by default their numbers.
            clip_norm: largest global L2 norm of the gradient that a step uses; 0 for any.
        """
        self.params = list(params)
        self.names = list(names) if names is not None else [str(index) for index in range(len(self.params))]
        self.optimizer = optimizer
        self._step = bare_step(optimizer)
        self.clip_norm = clip_norm
        self.evaluations_per_loss = 1
        self.gradient_evaluations = 0
        self.optimizer_steps = 0

    def gradients(self, loss: Tensor) -> None:
        """Replaces every weight's gradient by that of the loss; None where the loss does not depend on the weight."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.gradient_evaluations += self.evaluations_per_loss
        if any(param.grad is not None and param.grad.is_sparse for param in self.params):
            raise RuntimeError("gradients must be dense: build embeddings with sparse=False")

    def take(self) -> Gradients:
        """The gradients of the last call, handed over: the next `gradients` leaves them alone."""
        return [param.grad for param in self.params]

    def put(self, gradients: Sequence[Tensor | None]) -> None:
        """Sets the gradients that the next `step` will use."""
        for param, gradient in zip(self.params, gradients, strict=True):
            param.grad = gradient

    def step(self, *, clip: bool = True) -> None:
        """One step of the base optimiser with the current gradients, clipped to `clip_norm` unless told not to."""
        if clip and self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.params, self.clip_norm)
        self._step()
        self.optimizer_steps += 1

    def move(self, factor: float) -> None:
        """θ + factor·learning rate·gradient, past the optimiser and its state; counts as a step."""
        with torch.no_grad():
            for param, gradient in zip(self.params, self.take(), strict=True):
                if gradient is not None:
                    param.add_(gradient, alpha=factor * self.learning_rate)
        self.optimizer_steps += 1

    @property
    def learning_rate(self) -> float:
        """The optimiser's present step size γ."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value


class Update(ABC):
    """One training step's recipe. Never sees the model or the batch, only closures and the stepper.

    The trainer calls it with `batches_per_step` closures, or with fewer at the end of an epoch whose number of batches
    is odd to it. It returns the losses of the first closure at the unperturbed weights, so that curves of different
    updates mean the same.

    Every update is built as `SomeUpdate(config)`, with a config of its own class `Config`.

    Attributes:
        batches_per_step: closures that a step takes.
        passes: shuffled passes over the data in an epoch. 1: a step's batches follow each other in the one pass;
            otherwise as many as `batches_per_step`, and a step takes one batch of each.
    """

    batches_per_step: int = 1
    passes: int = 1

    class Config(UpdateConfig):
        """The update's numbers; each update extends it."""

    def __init__(self, config: UpdateConfig) -> None:  # noqa: B027
        """Takes the numbers; an update without any keeps nothing."""

    @abstractmethod
    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        """Moves the weights by one step."""

    @abstractmethod
    def gradient_evaluations(self, batches: int) -> int:
        """Losses whose gradient is taken in an epoch of that many batches, exactly (strategies.md §11)."""

    def diagnostics(self) -> Mapping[str, float]:
        """What was observed of the steps since the last call, by name. Default: nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a resumed trial needs. Default: none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Takes back what `state_dict` gave. Default: nothing."""


@contextmanager
def displaced(params: Sequence[Tensor], offsets: Sequence[Tensor | None]) -> Iterator[None]:
    """Moves the weights by the offsets and restores the very same bits afterwards, even when the body raises."""
    moved = [(param, offset) for param, offset in zip(params, offsets, strict=True) if offset is not None]
    with torch.no_grad():
        stored = [param.clone() for param, _ in moved]
        for param, offset in moved:
            param.add_(offset)
    try:
        yield
    finally:
        with torch.no_grad():
            for (param, _), value in zip(moved, stored, strict=True):
                param.copy_(value)
