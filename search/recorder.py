"""From Tune's events to rows of the store. The store leads; Tune keeps nothing."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.costs import device_seconds
from search.guard import Guard
from search.history import PastTrial
from search.spec import SweepSpec
from search.study_spec import StudySpec
from search.writer import StoreWriter
from trainables.checkpoint_places import remove_all, remove_needless
from trainables.places import below

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

KEPT = (*COUNTERS, "status", "error", "epoch", "best_score", "best_epoch", "setup_seconds", "hostname", "pid")
"""Fields of a trial's last result that are of use after it."""

JUDGED = {
    *("epoch", "status", "validated", "score", "best_score", "gradient_evaluations", "done", "device", "earlier"),
    *("train_seconds", "evaluation_seconds", "setup_seconds"),
    *("pid", "hostname", "node_ip", "training_iteration", "trial_id"),
}
"""What searcher, scheduler and Tune look at after the recorder, when a trial ends; Tune keeps it for every trial."""

SUCCEEDED = ("finished", "pruned")

OUT_OF_MEMORY = ("OutOfMemoryError", "running low on memory")
"""Found in what Ray says of a worker that its memory monitor killed."""


@dataclass
class TrialRecord:
    """What the recorder knows of one trial.

    Attributes:
        epochs: those that were handed to the writer, by this driver or an earlier one.
        past: the row of an earlier driver, while it has not begun in this one.
    """

    name: str
    study: StudySpec
    flat: Mapping[str, Any]
    candidate: int
    share: tuple[float, float] = (1, 0)
    attempt: int = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str = "running"
    result: Mapping[str, Any] = field(default_factory=dict)
    epochs: set[int] = field(default_factory=set)
    past: Mapping[str, Any] | None = None


