"""The replay of searches on a grid's learning curves."""

import itertools
import json
import math
from typing import Any

import pytest
from cost_to_score import GRIDS, sweep
from search_defaults import Curves, curves, once

from search.spec import parse

SECTIONS = sweep("lightgcn", ".", 0)
STEPS = 22


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """A grid whose best point is at 2 layers, weight 1e-4 and rate 1e-3; every point trains for 40 epochs of 0.5 s."""
    grid = GRIDS["lightgcn"]
    lines = []
    for numbers in itertools.product(*grid.values()):
        layers, weight, rate = numbers
        top = 0.4 - 0.02 * (abs(layers - 2) + abs(math.log10(weight) + 4) + 2 * abs(math.log10(rate) + 3))
        curve = [top * (1 - 0.5 ** (epoch + 1)) for epoch in range(40)]
        row: dict[str, Any] = {"point": dict(zip(grid, numbers, strict=True)), "score": max(curve), "epochs": 40}
        lines.append(row | {"curve": curve, "seconds": 20.0, "gradient_evaluations": 40 * STEPS})
    file = tmp_path_factory.mktemp("grid") / "lightgcn-grid.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return curves(file, parse(SECTIONS, "test"))


def test_the_nearest_point_answers_on_logarithmic_axes(known: Curves) -> None:
    flat = {"model.num_layers": 3, "model.reg_weight": 2.9e-4, "optimizer.learning_rate": 2e-3}
    point = {"model.num_layers": 3, "model.reg_weight": 1e-4, "optimizer.learning_rate": 1e-3}
    assert known.nearest(flat)["point"] == point
    weight = {"model.reg_weight": 3.3e-4, "optimizer.learning_rate": 2.5e-3}
    assert known.nearest(flat | weight)["point"] == point | {"model.reg_weight": 1e-3, "optimizer.learning_rate": 5e-3}


def test_without_a_scheduler_a_search_costs_its_trials(known: Curves) -> None:
    alone, beside = (once(known, SECTIONS, "random", "fifo", workers, 7) for workers in (1, 16))
    assert alone["whole"] == beside["whole"] == pytest.approx(32 / 60)
    assert alone["score"] == beside["score"]
    assert alone["near"] is None or (alone["time"] is not None and alone["time"] > 4 * (beside["time"] or 0.0))


def test_asha_stops_most_trials_and_tpe_comes_near_the_best(known: Curves) -> None:
    found = [once(known, SECTIONS, "random", "asha, 5 epochs, 1/3", 2, seed) for seed in range(4)]
    # All 32 trials run 5 epochs, and few go on: the first ones, against few others, and the best.
    assert all(32 * 5 / (60 * 40) <= (each["whole"] or 0.0) < 0.6 * 32 / 60 for each in found)
    led = [once(known, SECTIONS, "tpe", "asha, 5 epochs, 1/3", 2, seed) for seed in range(4)]
    assert sum(each["near"] is not None for each in led) >= 3


def test_another_sampler_takes_the_place_of_the_searchers_own(known: Curves) -> None:
    own, other = (once(known, SECTIONS, sampler, "fifo", 1, 3) for sampler in ("tpe", "tpe, univariate"))
    assert own != other
    assert own == once(known, SECTIONS, "tpe", "fifo", 1, 3)
