"""From Tune's events to rows: what the store holds after each of them."""

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search import recorder as recording
from search.recorder import Recorder, TrialRecord
from search.searchers import CellSearcher
from search.spec import SweepSpec, parse, studies
from search.store import Store

CELL = "toy/vbpr/plain/sam/adam"


@dataclass
class StandIn:
    """The part of a Tune trial that the recorder looks at."""

    trial_id: str
    config: dict[str, Any]
    error_file: str | None = None

    def get_error(self) -> str | None:
        return Path(self.error_file).read_text() if self.error_file else None


class Sweep:
    """A recorder over a real store, and Tune's events as it would send them."""

    def __init__(self, folder: Path, **sections: Any) -> None:
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
        self.searcher = CellSearcher(cells, "random", self.spec.search.seeds, "max")
        self.store = Store(folder / "store", create=True)
        self.heard: list[dict[str, str]] = []
        by_cell = {study.cell: study for study in cells}
        self.recorder = Recorder(
            self.store, self.spec, by_cell, {"toy": "d1"}, self.searcher.suggested, on_change=self._hear
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
        return list(self.store.table(view).to_pylist())


def result(epoch: int, status: str = "running", **more: Any) -> dict[str, Any]:
    """What `RecommenderTrainable` reports, with what Tune adds."""
    state = {"status": status, "error": None, "done": status != "running", "validated": True}
    losses = {"loss": 1.0 / epoch if epoch else 0.0, "loss/bpr": 0.5}
    values = {"losses": losses, "validation": {"recall@20": 0.1 * epoch, "ndcg@5": 0.2}}
    scores = {"epoch": epoch, "score": 0.1 * epoch, "best_score": 0.1 * epoch, "best_epoch": epoch}
    counts = {"gradient_evaluations": 10 * epoch, "optimizer_steps": 5 * epoch, "samples": 100 * epoch}
    times = {"train_seconds": 2.0 * epoch, "evaluation_seconds": 1.0 * epoch, "setup_seconds": 0.5}
    place = {"peak_memory_bytes": 1000, "device": "cpu", "hostname": "node", "pid": 7}
    return state | values | scores | counts | times | place | more


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


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


def test_device_seconds_are_the_share_of_the_device_that_ran_the_trial(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, resources={"cpu": 2, "gpu": 0.25})
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
    losses = {row["epoch"]: row["value"] for row in sweep.rows("metrics") if row["metric"] == "loss"}
    assert losses == {1: 1.0, 2: 9.0, 3: 1 / 3}
    epochs = {(row["attempt"], row["epoch"]) for row in sweep.rows("metrics_all")}
    assert epochs == {(1, 1), (1, 2), (2, 2), (2, 3)}


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
    sweep.recorder.on_trial_result(0, [], trial, ended | {"setup_seconds": 0.25, "device": "cpu"})
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
        Path(trial.error_file).write_text(text)
    sweep.recorder.on_trial_error(0, [], trial)
    (row,) = sweep.rows("trials")
    assert row["status"] == "lost" and row["error"] == ("x" * 2000 if text else "the worker was lost")


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


def test_epochs_are_in_the_store_before_every_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FLUSH_SECONDS", math.inf)
    sweep = Sweep(tmp_path, checkpoint={"every_epochs": 3})
    trial = sweep.propose()
    sweep.start(trial)
    stored = []
    for epoch in range(1, 8):
        sweep.epoch(trial, epoch)
        stored.append(len({row["epoch"] for row in sweep.rows("metrics")}))
    assert stored == [0, 0, 3, 3, 3, 6, 6]
    sweep.complete(trial)
    assert len({row["epoch"] for row in sweep.rows("metrics")}) == 7


def test_epochs_do_not_wait_longer_than_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FLUSH_SECONDS", -1.0)
    sweep = Sweep(tmp_path, checkpoint={"every_epochs": 100})
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    assert {row["epoch"] for row in sweep.rows("metrics")} == {1}


def test_every_change_is_told(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.epoch(trial, 1)
    sweep.epoch(trial, 2, status="finished")
    sweep.complete(trial)
    assert [heard[trial.config["name"]] for heard in sweep.heard] == ["running", "running", "finished"]


def test_the_recorder_pickles_without_the_live_view(sweep: Sweep) -> None:
    trial = sweep.propose()
    sweep.start(trial)
    sweep.recorder._on_change = lambda records: None  # what no pickle takes
    copy = pickle.loads(pickle.dumps(sweep.recorder))
    assert copy.records["t1"].name == trial.config["name"]
    copy.on_trial_result(0, [], trial, result(1))
    copy.on_trial_complete(0, [], trial)
    assert [row["status"] for row in sweep.rows("trials")] == ["pruned"]
