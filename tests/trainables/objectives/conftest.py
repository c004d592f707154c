"""What tests of objectives share: models of the small data set, a batch of it, and draws that can be repeated."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables.data.bundle import DataBundle
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.objectives import OBJECTIVES
from trainables.objectives.base import Objective
from trainables.seeding import torch_stream
from trainables.types import Batch, Losses

SMALL: dict[str, dict[str, Any]] = {"freedom": {"knn_k": 3}, "dragon": {"knn_k": 3}}


@pytest.fixture
def build(toy: DataBundle) -> Callable[..., Recommender]:
    """Makes a model of the registry on the small data set, in float64 and training mode."""

    def made(name: str, **numbers: Any) -> Recommender:
        config = MODELS[name].Config(**{"embedding_size": 4, **SMALL.get(name, {}), **numbers})
        return MODELS[name](config, toy, torch_stream(0, "init")).double().train()

    return made


@pytest.fixture
def objective_for() -> Callable[..., Objective]:
    """Makes an objective of the registry for a model, in its precision."""

    def made(name: str, model: Recommender, **numbers: Any) -> Objective:
        widths = {key: h.shape[1] for key, h in model.fuse().items()}
        objective = OBJECTIVES[name](OBJECTIVES[name].Config(**numbers), widths, torch_stream(0, "objective"))
        return objective.double()

    return made


@pytest.fixture
def batch(toy: DataBundle) -> Batch:
    """Twelve training pairs with one negative each."""
    users, items = torch.from_numpy(toy.train.users[:12].copy()), torch.from_numpy(toy.train.items[:12].copy())
    return Batch(users, items, ((items + 3) % toy.num_items)[:, None])


@pytest.fixture
def seeded() -> Callable[..., Losses]:
    """Calls with the global generator at a fixed state, as the trainer's closures do."""

    def called(function: Callable[..., Any], *arguments: Any, seed: int = 5) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return function(*arguments)

    return called
