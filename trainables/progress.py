"""How far a trial is: its counters, its early stopping, and what an epoch reports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from trainables.config import TrainConfig


@dataclass
class Progress:
    """Counters and early-stopping state of a trial; plain numbers, saved with every checkpoint.

    Attributes:
        epoch: finished epochs.
        gradient_evaluations: forward + backward passes of one batch.
        optimizer_steps: steps of the base optimiser.
        forward_passes: passes without gradients (one a validation).
        samples: training interactions seen.
        train_seconds, evaluation_seconds: wall time in training epochs and in validations.
        score: the last validation's goal metric, which may be an estimate; None before the first.
        best_score, best_epoch: the best full validation so far.
        misses: full validations in a row without a new best.
        first_loss: the very first step's loss, against which an explosion is measured.
    """

    epoch: int = 0
    gradient_evaluations: int = 0
    optimizer_steps: int = 0
    forward_passes: int = 0
    samples: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    score: float | None = None
    best_score: float | None = None
    best_epoch: int = 0
    misses: int = 0
    first_loss: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Progress":
        """The inverse of `as_dict`."""
        return cls(**{f.name: values[f.name] for f in fields(cls)})

    def record_score(self, score: float, mode: str) -> bool:
        """Takes note of a full validation and returns whether it is a new best; equal scores are none."""
        self.score = score
        improved = self.best_score is None or (score > self.best_score if mode == "max" else score < self.best_score)
        if improved:
            self.best_score, self.best_epoch, self.misses = score, self.epoch, 0
        else:
            self.misses += 1
        return improved

    def done(self, train: TrainConfig) -> bool:
        """Whether training is over: all epochs done, or more than `patience` validations without a new best."""
        return self.epoch >= train.max_epochs or self.misses > train.patience


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to.

    Attributes:
        epoch: its number, from 1.
        losses: mean over the epoch's steps of the total ("loss") and of each part ("loss/<part>").
        validation: the metrics on the validation split, estimates under `estimate_of` their names; None where no
            validation was due.
        done: whether training is over.
        progress: counters at the end of the epoch.
    """

    epoch: int
    losses: Mapping[str, float]
    validation: Mapping[str, float] | None
    done: bool
    progress: Mapping[str, Any] = field(default_factory=dict)
