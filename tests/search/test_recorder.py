"""From Tune's events to rows: what the store holds after each of them."""

import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search import recorder as recording
from search import writer as writing
from search.errors import StoreError
from search.guard import Guard
from search.history import PastTrial, past_trials
from search.recorder import JUDGED, Recorder, TrialRecord
from search.searchers import CellSearcher
from search.spec import SweepSpec, parse, studies
from search.store import Store
from search.writer import StoreWriter
from trainables.checkpoints import CheckpointFolder

CELL = "toy/vbpr/plain/sam/adam"


@dataclass
class StandIn:
    """The part of a Tune trial that the recorder looks at."""

    trial_id: str
    config: dict[str, Any]
    error_file: str | None = None
    run_metadata: Any = field(default_factory=lambda: SimpleNamespace(metric_analysis={}, metric_n_steps={}))


def failures(said: str) -> str:
    """A trial's error file as Tune writes it, after a second failure."""
    return f"Failure # 1 (occurred at 12:00)\nsomething else\nFailure # 2 (occurred at 12:01)\n{said}\n"


class Sweep:
    """A recorder over a real store, and Tune's events as it would send them."""

    def __init__(self, folder: Path, past: bool = False, **sections: Any) -> None:
        """With `past` another driver has run before on the same store, and this one goes on."""
        raw = {
            "name": "s",
            "data": {"names": ["toy"], "modalities": ["text"]},
            "axes": {"model": ["vbpr"], "update": ["sam"]},
            "space": {"tune": ["update"]},
            "search": {"trials": 8},
            "checkpoint": {"every_epochs": 1},
        }
        self.spec: SweepSpec = parse({**raw, **sections})
        cells = studies(self.spec)
        self.store = Store(folder / "store", create=True)
        self.past: Sequence[PastTrial] = past_trials(self.store, self.spec) if past else ()
        self.searcher = CellSearcher(
            cells, "random", self.spec.search.seeds, "max", shares=self.spec.resources.of, past=self.past
        )
        self.writer = StoreWriter(self.store)
        self.guard = Guard()
        self.checkpoints = folder / "checkpoints"
        self.heard: list[dict[str, str]] = []
        self.warned: list[str] = []
        self.recorder = Recorder(
            self.writer,
            self.spec,
            {study.cell: study for study in cells},
            {"toy": "d1"},
            self.searcher.suggested,
            guard=self.guard,
            checkpoints=str(self.checkpoints),
            past=self.past,
            on_change=self._hear,
            on_warning=self.warned.append,
        )

    def _hear(self, records: Mapping[str, TrialRecord]) -> None:
        self.heard.append({record.name: record.status for record in records.values()})

    def propose(self, trial_id: str = "t1") -> StandIn:
        proposal = self.searcher.suggest(trial_id)
        assert isinstance(proposal, dict)
        return StandIn(trial_id, proposal)

    def start(self, trial: StandIn) -> None:
        self.recorder.on_trial_start(0, [], trial)

    def epoch(self, trial: StandIn, epoch: int, **more: Any) -> None:
        self.recorder.on_trial_result(0, [], trial, result(epoch, **more))

    def complete(self, trial: StandIn) -> None:
        self.recorder.on_trial_complete(0, [], trial)

    def rows(self, view: str) -> list[dict[str, Any]]:
        self.writer.flush()
        return list(self.store.table(view).to_pylist())

    def run(self, score: float, status: str = "finished", trial_id: str | None = None, **more: Any) -> str:
        """A trial of one epoch with a checkpoint; returns its name."""
        trial = self.propose(trial_id or f"t{len(self.heard)}")
        name = str(trial.config["name"])
        self.start(trial)
        CheckpointFolder(f"{self.checkpoints}/{name}").save(1, {"a": torch.ones(2)}, {"epoch": 1})
        self.epoch(trial, 1, status=status, best_score=score, score=score, **more)
        self.complete(trial)
        return name

    def kept(self) -> set[str]:
        """Trials that have checkpoints once all their ends are in the store."""
        self.writer.flush()
        return {path.name for path in self.checkpoints.iterdir()}


