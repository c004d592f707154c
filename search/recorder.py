"""From Tune's events to rows of the store. The store leads; Ray's own state is a cache."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.spec import SweepSpec
from search.store import Store
from search.study import StudySpec
from trainables.trainable import Resources

FLUSH_SECONDS = 5.0

COUNTERS = (
    "gradient_evaluations",
    "optimizer_steps",
    "samples",
    "train_seconds",
    "evaluation_seconds",
    "peak_memory_bytes",
    "device",
)
"""Columns of `trials` that are fields of a trial's last result, under the same name."""


@dataclass
class TrialRecord:
    """What the recorder knows of one trial."""

    name: str
    study: StudySpec
    flat: Mapping[str, Any]
    attempt: int = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str = "running"
    result: Mapping[str, Any] = field(default_factory=dict)


class Recorder(Callback):  # type: ignore[misc]
    """Writes every trial, parameter and epoch to the store as it happens.

    Rows are buffered for at most `FLUSH_SECONDS`, and flushed before every checkpoint, at every start and end of a
    trial and at the end of the sweep. A trial that a lost worker made start again gets a row for each attempt.
    """

    def __init__(
        self,
        store: Store,
        spec: SweepSpec,
        studies: Mapping[str, StudySpec],
        data_digests: Mapping[str, str],
        suggested: Mapping[str, datetime],
        on_change: Callable[[Mapping[str, TrialRecord]], None] | None = None,
    ) -> None:
        """Starts with nothing recorded.

        Args:
            studies: by cell name.
            data_digests: by data set.
            suggested: when each trial was suggested, by name; the time until its start is its queue time.
            on_change: hears of every change, for a live view.
        """
        self.store = store
        self.spec = spec
        self.studies = studies
        self.records: dict[str, TrialRecord] = {}
        self._digests = data_digests
        self._suggested = suggested
        self._on_change = on_change
        self._buffer: dict[str, list[dict[str, object]]] = {}
        self._flushed = time.monotonic()
        self._resources = Resources(spec.resources.cpu, spec.resources.gpu)

    def __getstate__(self) -> dict[str, Any]:
        """Without the live view: Tune pickles its callbacks into a cache that is never read back."""
        return self.__dict__ | {"_on_change": None}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A first start, or a restart after a lost worker."""
        record = self.records.get(trial.trial_id)
        if record is None:
            config = trial.config
            record = TrialRecord(config["name"], self.studies[config["cell"]], config["trial"])
            self.records[trial.trial_id] = record
            self._add("params", *self._params(record))
        record.attempt += 1
        record.started, record.status = datetime.now(UTC), "running"
        self._add("trials", self._trial_row(record, ended=None))
        self.flush()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """One epoch."""
        record = self.records[trial.trial_id]
        record.result = result
        self._add("metrics", *self._metric_rows(record))
        due = result["epoch"] % self.spec.checkpoint.every_epochs == 0
        if due or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()
        self._changed()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The end of a trial; one that called itself running was stopped by the scheduler."""
        record = self.records.get(trial.trial_id)
        if record is None:
            return
        status = record.result.get("status", "running")
        self._end(record, "pruned" if status == "running" else status, record.result.get("error"))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost and the trial will start again from its last checkpoint."""
        record = self.records.get(trial.trial_id)
        if record is not None:
            self._end(record, "lost", "the worker was lost; the trial starts again from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost once too often: what the trainable itself raises arrives as a result."""
        record = self.records.get(trial.trial_id)
        if record is not None:
            error = trial.get_error() or "the worker was lost"
            self._end(record, "lost", str(error)[-2000:])

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The end of the sweep; what still runs was stopped."""
        for record in self.records.values():
            if record.status == "running":
                self._end(record, "stopped", "the sweep was stopped")
        self.flush()

    def _end(self, record: TrialRecord, status: str, error: str | None) -> None:
        record.status = status
        self._add("trials", self._trial_row(record, ended=datetime.now(UTC), error=error))
        self.flush()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.records)

    def _add(self, table: str, *rows: dict[str, object]) -> None:
        self._buffer.setdefault(table, []).extend(rows)

    def flush(self) -> None:
        """Writes what is buffered."""
        for table, rows in self._buffer.items():
            if rows:
                self.store.append(table, rows)
        self._buffer = {}
        self._flushed = time.monotonic()

    def _device_seconds(self, result: Mapping[str, Any]) -> float:
        share = self._resources.cpu if result.get("device", "cpu") == "cpu" else self._resources.gpu
        spent = ("train_seconds", "evaluation_seconds", "setup_seconds")
        return float(share * sum(result.get(name) or 0.0 for name in spent))

    def _trial_row(self, record: TrialRecord, *, ended: datetime | None, error: str | None = None) -> dict[str, object]:
        study, result = record.study, record.result
        suggested = self._suggested.get(record.name, record.started)
        return {
            "sweep": self.spec.name,
            "trial": record.name,
            "attempt": record.attempt,
            "cell": study.cell,
            "dataset": study.dataset,
            "data_digest": self._digests[study.dataset],
            "model": study.model,
            "objective": study.objective,
            "update": study.update,
            "optimizer": study.optimizer,
            "seed": record.flat["seed"],
            "status": record.status,
            "config_json": json.dumps(record.flat),
            "metric": self.spec.goal.metric,
            "mode": self.spec.goal.mode,
            "best_score": result.get("best_score"),
            "best_epoch": result.get("best_epoch") or None,
            "epochs": result.get("epoch"),
            **{name: result.get(name) for name in COUNTERS},
            "queue_seconds": max(0.0, (record.started - suggested).total_seconds()) if record.attempt == 1 else None,
            "device_seconds": self._device_seconds(result) if result else None,
            "worker": f"{result['hostname']}:{result['pid']}" if "pid" in result else None,
            "started": record.started,
            "ended": ended,
            "error": error,
        }

    def _params(self, record: TrialRecord) -> list[dict[str, object]]:
        tuned = set(record.study.space.tuned())
        rows: list[dict[str, object]] = []
        for name, value in record.flat.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            text = None if is_number else value if isinstance(value, str) else json.dumps(value)
            row = {"sweep": self.spec.name, "trial": record.name, "name": name, "tuned": name in tuned}
            rows.append(row | {"number": float(value) if is_number else None, "text": text})
        return rows

    def _metric_rows(self, record: TrialRecord) -> list[dict[str, object]]:
        result = record.result
        common = {
            "sweep": self.spec.name,
            "trial": record.name,
            "attempt": record.attempt,
            "epoch": result["epoch"],
            "gradient_evaluations": result.get("gradient_evaluations", 0),
            "train_seconds": result.get("train_seconds", 0.0),
            "device_seconds": self._device_seconds(result),
        }
        values = [("train", result["losses"]), ("valid", result["validation"])]
        return [
            common | {"split": split, "metric": name, "value": value}
            for split, metrics in values
            for name, value in metrics.items()
        ]
