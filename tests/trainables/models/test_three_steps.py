"""Three training steps of every model against stored figures, so that a refactor or a faster path keeps the numbers.

A change that is meant to change them says so in its commit and writes them anew:
    RECSWEEP_WRITE_GOLDENS=1 python -m pytest tests/trainables/models/test_three_steps.py
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_reference import build

from trainables.data.bundle import DataBundle
from trainables.models import MODELS
from trainables.seeding import numpy_stream
from trainables.types import Batch

GOLDEN = Path(__file__).parents[2] / "golden" / "three_steps.json"
CASES: dict[str, dict[str, Any]] = {name: {} for name in MODELS} | {
    "selfcf he": {"variant": "he"},
    "selfcf ep": {"variant": "ep"},
    "ngcf node_dropout": {"node_dropout": 0.3},
    "mmgcn mmrec": {"compat": "mmrec"},
    "grcn mmrec": {"compat": "mmrec"},
    "dualgnn mmrec": {"compat": "mmrec"},
}


def three_steps(case: str, data: DataBundle) -> dict[str, list[float]]:
    """The three batches' losses, the norm of all weights after each step, and some scores at the end; float64."""
    model = build(case.partition(" ")[0], data, **CASES[case])
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=0.01, fused=True)
    losses, norms = [], []
    for step in range(3):
        chosen = slice(12 * step, 12 * step + 12)
        users, items = (torch.from_numpy(column[chosen].copy()) for column in (data.train.users, data.train.items))
        negatives = ((items + 1 + step) % data.num_items)[:, None]
        batch = Batch(users, items, negatives if model.uses_negatives else negatives[:, :0])
        with torch.random.fork_rng():
            torch.manual_seed(step)
            result = model.loss(model.extract(model.fuse(batch)), batch)
        optimizer.zero_grad()
        result.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.remember(batch, result.memory)
        losses.append(result.total.item())
        norms.append(torch.stack([weight.detach().norm() for weight in weights]).norm().item())
    with torch.no_grad():
        scores = model.eval().score(model.extract(model.fuse()), torch.arange(3))
    return {"losses": losses, "norms": norms, "scores": scores[:, :4].flatten().tolist()}


@pytest.mark.parametrize("case", CASES)
def test_three_training_steps_give_the_stored_figures(case: str, toy: DataBundle) -> None:
    figures = three_steps(case, toy)
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("RECSWEEP_WRITE_GOLDENS"):
        GOLDEN.write_text(json.dumps(stored | {case: figures}, indent=1) + "\n")
        return
    assert figures.keys() == stored[case].keys()
    for name, values in figures.items():
        assert values == pytest.approx(stored[case][name], rel=1e-9, abs=1e-12), name