class Recorder(Callback):  # type: ignore[misc]
    """Hands every trial, parameter and epoch to the writer as it happens.

    Starts and ends of trials are written at once, epochs within seconds. A trial that began again after a lost worker
    or driver gets a row for each attempt. What a restarted trial reports of epochs before its checkpoint is written
    where it is not in the store yet.
    """

    def __init__(
        self,
        writer: StoreWriter,
        spec: SweepSpec,
        studies: Mapping[str, StudySpec],
        data_digests: Mapping[str, str],
        suggested: Mapping[str, datetime],
        *,
        guard: Guard | None = None,
        checkpoints: str | None = None,
        past: Sequence[PastTrial] = (),
        on_change: Callable[[Mapping[str, TrialRecord]], None] | None = None,
        on_warning: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Starts with what is past.

        Args:
            studies: by cell name.
            data_digests: by data set.
            suggested: when each trial was suggested, by name; the time until its start is its queue time.
            guard: says how trials that were ended by order are recorded.
            checkpoints: where trials keep theirs; None where they keep none.
            past: the trials of earlier drivers.
            on_change: hears of every change, for a live view.
            on_warning: hears what trials warn of.
        """
        self.writer = writer
        self.spec = spec
        self.studies = studies
        self.records: dict[str, TrialRecord] = {}
        self.results = 0
        self._digests = data_digests
        self._suggested = suggested
        self._guard = guard or Guard()
        self._checkpoints = checkpoints
        self._on_change = on_change
        self._on_warning = on_warning
        self._best: dict[str, TrialRecord] = {}
        for trial in past:
            self._take_over(trial)
        self._tidy([trial.name for trial in past if trial.ended])

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a cache that is never read back."""
        return {}

    def _take_over(self, trial: PastTrial) -> None:
        study = self.studies[trial.cell]
        share = self.spec.resources.of(study)
        record = TrialRecord(trial.name, study, trial.flat, trial.candidate, (share.cpu, share.gpu), trial.attempt)
        record.status, record.past = trial.status, trial.row
        known = {name: trial.row[name] for name in (*COUNTERS, "best_score", "best_epoch")}
        record.result = known | {"epoch": trial.row["epochs"] or 0}
        self.records[trial.name] = record
        if not trial.ended:
            record.epochs = set(trial.epochs)
        elif trial.status in SUCCEEDED and self._is_best(record):
            self._best[record.study.cell] = record

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A first start, or a restart after a lost worker or driver."""
        config = trial.config
        record = self.records.get(config["name"])
        if record is None:
            study, share = self.studies[config["cell"]], config["resources"]
            record = TrialRecord(config["name"], study, config["trial"], config["candidate"], tuple(share))
            self.records[record.name] = record
            self.writer.add("params", self._params(record))
        trial.run_metadata.update_metric = _keep_nothing
        record.attempt += 1
        record.started, record.status, record.past = datetime.now(UTC), "running", None
        self.writer.add("trials", [self._trial_row(record, ended=None)], soon=True)
        self._changed()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """One epoch, or after a restart those up to the checkpoint's."""
        record = self.records[trial.config["name"]]
        self.results += 1
        reports = [report for report in (*result["earlier"], result) if report["epoch"] not in record.epochs]
        record.epochs.update(report["epoch"] for report in reports)
        rows = [self._metric_rows(record, {"device": result["device"], **report}) for report in reports]
        self.writer.add("metrics", list(itertools.chain.from_iterable(rows)))
        record.result = {name: result.get(name) for name in KEPT}
        if result["warning"] is not None:
            self._on_warning(f"{record.name}: {result['warning']}")
        for name in result.keys() - JUDGED:
            del result[name]
        self._changed()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The end of a trial; one that called itself running was stopped by the scheduler."""
        record = self.records.get(trial.config["name"])
        if record is None:
            return
        status, error = record.result.get("status") or "running", record.result.get("error")
        if status == "running":
            status, error = self._guard.ended.get(record.name, ("pruned", None))
        self._end(record, status, error)
        _forget(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost and the trial will start again from its last checkpoint."""
        record = self.records.get(trial.config["name"])
        if record is not None:
            cause = _cause(trial)
            self._end(record, "lost", f"{cause}; the trial starts again from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost once too often: what the trainable itself raises arrives as a result."""
        record = self.records.get(trial.config["name"])
        if record is None:
            return
        # A machine that is lost is no fault of the configuration; to need more memory than there is, is.
        status = "failed" if _ran_out_of_memory(trial) else "lost"
        self._end(record, *self._guard.ended.get(record.name, (status, _cause(trial))))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The end of the sweep; what still runs was stopped."""
        for record in self.records.values():
            if record.status == "running":
                self._end(record, "stopped", self._guard.reason or "the sweep was stopped")

    def _end(self, record: TrialRecord, status: str, error: str | None) -> None:
        record.status, ended = status, datetime.now(UTC)
        # A library's message may hold what is no text; a row with it would be refused for good.
        error = None if error is None else error.encode(errors="replace").decode()
        if record.past is None:
            row = self._trial_row(record, ended=ended, error=error)
        else:
            kept = {name: value for name, value in record.past.items() if name != "written"}
            row = {**kept, "status": status, "ended": kept["ended"] or ended, "error": error}
        self.writer.add("trials", [row], soon=True)
        if status not in ("lost", "stopped"):
            record.epochs = set()
            self._remove_needless(record)
        self._changed()

    def _remove_needless(self, record: TrialRecord) -> None:
        """Removes the checkpoints that nobody needs now that the trial has ended, once its end is in the store."""
        policy, cell = self.spec.checkpoint.ended, record.study.cell
        goes: TrialRecord | None = record
        if record.status in SUCCEEDED and self._is_best(record):
            goes, self._best[cell] = self._best.get(cell), record
        if policy == "none":
            goes = record
        if self._checkpoints is not None and policy != "all" and goes is not None:
            self.writer.after(partial(remove_all, below(self._checkpoints, goes.name)))

    def _tidy(self, ended: Sequence[str]) -> None:
        """Removes needless checkpoints of past trials: a driver that is killed leaves them behind."""
        policy = self.spec.checkpoint.ended
        best = set() if policy == "none" else {record.name for record in self._best.values()}
        if ended and self._checkpoints is not None and policy != "all":
            self.writer.after(partial(remove_needless, self._checkpoints, set(ended) - best))

    def _is_best(self, record: TrialRecord) -> bool:
        """Whether none of the cell's trials that ended before has a better score; the first of equals stays."""
        best = self._best.get(record.study.cell)
        score, so_far = record.result.get("best_score"), None if best is None else best.result.get("best_score")
        if score is None or so_far is None:
            return score is not None
        return bool(score > so_far if self.spec.goal.mode == "max" else score < so_far)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.records)

    def _trial_row(self, record: TrialRecord, *, ended: datetime | None, error: str | None = None) -> dict[str, object]:
        study, result = record.study, record.result
        suggested = self._suggested.get(record.name, record.started)
        return {
            "sweep": self.spec.name,
            "trial": record.name,
            "attempt": record.attempt,
            "candidate": record.candidate,
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
            "device_seconds": device_seconds(result, record.share) if result else None,
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

    def _metric_rows(self, record: TrialRecord, report: Mapping[str, Any]) -> list[dict[str, object]]:
        common = {
            "sweep": self.spec.name,
            "trial": record.name,
            "attempt": record.attempt,
            "epoch": report["epoch"],
            "gradient_evaluations": report.get("gradient_evaluations", 0),
            "train_seconds": report.get("train_seconds", 0.0),
            "device_seconds": device_seconds(report, record.share),
        }
        values = [("train", report["losses"]), ("valid", report["validation"])]
        return [
            common | {"split": split, "metric": name, "value": value}
            for split, metrics in values
            for name, value in metrics.items()
        ]


def _keep_nothing(metric: str, value: float, step: int | None = 1) -> None:
    """In place of Tune's running statistics of every number in every result, which nobody reads: 0.1 ms a result."""


def _forget(trial: Trial) -> None:
    """Lets go of what Tune keeps of a trial that has ended: the store has it."""
    metadata = trial.run_metadata
    metadata.metric_analysis.clear()
    metadata.metric_n_steps.clear()
    metadata.last_result = {}
    trial.evaluated_params = {}


def _ran_out_of_memory(trial: Trial) -> bool:
    return any(sign in _said(trial) for sign in OUT_OF_MEMORY)


def _cause(trial: Trial) -> str:
    """Why a worker was lost, as far as Ray says."""
    if _ran_out_of_memory(trial):
        return "the worker was killed by Ray's memory monitor, as its machine ran low on memory"
    lines = [line.strip() for line in _said(trial).splitlines() if line.strip()]
    return f"the worker was lost ({lines[-1][:300]})" if lines else "the worker was lost"


def _said(trial: Trial) -> str:
    """What Ray said of the last failure; Tune's own `get_error` looks where nothing was brought yet."""
    with suppress(OSError, TypeError):
        return Path(trial.error_file).read_text(errors="replace").rpartition("Failure # ")[2].partition("\n")[2]
    return ""
