"""The embedded data set does what it is for: on it, modalities are worth something."""

import pytest

from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.trainer import Trainer


def best_score(model: str, seed: int) -> float:
    flat = {
        "model.name": model,
        "model.embedding_size": 32,
        "optimizer.learning_rate": 0.005,
        "train.batch_size": 512,
        "train.max_epochs": 20,
        "seed": seed,
    }
    config = TrialConfig.from_flat(flat)
    trainer = Trainer(config, load(config.data))
    while not trainer.run_epoch().done:
        pass
    assert trainer.progress.best_score is not None
    return trainer.progress.best_score


@pytest.mark.slow
@pytest.mark.parametrize("seed", [999, 1])
def test_a_multimodal_model_beats_a_single_modal_one_by_a_tenth(seed: int) -> None:
    assert best_score("vbpr", seed) > 1.1 * best_score("lightgcn", seed)
