"""How far a sweep is, from rows of the store alone."""

import io
import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.control import Lease
from search.progress import SweepProgress, sweep_progress
from search.spec import parse, studies
from search.store import Store

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SAM, BSAM = "toy/vbpr/plain/sam/adam", "toy/vbpr/plain/bsam/adam"


class Sweep:
    """A sweep of two cells with three trials each, whose trials are written by hand."""

    def __init__(self, folder: Path, mode: str = "max", seeds: tuple[int, ...] = (1,)) -> None:
        raw = {
            "name": "s",
            "data": {"names": ["toy"]},
            "axes": {"model": ["vbpr"], "update": ["sam", "bsam"]},
            "search": {"trials": 3, "seeds": list(seeds)},
            "goal": {"mode": mode},
        }
        self.spec = parse(raw)
        self.mode = mode
        self.cells = {study.cell: study for study in studies(self.spec)}
        self.store = Store(folder / "store", create=True)
        self.numbers = itertools.count()
        self.start()

    def start(self, minutes: float = 0.0) -> None:
        """A start or resume, so many minutes after the first."""
        started = {"sweep": "s", "digest": self.spec.digest, "started": START + timedelta(minutes=minutes)}
        self.store.append("sweeps", [started | {"spec_json": self.spec.model_dump_json()}])

    def event(self, kind: str, minutes: float = 0.0) -> None:
        at = START + timedelta(minutes=minutes)
        self.store.append("events", [{"sweep": "s", "at": at, "kind": kind, "text": kind, "host": None}])

    def trial(self, cell: str, status: str, best: float | None = None, minutes: float = 1.0, **more: Any) -> None:
        """One trial, ended that many minutes after the sweep's start unless it still runs."""
        study = self.cells[cell]
        row = {
            "sweep": "s",
            "trial": f"t{next(self.numbers)}",
            "attempt": 1,
            "cell": cell,
            **{axis: getattr(study, axis) for axis in ("dataset", "model", "objective", "update", "optimizer")},
            "seed": 1,
            "status": status,
            "config_json": "{}",
            "metric": "recall@20",
            "mode": self.mode,
            "best_score": best,
            "device_seconds": 36.0,
            "started": START,
            "ended": None if status == "running" else START + timedelta(minutes=minutes),
        }
        self.store.append("trials", [row | more])

    def die(self) -> int:
        """A driver that takes the lease and is gone without a word; returns its process number."""
        code = "import os, sys; from search.control import Lease; from search.store import Store; "
        code += "Lease.take(Store(sys.argv[1]), 's'); print(os.getpid(), flush=True); os._exit(9)"
        done = subprocess.run(
            [sys.executable, "-c", code, self.store.root], stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 9
        return int(done.stdout)

    def title(self) -> str:
        console = Console(width=120, file=io.StringIO(), record=True)
        console.print(self.progress().table())
        return console.export_text().splitlines()[0].strip()

    def progress(self) -> SweepProgress:
        return sweep_progress(self.store, "s")

    def cell(self, cell: str) -> dict[str, Any]:
        return next(row for row in self.progress().as_dict()["cells"] if row["cell"] == cell)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_trials_are_counted_by_cell_and_state(sweep: Sweep) -> None:
    for status in ("finished", "finished", "pruned"):
        sweep.trial(SAM, status, 0.5)
    for status in ("running", "diverged", "failed"):
        sweep.trial(BSAM, status)
    sam, bsam = sweep.cell(SAM), sweep.cell(BSAM)
    assert [sam[name] for name in ("planned", "running", "finished", "pruned", "failed", "stopped", "ended")] == [
        *(3, 0, 2, 1, 0, 0, 3)
    ]
    assert [bsam[name] for name in ("planned", "running", "finished", "pruned", "failed", "stopped", "ended")] == [
        *(3, 1, 0, 0, 2, 0, 2)
    ]
    assert sam["device_hours"] == pytest.approx(0.03)


def test_a_cell_without_a_trial_is_shown_too(sweep: Sweep) -> None:
    assert sweep.cell(BSAM)["planned"] == 3 and sweep.cell(BSAM)["best"] is None
    assert [row["cell"] for row in sweep.progress().as_dict()["cells"]] == list(sweep.cells)


def test_every_seed_is_a_planned_trial(tmp_path: Path) -> None:
    assert Sweep(tmp_path, seeds=(1, 2, 3)).cell(SAM)["planned"] == 9


@pytest.mark.parametrize(("mode", "best"), [("max", 0.7), ("min", 0.2)])
def test_the_best_score_is_that_of_trials_that_did_not_fail(mode: str, best: float, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, mode)
    sweep.trial(SAM, "finished", 0.2)
    sweep.trial(SAM, "pruned", 0.7)
    for number, status in enumerate(("diverged", "failed", "lost", "stopped", "running")):
        sweep.trial(SAM, status, 0.9 if number % 2 else 0.1)
    assert sweep.cell(SAM)["best"] == best


def test_a_restarted_trial_counts_once_with_its_last_attempt(sweep: Sweep) -> None:
    sweep.trial(SAM, "lost", trial="t")
    assert sweep.cell(SAM)["failed"] == 1
    sweep.trial(SAM, "running", trial="t", attempt=2)
    assert (sweep.cell(SAM)["failed"], sweep.cell(SAM)["running"]) == (0, 1)


def test_the_time_to_go_is_that_of_the_trials_left_at_the_pace_so_far(sweep: Sweep) -> None:
    assert sweep.progress().eta_seconds is None
    sweep.trial(SAM, "running")
    assert sweep.progress().eta_seconds is None
    sweep.trial(SAM, "finished", 0.1, minutes=1)
    sweep.trial(BSAM, "finished", 0.1, minutes=4)
    # Two trials in four minutes, and four of six to go.
    assert sweep.progress().eta_seconds == pytest.approx(4 * 120)


def test_the_time_between_two_drivers_does_not_count_for_the_pace(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.1, minutes=2)
    sweep.trial(SAM, "stopped", trial="stopped", minutes=3)
    assert sweep.progress().eta_seconds == pytest.approx(5 * 180)
    sweep.start(minutes=1000)
    later = START + timedelta(minutes=1001)
    sweep.trial(SAM, "finished", 0.1, minutes=1003, trial="stopped", attempt=2, started=later)
    # Three minutes under the first driver and two under the second, from its first trial's start; four trials to go.
    assert sweep.progress().eta_seconds == pytest.approx(4 * 150)
    sweep.start(minutes=2000)
    assert sweep.progress().eta_seconds == pytest.approx(4 * 150)


def test_a_stopped_trial_is_still_to_go(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.1, minutes=1)
    sweep.trial(SAM, "stopped", minutes=1)
    assert sweep.progress().eta_seconds == pytest.approx(5 * 60)


def test_a_sweep_runs_as_long_as_its_driver_lives_whatever_its_trials_do(sweep: Sweep) -> None:
    lease = Lease.take(sweep.store, "s")
    sweep.event("start")
    for cell in (SAM, SAM, SAM, BSAM, BSAM, BSAM):
        assert sweep.progress().state == "running" and not sweep.progress().ended
        sweep.trial(cell, "finished", 0.1)
    sweep.event("end", 1)
    assert not sweep.progress().ended
    lease.release()
    assert sweep.progress().state == "ended" and sweep.progress().ended
    assert sweep.progress().eta_seconds == 0 and sweep.progress().driver is None
    assert sweep.title() == "s: ended"


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("stop", "stopped"),
        ("budget", "stopped by budget"),
        ("interrupt", "interrupted"),
        ("broken", "broken off"),
        ("start", "driver lost"),
        ("resume", "driver lost"),
    ],
)
def test_a_sweep_that_did_not_end_says_why_and_that_a_resume_goes_on(kind: str, state: str, sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.1)
    sweep.event("end")
    sweep.event(kind, 1)
    for other in ("warning", "accepted"):
        sweep.event(other, 2)
    assert sweep.progress().state == state and sweep.progress().ended
    assert sweep.title() == f"s: {state}; recsweep resume s goes on"


