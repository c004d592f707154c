"""Trainings on which protocols stand: one configuration, until it is done, and its best weights elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import Diverged
from trainables.evaluation.metrics import METRIC_NAMES
from trainables.protocols.measurement import Measurement
from trainables.trainer import Trainer


@dataclass(frozen=True)
class Trained:
    """A finished training, and all validation metrics of its best epoch; NaN, each, where it diverged."""

    trainer: Trainer
    validation: Mapping[str, float]
    diverged: bool = False

    def priced(self, measurements: list[Measurement]) -> list[Measurement]:
        """The measurements with what this training cost."""
        evaluations, seconds = self.trainer.progress.gradient_evaluations, self.trainer.progress.train_seconds
        return [replace(m, gradient_evaluations=evaluations, train_seconds=seconds) for m in measurements]


def train(config: TrialConfig, data: DataBundle, device: torch.device | str = "cpu") -> Trained:
    """Trains until early stopping, the last epoch or divergence, which is a result.

    Raises:
        ModelError: the model cannot work with the data set.
    """
    return finish(Trainer(config, data, device=device))


def finish(trainer: Trainer) -> Trained:
    """Trains on until early stopping, the last epoch or divergence."""
    best: Mapping[str, float] = {}
    done = False
    while not done:
        try:
            report = trainer.run_epoch()
        except Diverged:
            return Trained(trainer, not_a_number(), diverged=True)
        done = report.done
        if report.epoch == trainer.progress.best_epoch and report.validation is not None:
            best = report.validation
    return Trained(trainer, best)


def not_a_number() -> dict[str, float]:
    """Every ranking metric as NaN."""
    return dict.fromkeys(METRIC_NAMES, math.nan)


def judge(trainer: Trainer) -> dict[str, float]:
    """The validation metrics at the trainer's weights; NaN, each, where a representation is not finite."""
    try:
        return trainer.evaluate(trainer.evaluator)
    except Diverged:
        return not_a_number()


def at_best(trained: Trained, data: DataBundle, *, dtype: torch.dtype = torch.float32) -> Trainer:
    """A trainer of its own that holds the best weights of a training, with its model built from other data.

    What a model keeps of its features beside its weights thus comes from `data`, and nothing of `trained` is touched.
    """
    trainer = trained.trainer
    fresh = Trainer(trainer.config, data, device=trainer.device, dtype=dtype)
    fresh.model.load_state_dict(trainer.best_weights)
    return fresh
