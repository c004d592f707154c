"""BSAM: sharpness-aware minimisation whose direction leaves out part of the running mean gradient."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.updates.ascent import NORM_EPSILON, Ascent, AscentConfig, sum_of_norms
from trainables.updates.base import Gradients


class BSAM(Ascent):
    """Ascends along v = g - c·m, with m the moving average of batch gradients and c a distance of g and m.

    Paper: the BSAM/BSAM+ paper, TKDE 2025, doi 10.1109/TKDE.2025.3604242, eq. (9)-(12) and Algorithm 1; no official
    code exists and the text is ambiguous (strategies.md §5). m includes the current gradient and starts at 0 without
    bias correction, as printed. `distance` chooses the reading of c: `l1_relative`, the default, is the Manhattan
    distance over the sum of both L1 norms, in [0, 1] and free of the loss's scale; `l1` is the literal distance over
    all weights, which grows with the number of weights and can turn the ascent into a descent.
    A weight without a gradient is neither perturbed nor averaged in that step.
    """

    class Config(AscentConfig):
        """BSAM's numbers."""

        ema_decay: float = Field(default=0.6, ge=0, lt=1)
        """λ: share of the old moving average that is kept, in [0, 1)."""
        distance: Literal["l1_relative", "l1"] = "l1_relative"
        """Reading of the paper's "Manhattan distance" c."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.decay = config.ema_decay
        self.distance = config.distance
        self.averages: list[Tensor | None] = []

    def direction(self, gradients: Gradients) -> Gradients:
        self._average(gradients)
        known = [None if gradient is None else m for gradient, m in zip(gradients, self.averages, strict=True)]
        coefficient = self._coefficient(gradients, known)
        return [None if g is None or m is None else g - coefficient * m for g, m in zip(gradients, known, strict=True)]

    def _average(self, gradients: Gradients) -> None:
        if not self.averages:
            self.averages = [None] * len(gradients)
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            average = self.averages[index]
            if average is None:
                self.averages[index] = (1 - self.decay) * gradient
            else:
                average.mul_(self.decay).add_(gradient, alpha=1 - self.decay)

    def _coefficient(self, gradients: Gradients, averages: Gradients) -> float:
        gaps = [None if g is None or m is None else g - m for g, m in zip(gradients, averages, strict=True)]
        distance = sum_of_norms(gaps, order=1)
        if self.distance == "l1":
            return distance
        return distance / (sum_of_norms(gradients, order=1) + sum_of_norms(averages, order=1) + NORM_EPSILON)

    def state_dict(self) -> dict[str, Any]:
        return {"averages": [None if average is None else average.clone() for average in self.averages]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.averages = [None if average is None else torch.clone(average) for average in state["averages"]]
