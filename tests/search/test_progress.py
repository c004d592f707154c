"""How far a sweep is, from rows of the store alone."""

import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

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
        started = {"sweep": "s", "digest": self.spec.digest, "started": START}
        self.store.append("sweeps", [started | {"spec_json": self.spec.model_dump_json()}])

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


def test_a_sweep_has_ended_when_all_its_trials_have(sweep: Sweep) -> None:
    states = []
    for cell in (SAM, SAM, SAM, BSAM, BSAM, BSAM):
        states.append(sweep.progress().ended)
        sweep.trial(cell, "finished", 0.1)
    assert states == [False] * 6 and sweep.progress().ended
    assert sweep.progress().eta_seconds == 0


def test_a_stopped_sweep_has_ended_though_trials_are_left(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.1)
    sweep.trial(SAM, "stopped")
    assert sweep.progress().ended


def test_a_sweep_in_which_a_trial_runs_has_not_ended(sweep: Sweep) -> None:
    sweep.trial(SAM, "stopped")
    sweep.trial(SAM, "running")
    assert not sweep.progress().ended


def test_progress_can_be_written_as_json(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.25)
    plain = sweep.progress().as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["sweep"], plain["ended"]) == ("s", False)
    assert [row["best"] for row in plain["cells"]] == [0.25, None]


def test_the_table_shows_every_cell_its_best_score_and_whether_the_sweep_runs(sweep: Sweep) -> None:
    sweep.trial(SAM, "finished", 0.25)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(sweep.progress().table())
    text = console.export_text()
    assert "s: running, about 5.0 min to go" in text
    sam, bsam = (next(line for line in text.splitlines() if cell in line) for cell in (SAM, BSAM))
    assert "0.2500" in sam and "0.0100" in sam and "-" in bsam
