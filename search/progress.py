"""How far a sweep is, read from the store alone, so that any machine that sees the store can ask."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from search.control import Driver, driver_of
from search.spec import SweepSpec, studies
from search.store import Store

ENDED = ("finished", "pruned", "diverged", "failed", "lost", "stopped")
SUCCEEDED = ("finished", "pruned")

RUNNING, OVER, LOST = "running", "ended", "driver lost"
ENDS = {
    "end": OVER,
    "stop": "stopped",
    "budget": "stopped by budget",
    "interrupt": "interrupted",
    "broken": "broken off",
}
"""The state that a driver leaves, by the last event that it writes."""


@dataclass(frozen=True)
class SweepProgress:
    """A sweep's cells and their states.

    Attributes:
        sweep: its name.
        state: `running` while a driver lives, else how the last one ended: one of ENDS, or `driver lost`.
        driver: the process that drives it, or did and ended without a word; None after every orderly end.
        cells: one row per cell: planned, done, running, pruned, failed (with diverged and lost), best, device_hours.
        eta_seconds: until the last trial at the pace of all drivers so far; None before the first trial ended.
    """

    sweep: str
    state: str
    driver: Driver | None
    cells: pd.DataFrame
    eta_seconds: float | None

    @property
    def ended(self) -> bool:
        """Whether no driver is at work: all trials have run, or nothing happens before a resume."""
        return self.state != RUNNING

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON; a cell without a score has null."""
        cells = self.cells.astype(object).where(self.cells.notna(), None).to_dict(orient="records")
        driver = None if self.driver is None else asdict(self.driver)
        head = {"sweep": self.sweep, "state": self.state, "ended": self.ended, "driver": driver}
        return head | {"eta_seconds": self.eta_seconds, "cells": cells}

    def table(self) -> Table:
        """The same for a terminal."""
        table = Table("cell", title=f"{self.sweep}: {self.state}{self._outlook()}", caption=self._driver())
        names = ("planned", "running", "finished", "pruned", "failed", "best", "device_hours")
        for name in names:
            table.add_column(name.replace("_", "-"), justify="right")
        for row in self.cells.to_dict(orient="records"):
            best = "-" if pd.isna(row["best"]) else f"{row['best']:.4f}"
            counts = [str(row[name]) for name in names[:5]]
            table.add_row(row["cell"], *counts, best, f"{row['device_hours']:.4f}")
        return table

    def _outlook(self) -> str:
        if self.state == RUNNING:
            return "" if self.eta_seconds is None else f", about {self.eta_seconds / 60:.1f} min to go"
        return "" if self.state == OVER else f"; recsweep resume {self.sweep} goes on"

    def _driver(self) -> str | None:
        if self.driver is None:
            return None
        process = f"driver: process {self.driver.pid} on {self.driver.host}"
        return f"{process}, last sign of life {self.driver.age_seconds:.0f} s ago"


def sweep_progress(store: Store, sweep: str) -> SweepProgress:
    """The progress of a sweep by its name in the store."""
    # The driver is looked for first: one that ends in the meantime has by then written how.
    driver = driver_of(store, sweep)
    trials, starts = store.frame("trials", sweep), store.frame("sweeps", sweep)
    spec = SweepSpec.model_validate_json(starts.iloc[-1]["spec_json"])
    rows = [
        _cell_row(
            study.cell, study.trials * len(spec.search.seeds), trials[trials["cell"] == study.cell], spec.goal.mode
        )
        for study in studies(spec)
    ]
    cells = pd.DataFrame(rows)
    done = int((cells["ended"] - cells["stopped"]).sum())
    left = int(cells["planned"].sum()) - done
    state = _state(driver, store.frame("events", sweep), left)
    seconds = _driven_seconds(store.frame("trials_all", sweep), starts["started"])
    return SweepProgress(sweep, state, driver, cells, seconds / done * left if done else None)


def _state(driver: Driver | None, events: pd.DataFrame, left: int) -> str:
    if driver is not None and driver.alive:
        return RUNNING
    turns = events.loc[events["kind"].isin(("start", "resume", *ENDS)), "kind"]
    if turns.empty:
        # Sweeps of earlier versions wrote no events.
        return LOST if left else OVER
    return ENDS.get(turns.iloc[-1], LOST)


def _cell_row(cell: str, planned: int, trials: pd.DataFrame, mode: str) -> dict[str, Any]:
    counts = trials["status"].value_counts()
    scores = trials.loc[trials["status"].isin(SUCCEEDED), "best_score"].astype(float)
    return {
        "cell": cell,
        "planned": planned,
        "running": int(counts.get("running", 0)),
        "finished": int(counts.get("finished", 0)),
        "pruned": int(counts.get("pruned", 0)),
        "failed": int(sum(counts.get(status, 0) for status in ("diverged", "failed", "lost"))),
        "stopped": int(counts.get("stopped", 0)),
        "ended": int(sum(counts.get(status, 0) for status in ENDED)),
        "best": float(scores.max() if mode == "max" else scores.min()) if len(scores) else float("nan"),
        "device_hours": float(trials["device_seconds"].astype(float).sum() / 3600),
    }


def _driven_seconds(attempts: pd.DataFrame, starts: pd.Series) -> float:
    """Time that drivers spent on trials: of each from the first to the last start or end that it wrote."""
    marks = pd.concat([attempts["started"], attempts["ended"].dropna()]).sort_values()
    turns = starts.sort_values().searchsorted(marks, side="right")
    spans = marks.groupby(turns).agg(["min", "max"])
    return float((spans["max"] - spans["min"]).dt.total_seconds().sum())
