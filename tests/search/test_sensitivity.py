"""How much an arm's score hangs on its configuration, against the standard library."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import compare
from search.sensitivity import spread

DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"
several = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=15)


@given(several)
def test_spread_is_that_of_the_standard_library(scores: list[float]) -> None:
    found = spread(np.array(scores))
    quarters = statistics.quantiles(scores, n=4, method="inclusive")
    assert found["deviation"] == pytest.approx(statistics.stdev(scores))
    assert found["iqr"] == pytest.approx(quarters[2] - quarters[0])
    assert found["p10"] == pytest.approx(statistics.quantiles(scores, n=10, method="inclusive")[0])


@given(several)
def test_of_losses_nine_in_ten_are_smaller_than_p10(losses: list[float]) -> None:
    found, mirrored = spread(np.array(losses), "min"), spread(-np.array(losses))
    assert found["p10"] == pytest.approx(statistics.quantiles(losses, n=10, method="inclusive")[-1])
    assert found["p10"] == pytest.approx(-float(mirrored["p10"]))  # type: ignore[arg-type]
    assert found["iqr"] == pytest.approx(mirrored["iqr"]) and found["deviation"] == pytest.approx(mirrored["deviation"])


def test_one_score_has_no_deviation() -> None:
    assert spread(np.array([0.3])) == {"deviation": None, "iqr": 0.0, "p10": pytest.approx(0.3)}


def test_failed_configurations_spread_as_the_worst_score_and_those_cut_short_leave_it_open(
    new_sweep: Callable[..., Any],
) -> None:
    sweep = new_sweep()
    for score in (0.10, 0.20, 0.30):
        sweep.trial(DESCENT, score)
    sweep.trial(SAM, 0.4)
    sweep.trial(SAM, None, status="diverged")
    rows = compare(sweep.store, ["sample"]).results.set_index("arm")
    assert rows.loc["descent", ["deviation", "iqr", "p10"]].tolist() == pytest.approx([0.1, 0.1, 0.12])
    assert rows.loc["sam", ["deviation", "iqr", "p10"]].tolist() == pytest.approx([0.3 / math.sqrt(2), 0.15, 0.13])
    sweep.trial(SAM, 0.2, status="pruned")
    cut = compare(sweep.store, ["sample"]).results.set_index("arm")
    assert cut.loc["sam", ["deviation", "iqr", "p10", "harm_rate"]].isna().all()


@pytest.mark.parametrize(("mode", "expected"), [("max", 0.15), ("min", 0.05)])
def test_default_regret_is_what_the_best_gains_over_the_default(
    new_sweep: Callable[..., Any], mode: str, expected: float
) -> None:
    sweep = new_sweep(goal={"metric": "recall@20", "mode": mode})
    for rate, score in ((1e-3, 0.25), (2e-3, 0.40), (3e-3, 0.20)):
        sweep.trial(DESCENT, score, point={"optimizer.learning_rate": rate})
        sweep.trial(SAM, score, point={"optimizer.learning_rate": rate, "update.rho": 0.3})
    rows = compare(sweep.store, ["sample"]).results.set_index("arm")
    assert rows.loc["descent", "default_regret"] == pytest.approx(expected)
    assert math.isnan(rows.loc["sam", "default_regret"]), "its default radius was not run"
