"""What is minimised on a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from trainables.models.base import Recommender
from trainables.types import Batch, Losses


class ObjectiveConfig(BaseModel):
    """Base of every objective's numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Objective(nn.Module, ABC):
    """A batch's loss from a model's stages. May own weights, which are trained beside the model's.

    Never sees the optimiser. It uses the stages only, so it works with every model; inference is the model's own.
    Every objective is built as `SomeObjective(config, widths, generator)`, with `widths` the width of H by name.
    """

    class Config(ObjectiveConfig):
        """The objective's numbers; each objective extends it."""

    def __init__(self, config: ObjectiveConfig, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, model: Recommender, batch: Batch) -> Losses:
        """The losses of one batch at the model's current weights."""
