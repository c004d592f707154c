"""The registry of base optimisers: a new one is a class, a line here and a row in `spaces/optimizers.py`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class OptimizerConfig(BaseModel, ABC):
    """Numbers of an optimiser, and how to build it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    weight_decay: float = Field(default=0.0, ge=0)
    """L2 term that the optimiser adds to the gradient it is given."""

    @abstractmethod
    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over the given weights."""


class Adam(OptimizerConfig):
    """Adam (Kingma and Ba, ICLR 2015), in PyTorch's one-pass implementation: the same mathematics, memory-bound."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size γ."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)


class SGD(OptimizerConfig):
    """Stochastic gradient descent, with momentum where wanted."""

    learning_rate: float = Field(default=1e-2, gt=0)
    """Step size γ."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the last step's direction that is kept."""

    def build(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {"adam": Adam, "sgd": SGD}
