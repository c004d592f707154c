"""What a worker does: trains one trial after another, keeps its checkpoints, and reports every epoch."""

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables import checkpoints
from trainables.checkpoint_places import CheckpointPlan
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import Diverged
from trainables.progress import EpochReport
from trainables.shares import Resources, claim_device, forget_peak_memory, give_back_memory, peak_memory
from trainables.trainer import Trainer

CHECKPOINT = "trial"

MEMORABLE = ("epoch", "validated", "done", "status", "losses", "validation", "score", "gradient_evaluations")
TIMES = ("train_seconds", "evaluation_seconds", "setup_seconds")


class TrialRunner:
    """Trains trials on one share of a machine, in one process, which keeps the data, the graphs and the imports.

    A mistake or a divergence of the configuration is a result (`status` failed or diverged, `done`), not an exception.

    With a `CheckpointPlan` a trial looks after itself: it saves its state every few epochs, and wherever it is built
    again, it goes on from its newest checkpoint that is whole. A checkpoint holds the reports of all epochs
    so far. The first result after a restart trains nothing: it is the checkpoint's own once more, with those before it
    as `earlier`, for a driver that had not stored or not judged them yet.

    Attributes:
        trainer: the trial's; None where it could not be built, or was let go.
    """

    def __init__(self, bundles: Mapping[str, DataBundle], resources: Resources, plan: CheckpointPlan | None) -> None:
        """Claims the share; there is no trial yet."""
        self._bundles = bundles
        self._plan = plan
        self._device = claim_device(resources)

    def build(self, name: str, flat: Mapping[str, Any]) -> None:
        """Builds the trial of that name and flat configuration, in place of the one before.

        An error in it is kept for the first epoch, where it can be reported.
        """
        start = time.perf_counter()
        self.trainer: Trainer | None = None
        forget_peak_memory(self._device)
        self._error: str | None = None
        self._folder: checkpoints.CheckpointFolder | None = None
        self._reports: list[dict[str, Any]] = []
        try:
            trial = TrialConfig.from_flat(flat)
            if self._plan is not None:
                self._folder = checkpoints.CheckpointFolder(self._plan.place(name), keep=self._plan.keep)
            self.trainer = self._from_checkpoint(trial) or self._fresh(trial)
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

    def epoch(self) -> dict[str, Any]:
        """One epoch, with a validation where due and a checkpoint where due."""
        if self.trainer is None:
            return self._ended("failed", self._error or "the trial could not be built")
        if self._untold:
            return self._again(self.trainer)
        try:
            report = self.trainer.run_epoch()
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
        progress = self.trainer.progress.as_dict() if self.trainer else {"epoch": 0, "score": None}
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
        if not due or self._folder is None or self.trainer is None or result["error"] is not None:
            return None
        try:
            self._folder.save(result["epoch"], *self._state())
        except OSError as error:
            return f"no checkpoint could be saved: {error.strerror or error}"
        return None

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        assert self.trainer is not None
        tensors, progress = self.trainer.state()
        return tensors, {"progress": progress, "reports": self._reports}

    def _usage(self) -> dict[str, Any]:
        return {
            "peak_memory_bytes": peak_memory(self._device),
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
        }

    def save(self, folder: Path) -> None:
        """Saves the trial below a folder; one that could not be built saves nothing."""
        if self.trainer is not None:
            checkpoints.save(folder / CHECKPOINT, *self._state())

    def load(self, folder: Path) -> None:
        """Goes back to a state that was saved below a folder."""
        if self.trainer is not None:
            tensors, numbers = checkpoints.load(folder / CHECKPOINT, self._device)
            self.trainer.restore(tensors, numbers["progress"])
            self._reports = list(numbers["reports"])

    def let_go(self) -> None:
        """Lets go of the trial's memory; on a GPU also of PyTorch's cache, which other trials of the card need."""
        self.trainer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def describe_error(error: Exception) -> str:
    """The error's class and text, and the last lines of its traceback."""
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {error}\n{''.join(lines[-3:-1])}".strip()