def result(epoch: int, status: str = "running", **more: Any) -> dict[str, Any]:
    """What `RecommenderTrainable` reports, with what Tune adds."""
    state = {"status": status, "error": None, "done": status != "running", "validated": True}
    losses = {"loss": 1.0 / epoch if epoch else 0.0, "loss/bpr": 0.5}
    values = {"losses": losses, "validation": {"recall@20": 0.1 * epoch, "ndcg@5": 0.2}}
    scores = {"epoch": epoch, "score": 0.1 * epoch, "best_score": 0.1 * epoch, "best_epoch": epoch}
    counts = {"gradient_evaluations": 10 * epoch, "optimizer_steps": 5 * epoch, "samples": 100 * epoch}
    times = {"train_seconds": 2.0 * epoch, "evaluation_seconds": 1.0 * epoch, "setup_seconds": 0.5}
    place = {"peak_memory_bytes": 1000, "device": "cpu", "hostname": "node", "pid": 7}
    return state | values | scores | counts | times | place | {"earlier": [], "warning": None} | more


def report(epoch: int, **more: Any) -> dict[str, Any]:
    """What a checkpoint remembers of an epoch."""
    names = {"epoch", "validated", "losses", "validation", "score", "gradient_evaluations"}
    times = {"train_seconds", "evaluation_seconds", "setup_seconds"}
    return {name: value for name, value in result(epoch, **more).items() if name in names | times}


Begin = Callable[..., Sweep]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a sweep in this test's store, or goes on with it; ends all writers afterwards."""
    begun: list[Sweep] = []

    def make(**sections: Any) -> Sweep:
        if begun:
            begun[-1].writer.close()
        begun.append(Sweep(tmp_path, **sections))
        return begun[-1]

    yield make
    for sweep in begun:
        sweep.writer.close()


@pytest.fixture
def sweep(begin: Begin) -> Sweep:
    return begin()


