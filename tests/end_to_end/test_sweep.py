"""A sweep from its file to its report, on real Ray."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from search.store import Store
from trainables.data.catalog import load
from trainables.data.config import DataConfig

pytestmark = pytest.mark.slow


def metrics_of(store: Path) -> pd.DataFrame:
    """Every metric of every trial, without what depends on the clock."""
    frame = Store(store).frame("metrics").drop(columns=["train_seconds", "device_seconds", "written", "sweep"])
    return frame.sort_values(["trial", "epoch", "split", "metric"]).reset_index(drop=True)


def test_a_sweep_runs_from_file_to_report(sweep_file: Callable[[str], Path], recsweep: Any, tmp_path: Path) -> None:
    done = recsweep(["launch", str(sweep_file("tiny")), "--store", "s"])
    assert done.returncode == 0, done.stderr
    assert "8 finished" in done.stdout and done.stderr == ""
    trials = Store(tmp_path / "s").frame("trials")
    assert len(trials) == 8 and set(trials["status"]) == {"finished"} and trials["cell"].nunique() == 4
    assert (trials["epochs"] == 4).all() and trials["best_score"].notna().all()
    _check_costs(trials)
    _check_readers(recsweep, tmp_path)


def _check_costs(trials: pd.DataFrame) -> None:
    """Evaluations in the store are those of four epochs over the embedded data set's own number of batches."""
    batches = -(-len(load(DataConfig()).train) // 1024)
    evaluations = trials.groupby("update")["gradient_evaluations"].unique()
    assert evaluations["descent"].tolist() == [4 * batches]
    assert evaluations["bsam_plus"].tolist() == [4 * (3 * (batches // 2) + 2 * (batches % 2))]


def _check_readers(recsweep: Any, folder: Path) -> None:
    status = json.loads(recsweep(["status", "--store", "s", "--json"]).stdout)
    assert status["ended"] and sum(cell["finished"] for cell in status["cells"]) == 8
    table = recsweep(["query", "select cell, count(*) as n from trials group by cell", "--store", "s"])
    assert {row["n"] for row in csv.DictReader(io.StringIO(table.stdout))} == {"2"}
    best = json.loads(recsweep(["best", "--store", "s", "--format", "json"]).stdout)
    assert len(best) == 4 and all(0 < row["score"] < 1 for row in best)
    report = recsweep(["report", "--store", "s", "-o", "r"])
    assert report.returncode == 0, report.stderr
    assert (folder / "r/report.html").stat().st_size < 12_000_000
    comparison = recsweep(["compare", "--store", "s", "-o", "r"])
    assert comparison.returncode == 0, comparison.stderr
    again = recsweep(["launch", "r/best.yaml", "--store", "again"])
    assert again.returncode == 0, again.stderr
    winner = max(best, key=lambda row: row["score"])
    assert Store(folder / "again").frame("trials")["best_score"].tolist() == [winner["score"]]


DRIVER = """
import sys
from search import Store, load, run
outcome = run(load(sys.argv[1], ["search.sampler=tpe", "search.scheduler.kind=asha"]), Store("s", create=True))
print(outcome.exit_code, "torch" in sys.modules)
"""


def test_a_driver_leaves_pytorch_to_its_workers_for_a_whole_sweep(
    sweep_file: Callable[[str], Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DRIVER, str(sweep_file("light"))]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["0 False"], done.stderr
    assert len(Store(tmp_path / "s").frame("trials")) == 8


def test_concurrency_does_not_change_a_metric(sweep_file: Callable[[str], Path], recsweep: Any, tmp_path: Path) -> None:
    path = str(sweep_file("same"))
    for concurrency in ("1", "2"):
        done = recsweep(["launch", path, f"resources.max_concurrent={concurrency}", "--store", f"s{concurrency}"])
        assert done.returncode == 0, done.stderr
    alone, together = metrics_of(tmp_path / "s1"), metrics_of(tmp_path / "s2")
    assert len(alone) > 8 * 4 * 16
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def _training_workers(root: psutil.Process) -> list[psutil.Process]:
    """Ray's workers that are inside an epoch right now."""
    found = []
    for process in root.children(recursive=True):
        try:
            # Ray gives a worker the name of the actor method that it is running.
            if re.search(r"ray::\w*Trainable\.train", " ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_killed_worker_does_not_keep_the_sweep_from_its_end(
    sweep_file: Callable[[str], Path], recsweep: Any, tmp_path: Path
) -> None:
    path = str(sweep_file("hurt"))
    reference = recsweep(["launch", path, "train.max_epochs=40", "--store", "whole"])
    assert reference.returncode == 0, reference.stderr
    command = [str(Path(sys.executable).parent / "recsweep"), "launch", path, "train.max_epochs=40", "--store", "hurt"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweep:
        killed = 0
        deadline = time.monotonic() + 120
        while killed < 2 and sweep.poll() is None and time.monotonic() < deadline:
            for worker in _training_workers(psutil.Process(sweep.pid))[: 2 - killed]:
                os.kill(worker.pid, signal.SIGKILL)
                killed += 1
            time.sleep(0.2)
        out, err = sweep.communicate(timeout=240)
    assert killed >= 1
    assert sweep.returncode == 0, (out, err)
    attempts = Store(tmp_path / "hurt").frame("trials_all")
    assert "lost" in set(attempts["status"])
    last = Store(tmp_path / "hurt").frame("trials")
    assert len(last) == 8 and set(last["status"]) == {"finished"}
    hurt, whole = metrics_of(tmp_path / "hurt"), metrics_of(tmp_path / "whole")
    pd.testing.assert_frame_equal(hurt.drop(columns="attempt"), whole.drop(columns="attempt"), check_exact=True)


def test_asha_prunes_within_a_cell_and_failures_do_not_end_the_sweep(recsweep: Any, tmp_path: Path) -> None:
    sweep = {
        "name": "pruned",
        "data": {"names": ["synthetic"]},
        "axes": {"model": ["lightgcn"], "update": ["descent", "sam"], "optimizer": ["sgd"]},
        "space": {
            "tune": [],
            "narrow": {"optimizer.learning_rate": {"kind": "choice", "values": [0.01, 0.1, 1.0, 10.0, 1e30]}},
            "fix": {"model.embedding_size": 8},
        },
        "search": {
            "sampler": "grid",
            "trials": 5,
            "scheduler": {"kind": "asha", "grace_epochs": 2, "reduction": 2},
        },
        "train": {"max_epochs": 9, "batch_size": 1024},
    }
    (tmp_path / "pruned.yaml").write_text(yaml.safe_dump(sweep))
    done = recsweep(["launch", "pruned.yaml", "--store", "s"])
    assert done.returncode == 3, done.stderr
    trials = Store(tmp_path / "s").frame("trials")
    assert len(trials) == 10
    diverged = trials[trials["status"] == "diverged"]
    assert len(diverged) == 2 and diverged["error"].str.contains("loss must stay finite").all()
    pruned = trials[trials["status"] == "pruned"]
    assert len(pruned) > 0 and (pruned["epochs"] < 9).all()
    assert set(trials["status"]) <= {"finished", "pruned", "diverged"}


def test_estimates_prune_and_are_never_a_best_score(recsweep: Any, tmp_path: Path) -> None:
    early = {"epochs": 3, "users": 100, "precision": "bf16"}
    sweep = {
        "name": "early",
        "data": {"names": ["synthetic"]},
        "axes": {"model": ["lightgcn"], "update": ["descent"]},
        "space": {"tune": ["optimizer"], "fix": {"model.embedding_size": 8}},
        "search": {"trials": 6, "seeds": [1, 2], "scheduler": {"kind": "asha", "grace_epochs": 2, "reduction": 2}},
        "train": {"max_epochs": 7, "batch_size": 1024, "early_validation": early},
    }
    (tmp_path / "early.yaml").write_text(yaml.safe_dump(sweep))
    done = recsweep(["launch", "early.yaml", "--store", "s"])
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "s")
    trials, metrics = store.frame("trials").set_index("trial"), store.frame("metrics")
    shown = metrics[metrics["metric"].isin(["recall@20", "estimate/recall@20"])]
    assert (shown["metric"].str.startswith("estimate/") == (shown["epoch"] <= 3)).all()
    full = shown[shown["metric"] == "recall@20"].groupby("trial")["value"].max()
    early_ends = trials[trials["epochs"] <= 3]
    assert len(early_ends) and (early_ends["status"] == "pruned").all() and early_ends["best_score"].isna().all()
    later = trials[trials["epochs"] > 3]
    assert (later["best_score"] == full[later.index]).all() and (later["best_epoch"] > 3).all()
    (best,) = json.loads(recsweep(["best", "--store", "s", "--format", "json"]).stdout)
    assert trials.loc[best["trial"], "status"] == "finished"
    for command in ("report", "status", "plan"):
        source = ["early.yaml"] if command == "plan" else ["--store", "s"]
        assert recsweep([command, *source]).returncode == 0
    again = recsweep(["launch", "reports/early/best.yaml", "--store", "again"])
    assert again.returncode == 0, again.stderr
