"""The registry of base optimisers: a new one is a class, a line here and a row in `spaces/optimizers.py`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from trainables.eager import spare_compiler

spare_compiler()


class OptimizerConfig(BaseModel, ABC):
    """Numbers of an optimiser, and how to build it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size γ in the first epoch."""
    decay: float = Field(default=1.0, gt=0, le=1)
    """Factor of the step size over every `decay_epochs` epochs: it is γ·decay^((epoch - 1)/decay_epochs) in an epoch,
    MMRec's schedule; 1 keeps it."""
    decay_epochs: int = Field(default=50, ge=1)
    """Epochs in which the step size falls to `decay` of what it was."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 term that the optimiser adds to the gradient it is given; never part of a perturbation's direction."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest global L2 norm of the gradient that a step uses, after all mixing; 0 for any."""

    def learning_rate_in(self, epoch: int) -> float:
        """The step size in that epoch, counted from 1."""
        return float(self.learning_rate * self.decay ** ((epoch - 1) / self.decay_epochs))

    @abstractmethod
    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over the given weights."""


class Adam(OptimizerConfig):
    """Adam (Kingma and Ba, ICLR 2015), in PyTorch's one-pass implementation: the same mathematics, memory-bound."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)


class RMSprop(OptimizerConfig):
    """RMSprop (Tieleman and Hinton, lecture 6.5, 2012): steps divided by the root of the running mean square."""

    smoothing: float = Field(default=0.99, ge=0, lt=1)
    """Share of the old mean square that is kept."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the last step's direction that is kept."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            params,
            lr=self.learning_rate,
            alpha=self.smoothing,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


class Adagrad(OptimizerConfig):
    """Adagrad (Duchi, Hazan and Singer, JMLR 2011): steps divided by the root of the sum of squares so far."""

    learning_rate: float = Field(default=1e-2, gt=0)
    """Step size γ in the first epoch."""
    initial_accumulator: float = Field(default=0.0, ge=0)
    """What the sums of squares begin at."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(
            params,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            initial_accumulator_value=self.initial_accumulator,
        )


class SGD(OptimizerConfig):
    """Stochastic gradient descent, with momentum where wanted."""

    learning_rate: float = Field(default=1e-2, gt=0)
    """Step size γ in the first epoch."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the last step's direction that is kept."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {"adam": Adam, "rmsprop": RMSprop, "adagrad": Adagrad, "sgd": SGD}
