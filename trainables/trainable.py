"""The Tune adapter of a trial: one step is one epoch. The only module of this package that imports Ray."""

import resource
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables import checkpoints
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import Diverged
from trainables.progress import EpochReport
from trainables.trainer import Trainer

CHECKPOINT = "trial"


@dataclass(frozen=True)
class Resources:
    """What a trial may use: logical CPUs (one thread each, at least one) and a share of a GPU."""

    cpu: float | int = 1
    gpu: float | int = 0


class RecommenderTrainable(tune.Trainable):  # type: ignore[misc]
    """Runs a `Trainer` under Ray Tune; the flat configuration of the trial is `config["trial"]`.

    A mistake or a divergence of the configuration is a result (`status` failed or diverged, `done`), not an exception:
    Tune retries exceptions, and these would only come again. What Tune sees fail is therefore a lost worker, which it
    restarts from the last checkpoint. Workers are reused: `reset_config` builds the next trial in the same process,
    which keeps the data, the graphs and the imports.

    Every result has `epoch`, `score` (the last validated value of the goal metric), `validated`, `status`, `done`,
    `losses`, `validation` and the counters of `Progress`.
    """

    def setup(self, config: dict[str, Any], bundles: Mapping[str, DataBundle], resources: Resources) -> None:
        """Builds the trial; an error in it is kept for the first step, where it can be reported."""
        self._bundles = bundles
        self._resources = resources
        self._device = claim_device(resources)
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Replaces the trial by another one in the same process."""
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        start = time.perf_counter()
        self._trainer: Trainer | None = None
        self._error: str | None = None
        try:
            trial = TrialConfig.from_flat(config["trial"])
            self._trainer = Trainer(trial, self._bundles[trial.data.name], device=self._device)
        except Exception as error:
            self._error = describe_error(error)
        self._setup_seconds = time.perf_counter() - start

    def step(self) -> dict[str, Any]:
        """One epoch, with a validation where due."""
        if self._trainer is None:
            return self._ended("failed", self._error or "the trial could not be built")
        try:
            report = self._trainer.run_epoch()
        except Diverged as divergence:
            return self._ended("diverged", str(divergence))
        except Exception as error:
            return self._ended("failed", describe_error(error))
        return self._result(report)

    def _result(self, report: EpochReport) -> dict[str, Any]:
        return {
            "status": "finished" if report.done else "running",
            "error": None,
            "done": report.done,
            "validated": report.validation is not None,
            "losses": dict(report.losses),
            "validation": dict(report.validation or {}),
            **report.progress,
            **self._usage(),
        }

    def _ended(self, status: str, error: str) -> dict[str, Any]:
        progress = self._trainer.progress.as_dict() if self._trainer else {"epoch": 0, "score": None}
        result = {"status": status, "error": error, "done": True, "validated": False, "losses": {}, "validation": {}}
        return result | progress | self._usage()

    def _usage(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
        return {
            "setup_seconds": self._setup_seconds,
            "peak_memory_bytes": peak,
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves the trial between two epochs; a trial that could not be built saves nothing."""
        if self._trainer is not None:
            checkpoints.save(Path(checkpoint_dir) / CHECKPOINT, *self._trainer.state())

    def load_checkpoint(self, checkpoint: str) -> None:
        """Goes back to a saved state."""
        if self._trainer is not None:
            self._trainer.restore(*checkpoints.load(Path(checkpoint) / CHECKPOINT, self._device))

    def cleanup(self) -> None:
        """Lets go of the trial's memory; on a GPU also of PyTorch's cache, which other trials of the card need."""
        self._trainer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def describe_error(error: Exception) -> str:
    """The error's class and text, and the last lines of its traceback."""
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {error}\n{''.join(lines[-3:-1])}".strip()


def claim_device(resources: Resources) -> torch.device:
    """Sets this process's threads and its share of a GPU's memory, and returns the device to work on."""
    torch.set_num_threads(max(1, int(resources.cpu)))
    if resources.gpu == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    if resources.gpu < 1:
        torch.cuda.set_per_process_memory_fraction(resources.gpu)
    return torch.device("cuda")
