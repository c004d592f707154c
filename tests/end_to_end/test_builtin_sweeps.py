"""Every built-in sweep, shrunk, on real Ray through the command line: each cell of it trains to its end."""

from pathlib import Path
from typing import Any

import pytest

from search.spec import SweepSpec, builtin_sweeps, cells, load
from search.store import Store

pytestmark = pytest.mark.slow

SMALL = (
    "search.trials=1",
    "train.max_epochs=2",
    "train.batch_size=1024",
    "space.fix.model.embedding_size=8",
    "checkpoint.every_epochs=2",
)

# What else must be smaller, for a test on two cores. All arms stay.
SHRUNK = {
    "quickstart": (),
    "mg-vs-sam-vs-bsam": ("axes.model=[lightgcn]",),
    "dvib-paper": ("axes.model=[vbpr, selfcf]",),
    "bsam-paper": ("axes.model=[vbpr]",),
    "robustness": (
        "axes.model=[vbpr]",
        "protocols.seeds=[999]",
        "protocols.robustness={corruptions: [gaussian, raw_features], gaussian_stds: [0.05], draws: 1}",
    ),
}


@pytest.mark.parametrize("name", builtin_sweeps())
def test_it_launches_and_every_cell_finishes(name: str, recsweep: Any, tmp_path: Path) -> None:
    overrides = [*SMALL, *SHRUNK[name]]
    done = recsweep(["launch", name, *overrides, "--store", "s"])
    assert done.returncode == 0, done.stderr
    spec, store = load(name, overrides), Store(tmp_path / "s")
    trials = store.frame("trials")
    assert sorted(trials["cell"]) == sorted(cell.cell for cell in cells(spec))
    assert set(trials["status"]) == {"finished"}
    assert (trials["epochs"] == 2).all() and trials["best_score"].notna().all()
    _check_protocols(spec, store)


def _check_protocols(spec: SweepSpec, store: Store) -> None:
    """Every cell was measured by every protocol that the sweep asks for, clean and under each corruption."""
    measured = store.frame("protocols")
    assert set(measured["protocol"]) == set(spec.protocols.given())
    if spec.protocols.robustness is not None:
        assert set(measured["cell"]) == {cell.cell for cell in cells(spec)}
        assert set(measured["subject"]) == {"clean", "gaussian", "raw_features"}
