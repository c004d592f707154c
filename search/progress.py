"""How far a sweep is, read from the store alone, so that any machine that sees the store can ask."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from search.spec import SweepSpec, studies
from search.store import Store

ENDED = ("finished", "pruned", "diverged", "failed", "lost", "stopped")
SUCCEEDED = ("finished", "pruned")


@dataclass(frozen=True)
class SweepProgress:
    """A sweep's cells and their states.

    Attributes:
        sweep: its name.
        cells: one row per cell: planned, done, running, pruned, failed (with diverged and lost), best, device_hours.
        eta_seconds: until the last trial at the pace so far; None before the first trial ended.
    """

    sweep: str
    cells: pd.DataFrame
    eta_seconds: float | None

    @property
    def ended(self) -> bool:
        """Whether no trial runs and none is left, or the sweep was stopped."""
        left = self.cells["planned"].sum() - self.cells["ended"].sum()
        return bool(self.cells["running"].sum() == 0 and (left == 0 or self.cells["stopped"].sum() > 0))

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON; a cell without a score has null."""
        cells = self.cells.astype(object).where(self.cells.notna(), None).to_dict(orient="records")
        return {"sweep": self.sweep, "ended": self.ended, "eta_seconds": self.eta_seconds, "cells": cells}

    def table(self) -> Table:
        """The same for a terminal."""
        eta = "" if self.eta_seconds is None or self.ended else f", about {self.eta_seconds / 60:.1f} min to go"
        table = Table("cell", title=f"{self.sweep}: {'ended' if self.ended else 'running'}{eta}")
        names = ("planned", "running", "finished", "pruned", "failed", "best", "device_hours")
        for name in names:
            table.add_column(name.replace("_", "-"), justify="right")
        for row in self.cells.to_dict(orient="records"):
            best = "-" if pd.isna(row["best"]) else f"{row['best']:.4f}"
            counts = [str(row[name]) for name in names[:5]]
            table.add_row(row["cell"], *counts, best, f"{row['device_hours']:.4f}")
        return table


def sweep_progress(store: Store, sweep: str) -> SweepProgress:
    """The progress of a sweep by its name in the store."""
    trials = store.frame("trials", sweep)
    spec = SweepSpec.model_validate_json(store.frame("sweeps", sweep).iloc[-1]["spec_json"])
    rows = [
        _cell_row(
            study.cell, study.trials * len(spec.search.seeds), trials[trials["cell"] == study.cell], spec.goal.mode
        )
        for study in studies(spec)
    ]
    cells = pd.DataFrame(rows)
    return SweepProgress(sweep, cells, _eta(trials, int(cells["planned"].sum() - cells["ended"].sum())))


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


def _eta(trials: pd.DataFrame, left: int) -> float | None:
    ended = trials[trials["ended"].notna()]
    if ended.empty:
        return None
    elapsed = (ended["ended"].max() - trials["started"].min()).total_seconds()
    return float(elapsed / len(ended) * left)
