"""What a comparison's page and terminal show of its frames, and in which order."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from search import compare
from search.report import write_comparison
from search.report.comparison_figures import profile_charts
from search.report.comparison_tables import cheapest_table, equal_budgets_table, sensitivity_table, transfer_table
from search.report.terminal import print_comparison

NewSweep = Callable[..., Any]
UPDATES = ("descent", "mirror_gradient", "sam", "bsam")


@pytest.fixture
def four(new_sweep: NewSweep) -> Any:
    """Four arms of ten trials on two data sets, of which bsam alone is far better, and sam fails now and then."""
    writer = new_sweep(
        data={"names": ["books", "films"], "root": "/data"}, axes={"model": ["vbpr"], "update": list(UPDATES)}
    )
    rng = np.random.default_rng(3)
    for dataset in ("books", "films"):
        for update in UPDATES:
            for place in range(10):
                score = float(rng.uniform(0.2, 0.3)) + (0.5 if update == "bsam" else 0.0)
                failed = update == "sam" and place == 0
                writer.trial(
                    f"{dataset}/vbpr/plain/{update}/adam",
                    None if failed else score,
                    status="failed" if failed else "finished",
                )
    return compare(writer.store, ["sample"])


def test_the_page_shows_pairs_with_the_base_or_told_apart_and_folds_the_others_away(four: Any, tmp_path: Path) -> None:
    text = write_comparison(four, tmp_path).read_text()
    open_part, folded = text.split("<details>")
    folded = folded.split("</details>")[0]
    told = four.verdicts["winner"].notna()
    assert told.sum() == 3 and len(four.verdicts) == 6
    with_base = (four.verdicts["first"] == "descent") | (four.verdicts["second"] == "descent")
    for shown, sentence in zip(told | with_base, four.verdicts["sentence"], strict=True):
        assert (sentence in open_part, sentence in folded) == (shown, not shown)
    assert "The other pair, not told apart" in folded


def test_the_questions_come_first_on_page_and_terminal(four: Any, tmp_path: Path) -> None:
    text = write_comparison(four, tmp_path).read_text()
    assert text.index("Cheapest to tune") < text.index("<table>") < text.index('id="verdicts"')
    console = Console(record=True, width=200, file=io.StringIO())
    print_comparison(four, console)
    lines = console.export_text().splitlines()
    assert lines[0] == "books/vbpr" and lines[1].startswith("Cheapest to tune: bsam comes within 1%")
    assert "1 more pair that is not told apart is in verdicts.csv." in lines
    assert sum("told apart at this budget:" in line for line in lines) == 2


def test_the_cheapest_arm_is_the_first_row_of_its_task_and_marked(four: Any) -> None:
    table = cheapest_table(four)
    assert [row[:2] for place, row in enumerate(table.rows) if place in table.marked] == [
        ["books/vbpr", "bsam"],
        ["films/vbpr", "bsam"],
    ]
    assert table.marked == {0, 4}
    assert [row[0] for row in table.rows] == ["books/vbpr"] * 4 + ["films/vbpr"] * 4
    for row in table.rows:
        reached = not row[2].startswith("0 of")
        assert (row[3] == "not reached", row[4].startswith("at least")) == (not reached, not reached)


def test_the_equal_budgets_show_rank_score_configurations_and_leads(four: Any) -> None:
    table = equal_budgets_table(four)
    frame = four.equal_budgets
    row = frame[(frame["task"] == "books/vbpr") & (frame["arm"] == "bsam")].set_index("budget")
    (cells,) = [row for row in table.rows if row[:2] == ["books/vbpr", "bsam"]]
    best = row.loc["trials", "expected_best"]
    assert cells[2] == f"1. {best:.4f} of 10, 100%"
    assert cells[5] == f"1. {row.loc['paper_grids', 'expected_best']:.4f} of 10 (grid: 16), 100%"


def test_nothing_is_shown_of_what_is_not_known(four: Any) -> None:
    assert transfer_table(four).rows == []
    assert {row[-1] for row in sensitivity_table(four).rows} == {"–"}, "no default was run"
    (drawn,) = profile_charts(four)
    assert drawn.caption.endswith("On no task: descent, mirror_gradient and sam.")


def test_of_one_task_the_tables_do_not_repeat_its_name(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for update in ("descent", "sam"):
        writer.trial(f"lfm2k/vbpr/plain/{update}/adam", 0.3)
    found = compare(writer.store, ["sample"])
    assert [column.title for column in cheapest_table(found).columns][:2] == ["arm", "configurations so close"]


def test_of_a_space_tried_whole_the_cost_is_exact(new_sweep: NewSweep) -> None:
    writer = new_sweep(
        space={"preset": "paper", "tune": ["update"]}, search={"sampler": "grid", "trials": 10, "seeds": [999]}
    )
    writer.trial("lfm2k/vbpr/plain/descent/adam", 0.2, passes=100, epochs=1)
    for radius, score in ((0.05, 0.3), (0.1, 0.4), (0.15, 0.2), (0.2, 0.1)):
        writer.trial("lfm2k/vbpr/plain/sam/adam", score, point={"update.rho": radius}, passes=100, epochs=1)
    found = compare(writer.store, ["sample"])
    assert [row[-2] for row in cheapest_table(found).rows] == ["exact", "never"]
    rows = found.cheapest.set_index("arm")
    assert rows.loc["sam", ["cost", "low", "high"]].tolist() == [250.0, 250.0, 250.0]
    assert found.answers["answer"][1] == (
        "Sure: when the trials are drawn again, sam is the cheapest in 100% of draws. 1 of its 4 configurations came "
        "so close; its whole space was tried, so the cost is exact but for the luck of seeds."
    )
    leads = found.equal_budgets.set_index(["budget", "arm"])["leads"]
    assert leads["trials", "sam"] == 1.0, "the best of all four is known"
