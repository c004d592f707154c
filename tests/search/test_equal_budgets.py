"""Equal budgets in four units, against a slow second computation from the trials."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import compare
from search.equal_budgets import BUDGETS, DRAWS, lead_shares

NewSweep = Callable[..., Any]
DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"
DESCENT_SCORES = [0.20, 0.24, 0.21, 0.26, 0.22, 0.25]
SAM_SCORES = [0.30, 0.10, 0.15, 0.27]


def write(writer: Any) -> None:
    """Six trials of descent at 1,000 passes and 5 s each, four of sam at 2,000 passes and 20 s: the seconds differ."""
    for cell, scores, passes, seconds in ((DESCENT, DESCENT_SCORES, 100, 5.0), (SAM, SAM_SCORES, 200, 20.0)):
        for score in scores:
            writer.trial(cell, score, passes=passes, epochs=10, device_seconds=seconds)


def mean_best(scores: list[float], k: int, best: Callable[[Any], float] = max) -> float:
    return float(np.mean([best(subset) for subset in itertools.combinations(scores, k)]))


@pytest.fixture
def rows(new_sweep: NewSweep) -> Any:
    writer = new_sweep()
    write(writer)
    return compare(writer.store, ["sample"]).equal_budgets.set_index(["budget", "arm"])


def test_each_budget_buys_what_the_arms_mean_cost_in_its_unit_says(rows: Any) -> None:
    trials = {budget: rows.loc[budget]["trials"].to_dict() for budget in BUDGETS}
    assert trials == {
        "trials": {"descent": 4, "sam": 4},
        "gradient_evaluations": {"descent": 6, "sam": 3},
        "device_seconds": {"descent": 6, "sam": 1},
        # Adam's published grid has one learning rate, and sam's four radii.
        "paper_grids": {"descent": 1, "sam": 4},
    }
    amounts = {budget: set(rows.loc[budget]["amount"]) for budget in BUDGETS}
    assert amounts == {
        "trials": {4.0},
        "gradient_evaluations": {6000.0},
        "device_seconds": {30.0},
        "paper_grids": {1.0, 4.0},
    }


def test_the_expected_best_is_the_mean_best_over_all_subsets_of_so_many(rows: Any) -> None:
    for (_, arm), row in rows.iterrows():
        scores = DESCENT_SCORES if arm == "descent" else SAM_SCORES
        assert row["expected_best"] == pytest.approx(mean_best(scores, row["trials"]))


def test_the_ranking_turns_with_the_unit(rows: Any) -> None:
    leaders = {budget: rows.loc[budget]["rank"].idxmin() for budget in BUDGETS}
    assert leaders == {
        "trials": "sam",
        "gradient_evaluations": "sam",
        "device_seconds": "descent",
        "paper_grids": "sam",
    }
    assert sorted(rows.loc["trials"]["rank"]) == [1, 2]


def test_the_leads_are_those_of_redrawn_trials(rows: Any) -> None:
    """With equal trials the budget buys four of each in every draw; a second bootstrap finds the same share."""
    rng = np.random.default_rng(9)
    wins = 0.0
    for _ in range(4000):
        ours, theirs = (sorted(rng.choice(scores, len(scores))) for scores in (DESCENT_SCORES, SAM_SCORES))
        first, second = mean_best(ours, 4), theirs[-1]
        wins += 0.5 if first == second else first > second
    assert rows.loc[("trials", "descent"), "leads"] == pytest.approx(wins / 4000, abs=4 * 0.5 / np.sqrt(DRAWS))
    for budget in BUDGETS:
        assert rows.loc[budget]["leads"].sum() == pytest.approx(1.0)


def test_what_a_draw_buys_follows_from_its_own_mean_cost(new_sweep: NewSweep) -> None:
    """Of three trials that cost 10, 10 and 100 a draw of three cheap ones buys more: only they can beat descent."""
    writer = new_sweep()
    for _ in range(3):
        writer.trial(DESCENT, 0.25, passes=4, epochs=10)
    for score, passes in ((0.20, 1), (0.30, 1), (0.10, 10)):
        writer.trial(SAM, score, passes=passes, epochs=10)
    leads = compare(writer.store, ["sample"]).equal_budgets.set_index(["budget", "arm"])["leads"]
    wins = 0
    for draw in itertools.product([(0.20, 10), (0.30, 10), (0.10, 100)], repeat=3):
        scores, costs = [score for score, _ in draw], [cost for _, cost in draw]
        wins += mean_best(scores, max(1, min(3, int(120 / np.mean(costs) + 1e-9)))) > 0.25
    assert leads["gradient_evaluations", "sam"] == pytest.approx(wins / 27, abs=0.06)


def test_a_published_grid_larger_than_what_was_tried_is_marked_and_never_extrapolated(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "bsam_plus"]})
    for score in (0.2, 0.3, 0.25):
        writer.trial(DESCENT, score)
        writer.trial("lfm2k/vbpr/plain/bsam_plus/adam", score)
    found = compare(writer.store, ["sample"])
    row = found.equal_budgets.set_index(["budget", "arm"]).loc[("paper_grids", "bsam_plus")]
    assert (row["amount"], row["trials"], row["capped"]) == (64.0, 3, True)
    assert row["expected_best"] == pytest.approx(0.3)
    assert (
        "Of larger published grids only so many configurations were tried: bsam_plus 3 of 64."
        in found.answers["answer"][2]
    )
    others = found.equal_budgets[found.equal_budgets["arm"] != "bsam_plus"]
    assert not others["capped"].any()


@pytest.mark.parametrize(
    ("update", "objective", "size"),
    [
        ("mirror_gradient", "plain", 3),
        ("sam", "plain", 4),
        ("bsam", "plain", 16),
        ("bsam_plus", "plain", 64),
        ("descent", "dvib_c", 9),
        ("descent", "dvib_a", 3),
    ],
)
def test_published_grids_have_the_sizes_that_the_papers_print(
    new_sweep: NewSweep, update: str, objective: str, size: int
) -> None:
    axes = {
        "model": ["vbpr"],
        "update": list(dict.fromkeys(["descent", update])),
        "objective": list(dict.fromkeys(["plain", objective])),
    }
    writer = new_sweep(axes=axes, space={"preset": "extended", "tune": ["update", "objective", "optimizer"]})
    cells = [DESCENT, f"lfm2k/vbpr/{objective}/{update}/adam"]
    for cell in cells:
        writer.trial(cell, 0.2)
    grids = compare(writer.store, ["sample"]).equal_budgets.query("budget == 'paper_grids'")
    assert grids["amount"].tolist() == [1.0, float(size)]


def test_a_learning_rate_that_a_models_paper_searched_belongs_to_every_arms_grid(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["mmgcn"], "update": ["descent", "sam"]})
    for update in ("descent", "sam"):
        writer.trial(f"lfm2k/mmgcn/plain/{update}/adam", 0.2)
    grids = compare(writer.store, ["sample"]).equal_budgets.query("budget == 'paper_grids'")
    assert grids["amount"].tolist() == [5.0, 20.0]


def test_smaller_is_better_where_the_goal_says_so(new_sweep: NewSweep) -> None:
    writer = new_sweep(goal={"metric": "recall@20", "mode": "min"})
    write(writer)
    rows = compare(writer.store, ["sample"]).equal_budgets.set_index(["budget", "arm"])
    assert rows.loc[("trials", "sam"), "rank"] == 1
    assert rows.loc[("trials", "descent"), "expected_best"] == pytest.approx(mean_best(DESCENT_SCORES, 4, min))


def test_a_unit_that_the_store_does_not_have_is_left_out(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for cell in (DESCENT, SAM):
        writer.trial(cell, 0.2, device_seconds=None)
    found = set(compare(writer.store, ["sample"]).equal_budgets["budget"])
    assert found == {"trials", "gradient_evaluations", "paper_grids"}


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_draw_is_shared_by_those_that_lead_it(values: list[list[int]]) -> None:
    expected = np.zeros(len(values))
    for draw in zip(*values, strict=True):
        leaders = [place for place, value in enumerate(draw) if value == max(draw)]
        expected[leaders] += 1 / len(leaders) / 3
    assert lead_shares(np.array(values, dtype=np.float64)) == pytest.approx(expected)