def test_a_dead_driver_is_shown(sweep: Sweep) -> None:
    sweep.event("start")
    sweep.trial(SAM, "running")
    process = sweep.die()
    progress = sweep.progress()
    assert progress.state == "driver lost" and progress.ended
    driver = progress.as_dict()["driver"]
    assert (driver["host"], driver["pid"], driver["alive"]) == (os.uname().nodename, process, False)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(progress.table())
    text = " ".join(console.export_text().split())
    assert f"driver: process {process} on {os.uname().nodename}, last sign of life" in text


def test_a_resume_after_a_dead_driver_runs(sweep: Sweep) -> None:
    sweep.event("start")
    sweep.die()
    lease = Lease.take(sweep.store, "s")
    assert sweep.progress().state == "running"
    lease.release()


@pytest.mark.parametrize(("trials", "state"), [(5, "driver lost"), (6, "ended")])
def test_a_sweep_of_an_earlier_version_without_events_is_judged_by_its_trials(
    trials: int, state: str, sweep: Sweep
) -> None:
    for _ in range(trials):
        sweep.trial(SAM, "finished", 0.1)
    assert sweep.progress().state == state


def test_progress_can_be_written_as_json(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.25)
    lease = Lease.take(sweep.store, "s")
    plain = sweep.progress().as_dict()
    lease.release()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == ["sweep", "state", "ended", "driver", "eta_seconds", "cells"]
    assert (plain["sweep"], plain["state"], plain["ended"]) == ("s", "running", False)
    assert plain["driver"] == plain["driver"] | {"pid": os.getpid(), "alive": True}
    assert [row["best"] for row in plain["cells"]] == [0.25, None]


def test_the_table_shows_every_cell_its_best_score_and_whether_the_sweep_runs(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.25)
    console = Console(width=120, file=io.StringIO(), record=True)
    lease = Lease.take(sweep.store, "s")
    console.print(sweep.progress().table())
    lease.release()
    text = console.export_text()
    assert "s: running, about 5.0 min to go" in text
    sam, bsam = (next(line for line in text.splitlines() if cell in line) for cell in (SAM, BSAM))
    assert "0.2500" in sam and "0.0100" in sam and "-" in bsam
