"""The answers for a reader in a hurry, and the bootstrap behind them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search import compare
from search.report import write_comparison
from search.study_spec import Cell
from search.tuning_cost import Mode, cost_to_target, redrawn_costs_to_target
from spaces.params import Value

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


class Picked:
    """A generator that picks what it is told to."""

    def __init__(self, picks: np.ndarray[Any, Any]) -> None:
        self.picks = picks

    def integers(self, low: int, high: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        assert (low, high, size) == (0, self.picks.shape[1], self.picks.shape)
        return self.picks


@pytest.mark.parametrize("mode", ["max", "min"])
def test_every_draw_costs_what_its_trials_do(mode: Mode) -> None:
    rng = np.random.default_rng(3)
    scores, costs = rng.normal(size=9), rng.uniform(1, 5, size=9)
    target = float(np.quantile(scores, 0.8 if mode == "max" else 0.2))
    picks = rng.integers(0, 9, size=(200, 9))
    drawn = redrawn_costs_to_target(scores, costs, target, rng=Picked(picks), draws=200, mode=mode)  # type: ignore[arg-type]
    each = [cost_to_target(scores[pick], costs[pick], target, mode).cost for pick in picks]
    assert drawn == pytest.approx([math.inf if cost is None else cost for cost in each])
    assert math.inf in drawn, "some draws must miss, or the test shows nothing"


def test_the_interval_holds_the_true_cost_about_as_often_as_it_says() -> None:
    """Of uniform scores the truth is known: a share p of trials reaches the target, so 1 / p are needed."""
    rng, held, p, n = np.random.default_rng(4), 0, 0.3, 40
    for _ in range(400):
        drawn = redrawn_costs_to_target(rng.uniform(size=n), np.ones(n), 1 - p, rng=rng, draws=200)
        low, high = np.quantile(drawn, (0.1, 0.9), method="inverted_cdf")
        held += low <= 1 / p <= high
    assert 0.72 < held / 400 < 0.9


@pytest.fixture
def two(new_sweep: Callable[..., Any]) -> Any:
    """Descent never comes near sam's best; half of sam's configurations do."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for number in range(12):
        rate = {"optimizer.learning_rate": 1.1e-4 * (number + 1)}
        sweep.trial(DESCENT, 0.30 + 0.001 * (number % 3), point=rate, epochs=10, passes=50)
        sweep.trial(SAM, 0.40 - 0.05 * (number % 2), point=rate, epochs=10, passes=100)
    return sweep


def test_the_arm_that_alone_comes_near_the_best_is_the_cheapest_for_sure(two: Any, tmp_path: Path) -> None:
    found = compare(two.store, [two.name])
    rows = found.cheapest.set_index("arm")
    assert (rows.loc["sam", "hits"], rows.loc["sam", "candidates"]) == (6, 12)
    assert rows.loc["sam", "share"] > 0.99, "a draw in 2^12 has none of the six"
    assert rows.loc["sam", "cost"] == pytest.approx(13 / 7 * 1000), "trials to the first of 6 in 12, at 1,000 each"
    assert rows.loc["sam", "low"] < rows.loc["sam", "cost"] < rows.loc["sam", "high"]
    assert math.isinf(rows.loc["descent", "cost"]) and rows.loc["descent", "share"] == 0.0
    cheapest, budgets, untuned = found.answers
    assert "sam is the cheapest to tune to within 1% of the best known" in cheapest and "in 100% of draws" in cheapest
    assert "6 of 12 configurations" in cheapest and "Descent never came so close." in cheapest
    assert "sam has the best expected score at a quarter, at a half and at all" in budgets
    assert "no default configuration was run" in untuned
    assert compare(two.store, [two.name]).cheapest.equals(found.cheapest), "the same seed, the same numbers"
    page = write_comparison(found, tmp_path)
    assert all(sentence in page.read_text() for sentence in (budgets, untuned))
    stored = pd.read_csv(tmp_path / "comparison" / "cheapest.csv")
    pd.testing.assert_frame_equal(stored, found.cheapest, check_exact=True)
    assert {path.stem for path in (tmp_path / "comparison").iterdir()} == {
        *("tasks", "results", "curves", "bands", "targets", "cheapest", "verdicts")
    }


def test_two_arms_alike_are_not_called_sure(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    rng = np.random.default_rng(5)
    for cell in (DESCENT, SAM):
        for number, score in enumerate(rng.uniform(0.39, 0.4, size=12)):
            sweep.trial(cell, float(score), point={"optimizer.learning_rate": 1e-4 * (number + 1)}, epochs=10)
    found = compare(sweep.store, [sweep.name])
    assert found.cheapest["share"].between(0.02, 0.98).all() and found.cheapest["share"].sum() == pytest.approx(1.0)
    assert "but that is not sure" in found.answers[0] and "; next " in found.answers[0]


def test_a_lead_that_hangs_on_the_budget_is_said(new_sweep: Callable[..., Any]) -> None:
    """Descent is cheap and even; sam costs four times as much, and one of its configurations is far better."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for number in range(12):
        rate = {"optimizer.learning_rate": 1e-4 * (number + 1)}
        sweep.trial(DESCENT, 0.36 + 0.0001 * number, point=rate, epochs=10, passes=25)
        sweep.trial(SAM, 0.50 if number == 3 else 0.20, point=rate, epochs=10, passes=25)
    found = compare(sweep.store, [sweep.name])
    assert "hangs on the budget: descent at 25%" in found.answers[1] and "sam at 100%" in found.answers[1]


def defaults(study: Any) -> dict[str, Value]:
    known = Cell(*study.cell.split("/")).defaults()
    return {name: known[name] for name in study.space.parameters}


def test_the_worth_of_defaults_is_told_where_they_were_run(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for cell, score in ((DESCENT, 0.31), (SAM, 0.33)):
        sweep.trial(cell, score, point=defaults(sweep.studies[cell]))
        sweep.trial(cell, 0.35, point={"optimizer.learning_rate": 5e-3})
    untuned = compare(sweep.store, [sweep.name]).answers[2]
    assert "sam 0.3300 (+0.0200) and descent 0.3100 (+0.0000), against the base score 0.3100" in untuned
