"""The answers for a reader in a hurry, and the bootstrap behind them."""

import html
import itertools
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search import compare
from search.answers import BUDGET, CHEAPEST, HOW_SURE, UNTUNED
from search.cost_to_target import cost_to_target
from search.report import write_comparison
from search.report.comparison_page import FRAMES
from search.study_spec import Cell
from spaces.params import Value

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


@pytest.fixture
def two(new_sweep: Callable[..., Any]) -> Any:
    """Descent never comes near sam's best; half of sam's configurations do."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for number in range(24):
        rate = {"optimizer.learning_rate": 1.1e-4 * (number + 1)}
        sweep.trial(DESCENT, 0.30 + 0.001 * (number % 3), point=rate, epochs=10, passes=50)
        sweep.trial(SAM, 0.40 - 0.05 * (number % 2), point=rate, epochs=10, passes=100)
    return sweep


def test_the_arm_that_alone_comes_near_the_best_is_the_cheapest_for_sure(two: Any, tmp_path: Path) -> None:
    found = compare(two.store, [two.name])
    rows = found.cheapest.set_index("arm")
    assert (rows.loc["sam", "hits"], rows.loc["sam", "candidates"]) == (12, 24)
    assert rows.loc["sam", "share"] == 1.0, "a draw in 2^24 has none of the twelve"
    assert rows.loc["sam", "cost"] == pytest.approx(25 / 13 * 1000), "trials to the first of 12 in 24, at 1,000 each"
    assert rows.loc["sam", "low"] < rows.loc["sam", "cost"] < rows.loc["sam", "high"] < rows.loc["descent", "low"]
    assert math.isinf(rows.loc["descent", "cost"]) and rows.loc["descent", "share"] == 0.0
    assert found.answers["question"].tolist() == [CHEAPEST, HOW_SURE, BUDGET, UNTUNED]
    cheapest, sure, budgets, untuned = found.answers["answer"]
    assert cheapest.startswith(
        "sam comes within 1% of the best known score (0.3960) at the least expected cost, 1,923 "
    )
    assert cheapest.endswith("Never so close: descent.")
    assert sure.startswith("Sure: when the trials are drawn again, sam is the cheapest in 100% of draws. 12 of its 24 ")
    assert "may be cheaper" not in sure
    assert "sam has the best expected score at a quarter, at a half and at all" in budgets
    assert untuned.startswith("The defaults were not run (the same sweep with space.tune=[] would tell, ")
    assert untuned.endswith("). One random configuration: sam 0.3750 and descent 0.3010 on average.")
    assert compare(two.store, [two.name]).cheapest.equals(found.cheapest), "the same seed, the same numbers"
    page = write_comparison(found, tmp_path)
    assert all(answer in html.unescape(page.read_text()) for answer in found.answers["answer"])


def test_every_frame_is_a_csv_file_in_full_precision(two: Any, tmp_path: Path) -> None:
    found = compare(two.store, [two.name])
    write_comparison(found, tmp_path)
    frames = {each.name for each in fields(found) if isinstance(getattr(found, each.name), pd.DataFrame)}
    assert {path.stem for path in (tmp_path / "comparison").iterdir()} == frames == set(FRAMES)
    for name in ("cheapest", "equal_budgets", "results", "answers"):
        stored, kept = pd.read_csv(tmp_path / "comparison" / f"{name}.csv"), getattr(found, name)
        pd.testing.assert_frame_equal(stored, kept, check_exact=True, check_dtype=False)


def test_half_of_few_hits_is_not_sure_and_the_rival_is_named(new_sweep: Callable[..., Any]) -> None:
    """Sam wins almost every draw, but none of three at half the cost says little against descent."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for number in range(6):
        if number < 3:
            sweep.trial(DESCENT, 0.3, point={"optimizer.learning_rate": 1e-4 * (number + 1)}, passes=50)
        sweep.trial(SAM, 0.4, point={"optimizer.learning_rate": 1e-4 * (number + 1)}, passes=100)
    found = compare(sweep.store, [sweep.name])
    assert found.cheapest.set_index("arm").loc["sam", "share"] == 1.0
    sure = found.answers["answer"][1]
    assert sure.startswith("Not sure: ") and sure.endswith("By such intervals descent may be cheaper.")


