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

    def start_epoch(self, epoch: int) -> None:
        """Hears which epoch begins, counted from 1; also of a resumed trial's first. Default: nothing."""

    def gradient_evaluations(self, epoch: int) -> int:
        """Forward + backward passes of the model that one loss costs in that epoch. Default: 1."""
        return 1

    def check(self, model: Recommender) -> None:
        """Returns if the objective can work with the model; the trainer asks once. Default: it can.

        Raises:
            ModelError: it cannot.
        """

    @abstractmethod
    def forward(self, model: Recommender, batch: Batch) -> Losses:
        """The losses of one batch at the model's current weights."""
