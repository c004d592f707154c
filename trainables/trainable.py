"""The Tune adapter of a trial: one step is one epoch. The only module of this package that imports Ray."""

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
from trainables.places import below
from trainables.progress import EpochReport
from trainables.shares import Resources, claim_device, forget_peak_memory, give_back_memory, peak_memory
from trainables.trainer import Trainer

CHECKPOINT = "trial"

MEMORABLE = ("epoch", "validated", "done", "status", "losses", "validation", "score", "gradient_evaluations")
TIMES = ("train_seconds", "evaluation_seconds", "setup_seconds")


@dataclass(frozen=True)
class CheckpointPlan:
    """Where trials keep their checkpoints and how often.

    Attributes:
        root: a folder or an s3:// or gs:// address; every trial has a folder of its name in it.
        every_epochs: epochs from one checkpoint to the next.
        keep: checkpoints that a running trial keeps.
    """

    root: str
    every_epochs: int = 5
    keep: int = 2

    def folder(self, name: str) -> checkpoints.CheckpointFolder:
        """The folder of the trial of that name."""
        return checkpoints.CheckpointFolder(below(self.root, name), keep=self.keep)


class RecommenderTrainable(tune.Trainable):  # type: ignore[misc]
    """Runs a `Trainer` under Ray Tune; the flat configuration of the trial is `config["trial"]`, its name is
    `config["name"]`, and `config["resources"]`, where it is given, is its (cpu, gpu).

    A mistake or a divergence of the configuration is a result (`status` failed or diverged, `done`), not an exception:
    Tune retries exceptions, and these would only come again. What Tune sees fail is therefore a lost worker. Workers
    are reused: `reset_config` builds the next trial in the same process, which keeps the data, the graphs and the
    imports.

    With a `CheckpointPlan` a trial looks after itself: it saves its state every few epochs, and wherever it is built
    again, it goes on from its newest checkpoint that is whole. A checkpoint holds the reports of all epochs
    so far. The first result after a restart trains nothing: it is the checkpoint's own once more, with those before it
    as `earlier`, for a driver that had not stored or not judged them yet.

    Every result has `epoch`, `score` (the last validated value of the goal metric, with early validation at first its
    estimate), `validated`, `status`, `done`, `losses`, `validation`, `earlier`, `warning` (None, or why no checkpoint
    could be saved) and the counters of `Progress`.
    """

    def setup(
        self,
        config: dict[str, Any],
        bundles: Mapping[str, DataBundle],
        resources: Resources,
        plan: CheckpointPlan | None = None,
    ) -> None:
        """Builds the trial; an error in it is kept for the first step, where it can be reported."""
        self._bundles = bundles
        self._plan = plan
        self._device = claim_device(Resources(*config["resources"]) if "resources" in config else resources)
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Replaces the trial by another one in the same process."""
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        start = time.perf_counter()
        self._trainer: Trainer | None = None
        forget_peak_memory(self._device)
        self._error: str | None = None
        self._folder: checkpoints.CheckpointFolder | None = None
        self._reports: list[dict[str, Any]] = []
        try:
            trial = TrialConfig.from_flat(config["trial"])
            self._folder = None if self._plan is None else self._plan.folder(config["name"])
            self._trainer = self._from_checkpoint(trial) or self._fresh(trial)
        except Exception as error:
            self._error = describe_error(error)
        give_back_memory()
        self._untold = list(self._reports)
        before = self._reports[-1]["setup_seconds"] if self._reports else 0.0
        self._setup_seconds = before + time.perf_counter() - start

    def _fresh(self, trial: TrialConfig) -> Trainer:
        return Trainer(trial, self._bundles[trial.data.name], device=self._device)

    def _from_checkpoint(self, trial: TrialConfig) -> Trainer | None:
        """The trial at its newest checkpoint that fits it; None where there is none."""
        for tensors, numbers in () if self._folder is None else self._folder.newest_first(self._device):
            trainer = self._fresh(trial)
            try:
                trainer.restore(tensors, numbers["progress"])
                self._reports = list(numbers["reports"])
            except (KeyError, RuntimeError, TypeError, ValueError):
                continue  # it was written by code with other parts; the trial is trained anew
            return trainer
        return None

    def step(self) -> dict[str, Any]:
        """One epoch, with a validation where due and a checkpoint where due."""
        if self._trainer is None:
            return self._ended("failed", self._error or "the trial could not be built")
        if self._untold:
            return self._again(self._trainer)
        try:
            report = self._trainer.run_epoch()
        except Diverged as divergence:
            return self._ended("diverged", str(divergence))
        except Exception as error:
            return self._ended("failed", describe_error(error))
        return self._result(report)

    def _again(self, trainer: Trainer) -> dict[str, Any]:
        """The report of the checkpoint's epoch once more, with all before it: whoever lost it may judge it now."""
        *earlier, last = self._untold
        self._untold = []
        known = {"error": None, "earlier": earlier, "warning": None}
        return trainer.progress.as_dict() | last | known | self._usage()

    def _result(self, report: EpochReport) -> dict[str, Any]:
        result = {
            "status": "finished" if report.done else "running",
            "done": report.done,
            "validated": report.validation is not None,
            "losses": dict(report.losses),
            "validation": dict(report.validation or {}),
            **report.progress,
        }
        return self._whole(result)

    def _ended(self, status: str, error: str) -> dict[str, Any]:
        progress = self._trainer.progress.as_dict() if self._trainer else {"epoch": 0, "score": None}
        result = {"status": status, "done": True, "validated": False, "losses": {}, "validation": {}}
        return self._whole(result | progress, error)

    def _whole(self, result: dict[str, Any], error: str | None = None) -> dict[str, Any]:
        """The result with what it cost; the trial is saved where a checkpoint is due."""
        result = result | {"setup_seconds": self._setup_seconds, "error": error, "earlier": []}
        if error is None:
            self._reports.append({name: result[name] for name in (*MEMORABLE, *TIMES)})
        return result | {"warning": self._save_if_due(result)} | self._usage()

    def _save_if_due(self, result: Mapping[str, Any]) -> str | None:
        """Saves the trial where it is time to; a checkpoint that cannot be saved is no reason to end the trial."""
        due = self._plan is not None and (result["done"] or result["epoch"] % self._plan.every_epochs == 0)
        if not due or self._folder is None or self._trainer is None or result["error"] is not None:
            return None
        try:
            self._folder.save(result["epoch"], *self._state())
        except OSError as error:
            return f"no checkpoint could be saved: {error.strerror or error}"
        return None

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        assert self._trainer is not None
        tensors, progress = self._trainer.state()
        return tensors, {"progress": progress, "reports": self._reports}

    def _usage(self) -> dict[str, Any]:
        return {
            "peak_memory_bytes": peak_memory(self._device),
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves the trial for Tune; a trial that could not be built saves nothing."""
        if self._trainer is not None:
            checkpoints.save(Path(checkpoint_dir) / CHECKPOINT, *self._state())

    def load_checkpoint(self, checkpoint: str) -> None:
        """Goes back to a state that was saved for Tune."""
        if self._trainer is not None:
            tensors, numbers = checkpoints.load(Path(checkpoint) / CHECKPOINT, self._device)
            self._trainer.restore(tensors, numbers["progress"])
            self._reports = list(numbers["reports"])

    def cleanup(self) -> None:
        """Lets go of the trial's memory; on a GPU also of PyTorch's cache, which other trials of the card need."""
        self._trainer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def describe_error(error: Exception) -> str:
    """The error's class and text, and the last lines of its traceback."""
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {error}\n{''.join(lines[-3:-1])}".strip()