def test_the_share_is_that_of_all_draws_with_replacement(new_sweep: Callable[..., Any]) -> None:
    """Each arm has one good trial of three; every draw of three and three is enumerated."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    trials = {DESCENT: [(0.4, 20), (0.1, 10), (0.2, 40)], SAM: [(0.398, 30), (0.3, 10), (0.1, 20)]}
    for cell, found in trials.items():
        for score, passes in found:
            sweep.trial(cell, score, passes=passes, epochs=1)
    draws = {
        cell: [
            math.inf if cost is None else cost
            for pick in itertools.product(found, repeat=3)
            for cost in [cost_to_target([score for score, _ in pick], [cost for _, cost in pick], 0.396).cost]
        ]
        for cell, found in trials.items()
    }
    pairs = list(itertools.product(draws[DESCENT], draws[SAM]))
    expected = [np.mean([a <= b and a < math.inf for a, b in pairs]), np.mean([b < a for a, b in pairs])]
    shares = compare(sweep.store, [sweep.name]).cheapest["share"].tolist()
    assert shares == pytest.approx(expected, abs=0.035)
    assert sum(expected) < 0.92 and min(expected) > 0.1, "each arm must win some draws, and neither some"


def test_two_arms_alike_are_not_called_sure(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    rng = np.random.default_rng(5)
    for cell in (DESCENT, SAM):
        for number, score in enumerate(rng.uniform(0.39, 0.4, size=12)):
            sweep.trial(cell, float(score), point={"optimizer.learning_rate": 1e-4 * (number + 1)}, epochs=10)
    found = compare(sweep.store, [sweep.name])
    assert found.cheapest["share"].between(0.02, 0.98).all() and found.cheapest["share"].sum() == pytest.approx(1.0)
    cheapest, sure, *_ = found.answers["answer"]
    assert "; then " in cheapest and not sure.startswith("Sure") and sure.endswith("may be cheaper.")


def test_a_lead_that_hangs_on_the_budget_is_said(new_sweep: Callable[..., Any]) -> None:
    """Descent is cheap and even; sam costs four times as much, and one of its configurations is far better."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for number in range(12):
        rate = {"optimizer.learning_rate": 1.1e-4 * (number + 1)}
        sweep.trial(DESCENT, 0.36 + 0.0001 * number, point=rate, epochs=10, passes=25)
        sweep.trial(SAM, 0.50 if number == 3 else 0.20, point=rate, epochs=10, passes=25)
    budgets = compare(sweep.store, [sweep.name]).answers["answer"][2]
    assert "25%: descent (" in budgets and "100%: sam (0.5000)" in budgets
    assert "sam leads with equal trials" in budgets and "descent leads with each arm's published grid" in budgets
    assert "were tried" not in budgets, "the published grids of both are smaller than what was tried"


def test_an_arm_that_has_not_finished_anything_yet_does_not_lead(new_sweep: Callable[..., Any]) -> None:
    """At half of the budget every arm still has the base score or less: all configurations but one are worse."""
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    sweep.trial(DESCENT, 0.30, point=defaults(sweep.studies[DESCENT]), passes=100)
    sweep.trial(DESCENT, 0.10, point={"optimizer.learning_rate": 3e-4}, passes=100)
    for number in range(2):
        sweep.trial(SAM, 0.1 + 0.3 * number, point={"optimizer.learning_rate": 1e-4 * (number + 1)}, passes=100)
    budgets = compare(sweep.store, [sweep.name]).answers["answer"][2]
    assert budgets.startswith(
        "Best expected score by share of the common budget: 25%: none above the base score, 50%: none above the base "
        "score, 100%: sam (0.4000)."
    )


def defaults(study: Any) -> dict[str, Value]:
    known = Cell(*study.cell.split("/")).defaults()
    return {name: known[name] for name in study.space.parameters}


def test_the_worth_of_defaults_is_told_where_they_were_run(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update", "optimizer"]})
    for cell, score in ((DESCENT, 0.31), (SAM, 0.33)):
        sweep.trial(cell, score, point=defaults(sweep.studies[cell]))
        sweep.trial(cell, 0.35, point={"optimizer.learning_rate": 5e-3})
    untuned = compare(sweep.store, [sweep.name]).answers["answer"][3]
    assert "sam 0.3300 (+0.0200) and descent 0.3100 (+0.0000), against the base score 0.3100. One random" in untuned
