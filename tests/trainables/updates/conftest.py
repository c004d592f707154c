"""The golden problems: tiny losses whose trajectories official code has run."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates.base import Stepper, Update

BASES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "sgdm_wd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adam_wd": torch.optim.Adam,
}


@dataclass
class GoldenProblem:
    """One stored case: its weights in the stored order, its loss of batch k, its numbers and the stored vectors."""

    meta: dict[str, Any]
    vectors: Any
    names: list[str]
    weights: list[Tensor]

    def loss(self, k: int) -> Tensor:
        if self.meta["problem_name"] == "quadratic":
            a, b = torch.from_numpy(self.vectors["input/A"]), torch.from_numpy(self.vectors["input/b"])
            w = torch.cat([weight.flatten() for weight in self.weights])
            return 0.5 * w @ a @ w - b[k] @ w
        x, y = torch.from_numpy(self.vectors["input/X"])[k], torch.from_numpy(self.vectors["input/Y"])[k]
        first, first_bias, second, second_bias = self.weights
        hidden = torch.tanh(x @ first.T + first_bias)
        return ((hidden @ second.T + second_bias - y) ** 2).mean()

    def closure(self, k: int) -> Closure:
        def compute(*, fresh: bool = False) -> Losses:
            return Losses.of(loss=self.loss(k))

        return compute

    def stepper(self) -> Stepper:
        optimizer = BASES[self.meta["base"]](self.weights, **self.meta["base_kwargs"])
        return Stepper(self.weights, optimizer, names=self.names)

    def run(self, update: Update, batches: Sequence[int]) -> list[list[np.ndarray]]:
        """Weights after each step."""
        stepper, trajectory = self.stepper(), []
        for k in batches:
            update([self.closure(k)], stepper, Moment(epoch=1, step=k))
            trajectory.append([weight.detach().numpy().copy() for weight in self.weights])
        return trajectory


def read_problem(folder: Path) -> GoldenProblem:
    meta = json.loads((folder / "meta.json").read_text())
    vectors = np.load(folder / "vectors.npz")
    if meta["problem_name"] == "mlp":
        names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
        start = [vectors[f"input/{name}"] for name in names]
    else:
        names, start = ["weight", "bias"], [vectors["input/w0"][:3], vectors["input/w0"][3:]]
    return GoldenProblem(meta, vectors, names, [torch.tensor(value, requires_grad=True) for value in start])


@pytest.fixture
def problem(shared: Path) -> Callable[[str], GoldenProblem]:
    """Reads a golden case by its folder below `golden`."""
    return lambda name: read_problem(shared / "golden" / name)