def test_a_started_trial_stands_in_the_store_at_once(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    (row,) = sweep.rows("trials")
    assert (row["trial"], row["cell"], row["status"], row["attempt"]) == (trial.config["name"], CELL, "running", 1)
    assert (row["dataset"], row["model"], row["objective"], row["update"], row["optimizer"]) == tuple(CELL.split("/"))
    assert (row["sweep"], row["data_digest"], row["seed"]) == ("s", "d1", 999)
    assert (row["metric"], row["mode"]) == ("recall@20", "max")
    assert json.loads(row["config_json"]) == trial.config["trial"]
    waited = row["started"] - sweep.searcher.suggested[row["trial"]]
    assert row["queue_seconds"] == waited.total_seconds() >= 0
    assert row["ended"] is row["best_score"] is row["best_epoch"] is row["epochs"] is row["worker"] is None


def test_every_parameter_is_stored_once_with_whether_it_was_tuned(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.recorder.on_trial_recover(0, [], trial)
    sweep.start(trial)
    sweep.writer.flush()
    assert len(list((Path(sweep.store.root) / "params").glob("*.parquet"))) == 1
    rows = {row["name"]: row for row in sweep.rows("params")}
    assert rows.keys() == trial.config["trial"].keys()
    assert [name for name, row in rows.items() if row["tuned"]] == ["update.rho"]
    assert rows["update.rho"]["number"] == trial.config["trial"]["update.rho"] and rows["update.rho"]["text"] is None
    assert (rows["model.name"]["number"], rows["model.name"]["text"]) == (None, "vbpr")
    assert (rows["seed"]["number"], rows["data.modalities"]["text"]) == (999, '["text"]')
    assert (rows["data.root"]["number"], rows["data.root"]["text"]) == (None, "null")


def test_an_epoch_gives_train_and_validation_values_with_their_cumulative_cost(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 2, validation={}, validated=False)
    values = {(row["epoch"], row["split"], row["metric"]): row["value"] for row in sweep.rows("metrics")}
    assert values == {
        (1, "train", "loss"): 1.0,
        (1, "train", "loss/bpr"): 0.5,
        (1, "valid", "recall@20"): 0.1,
        (1, "valid", "ndcg@5"): 0.2,
        (2, "train", "loss"): 0.5,
        (2, "train", "loss/bpr"): 0.5,
    }
    for row in sweep.rows("metrics"):
        costs = (row["gradient_evaluations"], row["train_seconds"], row["device_seconds"])
        assert costs == (10 * row["epoch"], 2.0 * row["epoch"], 3.0 * row["epoch"] + 0.5)


def test_a_finished_trial_has_the_counters_of_its_last_result(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    for epoch, status in ((1, "running"), (2, "running"), (3, "finished")):
        sweep.epoch(trial, epoch, status=status, best_score=0.2, best_epoch=2)
    sweep.complete(trial)
    (row,) = sweep.rows("trials")
    last = result(3)
    assert (row["status"], row["best_score"], row["best_epoch"], row["epochs"]) == ("finished", 0.2, 2, 3)
    for name in recording.COUNTERS:
        assert row[name] == last[name]
    assert row["device_seconds"] == 9.5 and row["worker"] == "node:7" and row["error"] is None
    assert row["ended"] >= row["started"]


def test_device_seconds_are_the_share_of_the_device_that_ran_the_trial(begin: Begin) -> None:
    sweep = begin(resources={"cpu": 2, "gpu": 0.25})
    for name, device, share in (("on_cpu", "cpu", 2), ("on_gpu", "NVIDIA H200", 0.25)):
        trial = sweep.propose(name)
        sweep.start(trial)
        sweep.epoch(trial, 2, status="finished", device=device)
        sweep.complete(trial)
        row = next(row for row in sweep.rows("trials") if row["trial"] == trial.config["name"])
        assert row["device_seconds"] == share * (4.0 + 2.0 + 0.5)


def test_a_lost_worker_ends_an_attempt_and_the_restart_begins_another(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    for epoch in (1, 2):
        sweep.epoch(trial, epoch)
    sweep.recorder.on_trial_recover(0, [], trial)
    sweep.start(trial)
    sweep.epoch(trial, 2, losses={"loss": 9.0})
    sweep.epoch(trial, 3, status="finished")
    sweep.complete(trial)
    first, second = sorted(sweep.rows("trials_all"), key=lambda row: int(row["attempt"]))
    assert (first["attempt"], first["status"], first["epochs"]) == (1, "lost", 2)
    assert "starts again from its last checkpoint" in first["error"]
    assert (second["attempt"], second["status"], second["epochs"]) == (2, "finished", 3)
    assert first["ended"] <= second["started"] and second["queue_seconds"] is None
    assert [row["attempt"] for row in sweep.rows("trials")] == [2]
    # What is trained again comes to the same, and is not written again.
    losses = {row["epoch"]: row["value"] for row in sweep.rows("metrics") if row["metric"] == "loss"}
    assert losses == {1: 1.0, 2: 0.5, 3: 1 / 3}
    epochs = {(row["attempt"], row["epoch"]) for row in sweep.rows("metrics_all")}
    assert epochs == {(1, 1), (1, 2), (2, 3)}


def test_a_trial_that_was_stopped_while_running_is_pruned(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.complete(trial)
    assert [row["status"] for row in sweep.rows("trials")] == ["pruned"]


def test_a_failed_trial_has_its_error_and_no_score(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    ended = {"epoch": 0, "score": None, "status": "failed", "error": "ModelError: no", "losses": {}, "validation": {}}
    more = {"setup_seconds": 0.25, "device": "cpu", "earlier": [], "warning": None}
    sweep.recorder.on_trial_result(0, [], trial, ended | more)
    sweep.complete(trial)
    (row,) = sweep.rows("trials")
    assert (row["status"], row["error"], row["epochs"]) == ("failed", "ModelError: no", 0)
    assert row["best_score"] is row["best_epoch"] is row["gradient_evaluations"] is None
    assert row["device_seconds"] == 0.25 and sweep.rows("metrics") == []


def test_a_diverged_trial_keeps_the_best_score_that_it_had(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 1, status="diverged", error="the loss must stay finite", losses={}, validation={})
    sweep.complete(trial)
    (row,) = sweep.rows("trials")
    assert (row["status"], row["best_score"], row["error"]) == ("diverged", 0.1, "the loss must stay finite")


@pytest.mark.parametrize("text", [None, "ActorDiedError: " + "x" * 3000])
def test_a_trial_whose_workers_were_lost_too_often_is_lost(text: str | None, sweep: Sweep, tmp_path: Path) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    if text:
        trial.error_file = str(tmp_path / "error.txt")
        Path(trial.error_file).write_text(failures(text))
    sweep.recorder.on_trial_error(0, [], trial)
    (row,) = sweep.rows("trials")
    said = "the worker was lost (ActorDiedError: " + "x" * 284 + ")"
    assert row["status"] == "lost" and row["error"] == (said if text else "the worker was lost")


def test_what_still_runs_at_the_end_of_the_sweep_was_stopped(sweep: Sweep) -> None:
    done, running = sweep.propose("done"), sweep.propose("running")
    for trial in (done, running):
        sweep.start(trial)
    sweep.epoch(done, 1, status="finished")
    sweep.complete(done)
    sweep.epoch(running, 1)
    for _ in range(2):
        # Once from Tune, once from the driver.
        sweep.recorder.on_experiment_end([])
    statuses = {row["trial"]: (row["status"], row["error"]) for row in sweep.rows("trials")}
    assert statuses == {
        done.config["name"]: ("finished", None),
        running.config["name"]: ("stopped", "the sweep was stopped"),
    }


def test_a_trial_that_never_started_has_no_row(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.complete(trial)
    sweep.recorder.on_trial_error(0, [], trial)
    sweep.recorder.on_trial_recover(0, [], trial)
    sweep.recorder.on_experiment_end([])
    assert sweep.rows("trials") == sweep.rows("params") == []


def until(condition: Callable[[], object]) -> None:
    """Waits for another thread."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_starts_and_ends_are_written_without_delay_and_epochs_with_them(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 3600.0)
    sweep = begin()
    trial = sweep.propose()
    sweep.start(trial)
    until(lambda: len(sweep.store.table("trials")) == 1)
    sweep.epoch(trial, 1)
    assert len(sweep.store.table("metrics")) == 0
    sweep.epoch(trial, 2, status="finished")
    sweep.complete(trial)
    until(lambda: sweep.store.table("trials")["status"].to_pylist() == ["finished"])
    assert set(sweep.store.table("metrics")["epoch"].to_pylist()) == {1, 2}


def test_epochs_do_not_wait_longer_than_the_time_limit(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 0.05)
    sweep = begin()
    trial = sweep.propose()
    sweep.start(trial)
    until(lambda: len(sweep.store.table("trials")) == 1)
    sweep.epoch(trial, 1)
    until(lambda: set(sweep.store.table("metrics")["epoch"].to_pylist()) == {1})


def test_every_change_is_told(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 2, status="finished")
    sweep.complete(trial)
    assert [heard[trial.config["name"]] for heard in sweep.heard] == ["running"] * 3 + ["finished"]


def test_the_recorder_pickles_to_nothing(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    # Tune pickles its callbacks; a thread, a lock or a live view is what no pickle takes.
    sweep.recorder._on_change = lambda records: None
    assert pickle.loads(pickle.dumps(sweep.recorder)).__dict__ == {}


SIGKILLED = (
    "ActorDiedError: The actor died unexpectedly before finishing this task.\n\tclass_name: Trainable\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
    "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
    "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the "
    "worker crashed unexpectedly due to SIGSEGV or another unexpected error.\n"
)
STARVED = "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\nMemory: 15.5/16 GB"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (STARVED, "failed", "the worker was killed by Ray's memory monitor, as its machine ran low on memory"),
        (SIGKILLED, "lost", "the worker was lost (The actor is dead because its worker process has died. "),
    ],
)
def test_a_trial_whose_workers_ran_out_of_memory_has_failed_and_others_are_lost(
    text: str, status: str, said: str, sweep: Sweep, tmp_path: Path
) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    trial.error_file = str(tmp_path / "error.txt")
    Path(trial.error_file).write_text(failures(text))
    sweep.recorder.on_trial_recover(0, [], trial)
    (row,) = sweep.rows("trials")
    assert row["status"] == "lost" and row["error"].startswith(said)
    assert row["error"].endswith("; the trial starts again from its last checkpoint")
    sweep.start(trial)
    sweep.recorder.on_trial_error(0, [], trial)
    (row,) = sweep.rows("trials")
    assert (row["status"], row["attempt"]) == (status, 2) and row["error"].startswith(said)


@pytest.mark.parametrize("status", ["stopped", "pruned"])
def test_a_trial_that_was_ended_by_order_has_the_orders_status_and_reason(status: str, sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.guard.ended[trial.config["name"]] = (status, "because")
    sweep.complete(trial)
    assert [(row["status"], row["error"]) for row in sweep.rows("trials")] == [(status, "because")]


def test_a_trial_that_finished_before_the_order_reached_it_is_finished(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1, status="finished")
    sweep.guard.ended[trial.config["name"]] = ("stopped", "because")
    sweep.complete(trial)
    assert [row["status"] for row in sweep.rows("trials")] == ["finished"]


def test_a_trial_whose_worker_was_ended_by_order_has_the_orders_status(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.guard.ended[trial.config["name"]] = ("failed", "it hung")
    sweep.recorder.on_trial_error(0, [], trial)
    assert [(row["status"], row["error"]) for row in sweep.rows("trials")] == [("failed", "it hung")]


def test_what_runs_when_the_sweep_is_stopped_has_the_guards_reason(sweep: Sweep) -> None:
    sweep.start(sweep.propose())
    sweep.guard.stop("broken", "the cluster is gone")
    sweep.recorder.on_experiment_end([])
    assert [(row["status"], row["error"]) for row in sweep.rows("trials")] == [("stopped", "the cluster is gone")]


def test_a_warning_of_a_trial_is_told_with_its_name(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 2, warning="no checkpoint could be saved")
    assert sweep.warned == [f"{trial.config['name']}: no checkpoint could be saved"]


def test_every_result_counts_as_a_sign_of_life(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 1)
    assert sweep.recorder.results == 2


def test_epochs_that_a_restart_brings_back_are_written_where_they_are_missing(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 3, earlier=[report(1), report(2, validation={})])
    values = {(row["epoch"], row["metric"]): row["value"] for row in sweep.rows("metrics")}
    assert {epoch for epoch, _ in values} == {1, 2, 3}
    assert (2, "recall@20") not in values and values[1, "recall@20"] == 0.1 and values[2, "loss"] == 0.5
    costs = {row["epoch"]: row["device_seconds"] for row in sweep.rows("metrics")}
    assert costs == {epoch: 3.0 * epoch + 0.5 for epoch in (1, 2, 3)}


def test_epochs_that_a_restart_brings_back_cost_the_share_of_the_same_device(begin: Begin) -> None:
    sweep = begin(resources={"cpu": 4, "gpu": 0.5})
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 2, device="NVIDIA H200", earlier=[report(1)])
    costs = {row["epoch"]: row["device_seconds"] for row in sweep.rows("metrics")}
    assert costs == {epoch: 0.5 * (3.0 * epoch + 0.5) for epoch in (1, 2)}


def test_attempts_go_on_after_a_resume_and_stored_epochs_are_not_stored_again(begin: Begin) -> None:
    first = begin()
    trial = first.propose()
    first.start(trial)
    for epoch in (1, 2):
        first.epoch(trial, epoch)
    second = begin(past=True)
    again = second.propose("other id of Tune's")
    assert again.config["name"] == trial.config["name"]
    second.start(again)
    # Its checkpoint is of epoch 4: the driver died before what came after epoch 2 was in the store.
    second.epoch(again, 4, earlier=[report(epoch) for epoch in (1, 2, 3)])
    second.epoch(again, 5, status="finished")
    second.complete(again)
    rows = [(row["attempt"], row["status"], row["epochs"]) for row in second.rows("trials_all")]
    assert rows == [(1, "running", None), (2, "finished", 5)]
    written = {(row["attempt"], row["epoch"]) for row in second.rows("metrics_all")}
    assert written == {(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)}
    assert second.rows("trials")[0]["candidate"] == 0


@pytest.mark.parametrize("status", ["finished", "pruned", "diverged", "failed"])
def test_a_past_trial_that_had_ended_is_left_as_it_is(status: str, begin: Begin) -> None:
    begin().run(0.5, status if status != "pruned" else "running")
    second = begin(past=True)
    before = second.rows("trials_all")
    assert [row["status"] for row in before] == [status]
    second.recorder.on_experiment_end([])
    assert second.rows("trials_all") == before
    assert [record.status for record in second.recorder.records.values()] == [status]


def test_a_past_trial_that_does_not_come_to_begin_again_is_stopped_and_keeps_what_is_known(begin: Begin) -> None:
    first = begin()
    trial = first.propose()
    first.start(trial)
    first.epoch(trial, 2)
    first.recorder.on_trial_recover(0, [], trial)
    first.start(trial)
    first.writer.flush()
    second = begin(past=True)
    (before,) = second.rows("trials")
    assert before["status"] == "running" and before["attempt"] == 2
    second.recorder.on_experiment_end([])
    (after,) = second.rows("trials")
    assert (after["status"], after["error"], after["attempt"]) == ("stopped", "the sweep was stopped", 2)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"status", "error", "ended", "written"}


def test_a_trial_that_is_withdrawn_before_it_begins_again_is_as_it_was(begin: Begin) -> None:
    first = begin()
    trial = first.propose()
    first.start(trial)
    first.epoch(trial, 2)
    first.guard.ended[trial.config["name"]] = ("stopped", "enough")
    first.complete(trial)
    second = begin(past=True)
    (before,) = second.rows("trials")
    assert before["status"] == "stopped" and before["device_seconds"] == 6.5
    again = second.propose()
    second.guard.ended[again.config["name"]] = ("stopped", "enough again")
    second.complete(again)
    (after,) = second.rows("trials")
    assert after | {"written": None} == before | {"written": None, "error": "enough again"}


def test_of_a_result_tune_is_left_with_what_is_judged_by_and_of_a_trial_that_ended_with_nothing(begin: Begin) -> None:
    sweep = begin()
    trial = sweep.propose()
    sweep.start(trial)
    epoch = result(1)
    sweep.recorder.on_trial_result(0, [], trial, epoch)
    assert epoch.keys() <= JUDGED and {"epoch", "score", "status", "gradient_evaluations"} <= epoch.keys()
    assert {row["metric"] for row in sweep.rows("metrics")} >= {"loss", "recall@20"}
    metadata = trial.run_metadata
    metadata.update_metric("score", 0.1, step=1)
    assert metadata.metric_analysis == {}
    metadata.metric_analysis["score"], metadata.metric_n_steps["score"] = {"max": 0.1}, {"5": [0.1]}
    metadata.last_result = epoch
    sweep.complete(trial)
    assert (metadata.metric_analysis, metadata.metric_n_steps, metadata.last_result) == ({}, {}, {})


def test_of_each_cell_the_best_trials_checkpoints_stay(begin: Begin) -> None:
    sweep = begin()
    first = sweep.run(0.3)
    assert sweep.kept() == {first}
    sweep.run(0.2)
    assert sweep.kept() == {first}
    sweep.run(0.3)
    assert sweep.kept() == {first}
    better = sweep.run(0.4, "running")  # stopped by the scheduler
    assert sweep.kept() == {better}
    for status in ("diverged", "failed"):
        sweep.run(0.9, status)
        assert sweep.kept() == {better}


def test_less_is_better_where_the_goal_says_so(begin: Begin) -> None:
    sweep = begin(goal={"metric": "recall@20", "mode": "min"})
    sweep.run(0.3)
    lower = sweep.run(0.2)
    sweep.run(0.4)
    assert sweep.kept() == {lower}


@pytest.mark.parametrize(("policy", "kept"), [("all", 3), ("none", 0)])
def test_the_checkpoints_of_all_trials_or_of_none_stay_on_request(policy: str, kept: int, begin: Begin) -> None:
    sweep = begin(checkpoint={"ended": policy})
    for score in (0.3, 0.4, 0.2):
        sweep.run(score)
    assert len(sweep.kept()) == kept


@pytest.mark.parametrize("policy", ["best", "all", "none"])
@pytest.mark.parametrize("end", ["stopped", "lost", "recovers"])
def test_a_trial_that_goes_on_at_a_resume_keeps_its_checkpoints(end: str, policy: str, begin: Begin) -> None:
    sweep = begin(checkpoint={"ended": policy})
    trial = sweep.propose()
    sweep.start(trial)
    CheckpointFolder(f"{sweep.checkpoints}/{trial.config['name']}").save(1, {}, {})
    sweep.epoch(trial, 1)
    if end == "stopped":
        sweep.guard.ended[trial.config["name"]] = ("stopped", "enough")
        sweep.complete(trial)
    elif end == "lost":
        sweep.recorder.on_trial_error(0, [], trial)
    else:
        sweep.recorder.on_trial_recover(0, [], trial)
    assert sweep.kept() == {trial.config["name"]}


def test_after_a_resume_the_best_of_before_is_still_the_best_to_beat(begin: Begin) -> None:
    first = begin()
    good = first.run(0.5)
    first.run(0.9, "diverged")
    second = begin(past=True)
    second.run(0.4)
    assert second.kept() == {good}
    better = second.run(0.6)
    assert second.kept() == {better}


@pytest.mark.parametrize(("policy", "kept"), [("best", {"b", "runs"}), ("all", {"a", "b", "runs"}), ("none", {"runs"})])
def test_checkpoints_that_a_killed_driver_left_behind_go_at_the_resume(
    policy: str, kept: set[str], begin: Begin
) -> None:
    first = begin(checkpoint={"ended": policy})
    names = {"a": first.run(0.2), "b": first.run(0.3)}
    running = first.propose()
    first.start(running)
    first.writer.flush()
    names["runs"] = running.config["name"]
    for name in names.values():
        CheckpointFolder(f"{first.checkpoints}/{name}").save(1, {}, {})
    second = begin(past=True, checkpoint={"ended": policy})
    assert second.kept() == {names[each] for each in kept}


def test_checkpoints_stay_until_the_end_of_their_trial_is_in_the_store(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, full = sweep.store.append, [True]

    def refuse(table: str, rows: Sequence[Mapping[str, object]]) -> None:
        if full[0]:
            raise StoreError("disk full")
        append(table, rows)

    monkeypatch.setattr(sweep.store, "append", refuse)
    name = sweep.run(0.9, "diverged")
    with pytest.raises(StoreError, match="disk full"):
        sweep.writer.flush()
    assert {path.name for path in sweep.checkpoints.iterdir()} == {name}
    full[0] = False
    assert sweep.kept() == set()
