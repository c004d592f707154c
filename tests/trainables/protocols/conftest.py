"""Small configurations for the protocols."""

from collections.abc import Callable

import pytest

from trainables.config import TrialConfig


def small(model: str = "vbpr", **numbers: object) -> TrialConfig:
    """A trial of few epochs on few numbers; keyword `update__name` stands for the key "update.name"."""
    flat = {
        "seed": 7,
        "model.name": model,
        "model.embedding_size": 4,
        "train.batch_size": 13,
        "train.max_epochs": 3,
        "optimizer.learning_rate": 0.02,
    }
    if model == "freedom":
        flat["model.knn_k"] = 3
    return TrialConfig.from_flat(flat | {key.replace("__", "."): value for key, value in numbers.items()})


@pytest.fixture
def configure() -> Callable[..., TrialConfig]:
    """The maker of small configurations."""
    return small
