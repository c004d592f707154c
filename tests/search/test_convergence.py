"""Convergence of arms: curves held against second computations; what the page, the table and the command show."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import search
from search import cli
from search.convergence_curves import AXES, Convergence, converge, convergence
from search.errors import ComparisonError
from search.report import write_convergence, write_report
from search.report.convergence_page import POINTS_SHOWN, convergence_section, milestones_table

NewSweep = Callable[..., Any]
DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"
GOAL = "recall@20"
POINT = {"optimizer.learning_rate": 0.001, "update.rho": 0.1}
EVIL = "<img src=x onerror=alert(1)>"


def run(writer: Any, cell: str, values: Sequence[float], **columns: Any) -> str:
    """Write a finished trial whose validations are exactly these; an epoch costs 10 passes and 2.5 seconds."""
    mode = writer.spec["goal"]["mode"]
    best = min(values) if mode == "min" else max(values)
    name: str = writer.trial(cell, None, epochs=len(values), **{"best_score": best, **columns})
    rows = [
        {
            **{"sweep": writer.name, "trial": name, "attempt": 0, "epoch": epoch, "split": "valid", "metric": GOAL},
            **{"value": value, "gradient_evaluations": 10 * epoch, "train_seconds": 2.5 * epoch},
            "device_seconds": 3.0 * epoch,
        }
        for epoch, value in enumerate(values, 1)
    ]
    writer.add("metrics", rows)
    return name


def found_in(writer: Any, *arms: str) -> Convergence:
    return convergence(writer.store, [writer.name], arms)


def curve(found: Convergence, arm: str, axis: str) -> pd.DataFrame:
    rows = found.curves[(found.curves["arm"] == arm) & (found.curves["axis"] == axis)]
    return rows.reset_index(drop=True)


def reached(found: Convergence, arm: str) -> dict[float, tuple[float, ...]]:
    rows = found.milestones[found.milestones["arm"] == arm]
    return {row["share"]: tuple(row[axis] for axis in AXES) for _, row in rows.iterrows()}


def test_one_run_is_drawn_as_its_best_score_so_far_on_all_three_axes(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.2, 0.15, 0.3, 0.1])
    found = found_in(writer)
    for axis, price in zip(AXES, (1, 10, 2.5), strict=True):
        steps = curve(found, "sam", axis)
        assert steps["x"].tolist() == [price, 2 * price, 4 * price, 5 * price]
        assert steps["mean"].tolist() == steps["low"].tolist() == steps["high"].tolist() == [0.1, 0.2, 0.3, 0.3]
    assert found.runs[["seed", "score", *AXES]].to_numpy().tolist() == [[999, 0.3, 5, 50, 12.5]]


def test_milestones_are_where_a_share_of_the_own_best_was_first_reached(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.1901, 0.05, 0.1981, 0.2, 0.2])
    assert reached(found_in(writer), "sam") == {0.95: (2, 20, 5.0), 0.99: (4, 40, 10.0), 1.0: (5, 50, 12.5)}


def test_where_less_is_better_the_same_holds_downwards(new_sweep: NewSweep) -> None:
    writer = new_sweep(goal={"metric": GOAL, "mode": "min"})
    run(writer, SAM, [0.5, 0.41, 0.45, 0.403, 0.4])
    found = found_in(writer)
    assert curve(found, "sam", "epoch")["mean"].tolist() == [0.5, 0.41, 0.403, 0.4]
    assert reached(found, "sam") == {0.95: (2, 20, 5.0), 0.99: (4, 40, 10.0), 1.0: (5, 50, 12.5)}


def test_seeds_are_averaged_with_their_range_and_one_that_ended_keeps_its_best(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 1, "seeds": [1, 2]})
    run(writer, SAM, [0.1, 0.3], seed=1, point=POINT)
    run(writer, SAM, [0.2, 0.2, 0.1, 0.6], seed=2, point=POINT)
    steps = curve(found_in(writer), "sam", "epoch")
    assert steps["x"].tolist() == [1, 2, 4]
    assert steps["mean"].tolist() == pytest.approx([0.15, 0.25, 0.45])
    assert steps[["low", "high"]].to_numpy().tolist() == [[0.1, 0.2], [0.2, 0.3], [0.3, 0.6]]
    assert steps["training"].tolist() == [2, 2, 1]


Run = tuple[list[float], list[float]]


@st.composite
def seeds_of_an_arm(draw: st.DrawFn) -> list[Run]:
    """Draw the scores and the seconds per epoch of one to four runs."""
    runs = []
    for _ in range(draw(st.integers(1, 4))):
        scores = draw(st.lists(st.floats(0, 1), min_size=1, max_size=12))
        seconds = draw(st.lists(st.floats(0.01, 5), min_size=len(scores), max_size=len(scores)))
        runs.append((scores, seconds))
    return runs


@given(seeds_of_an_arm(), st.data())
@settings(deadline=None)
def test_at_any_cost_a_curve_is_what_the_runs_had_found_by_then(runs: list[Run], data: st.DataObject) -> None:
    trials, metrics = frames_of(runs)
    found = converge(("s",), trials, metrics)
    for axis in AXES:
        steps = curve(found, "sam", axis)
        costs = [np.cumsum(seconds) if axis == "train_seconds" else places(axis, scores) for scores, seconds in runs]
        assert steps["x"].iloc[0] == max(cost[0] for cost in costs)
        assert steps["x"].iloc[-1] == max(cost[-1] for cost in costs)
        at = data.draw(st.floats(float(steps["x"].iloc[0]), float(steps["x"].iloc[-1])))
        # Written anew: walk every run up to this cost and keep the largest score.
        pairs = [zip(scores, cost, strict=True) for (scores, _), cost in zip(runs, costs, strict=True)]
        known = [max(score for score, spent in pair if spent <= at) for pair in pairs]
        step = steps[steps["x"] <= at].iloc[-1]
        assert step["mean"] == pytest.approx(sum(known) / len(known), abs=1e-12)
        assert (step["low"], step["high"]) == (min(known), max(known))


def places(axis: str, scores: list[float]) -> np.ndarray[Any, Any]:
    return (7.0 if axis == "gradient_evaluations" else 1.0) * np.arange(1, len(scores) + 1)


def frames_of(runs: list[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two views that hold these runs as seeds 0, 1, ... of one configuration of SAM."""
    trials, metrics = [], []
    for seed, (scores, seconds) in enumerate(runs):
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=seed)
        trials.append(
            {
                **{"sweep": "s", "trial": f"t{seed}", "cell": "d/m/plain/sam/adam", "dataset": "d", "model": "m"},
                **{"objective": "plain", "update": "sam", "optimizer": "adam", "seed": seed, "status": "finished"},
                **{"config_json": json.dumps({"seed": seed, "a": 1}), "metric": GOAL, "mode": "max"},
                **{"best_score": max(scores), "started": started, "device": "cpu", "data_digest": "x"},
            }
        )
        spent = np.cumsum(seconds)
        metrics += [
            {
                **{"sweep": "s", "trial": f"t{seed}", "epoch": at + 1, "split": "valid", "metric": GOAL},
                **{"value": score, "gradient_evaluations": 7 * (at + 1), "train_seconds": spent[at]},
            }
            for at, score in enumerate(scores)
        ]
    return pd.DataFrame(trials), pd.DataFrame(metrics)


def test_an_arm_is_shown_by_the_configuration_with_the_best_mean_over_all_seeds(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 3, "seeds": [1, 2]})
    points = [{"optimizer.learning_rate": rate, "update.rho": 0.1} for rate in (0.001, 0.002, 0.003)]
    for point, scores in zip(points, ((0.9, 0.1), (0.6, 0.62)), strict=False):
        for seed, score in zip((1, 2), scores, strict=True):
            run(writer, SAM, [score / 2, score], seed=seed, point=point)
    run(writer, SAM, [0.99], seed=1, point=points[2])
    run(writer, SAM, [0.999], status="pruned")
    assert found_in(writer).runs[["seed", "score"]].to_numpy().tolist() == [[1, 0.6], [2, 0.62]]


def test_arms_are_named_as_in_comparisons_and_plain_descent_comes_first(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "objective": ["plain", "dvib_c"], "update": ["descent", "sam"]})
    for cell in writer.studies:
        run(writer, cell, [0.1, 0.2])
    found = found_in(writer)
    assert found.arms == ("descent", "dvib_c", "dvib_c+sam", "sam")
    assert any("DVIB" in note for note in found.notes)
    chosen = found_in(writer, "sam", "dvib_c")
    assert chosen.arms == ("dvib_c", "sam")
    assert set(chosen.curves["arm"]) == {"sam", "dvib_c"}


def test_sweeps_are_pooled_and_a_trial_that_both_ran_counts_once(tmp_path: Path, new_sweep: NewSweep) -> None:
    first, second = new_sweep(name="one"), new_sweep(name="two")
    for writer in (first, second):
        run(writer, SAM, [0.1, 0.2], seed=1, point=POINT)
    run(second, SAM, [0.2, 0.4], seed=2, point=POINT)
    assert first.store.root == second.store.root
    found = convergence(first.store, ["one", "two"])
    assert found.runs[["sweep", "seed"]].to_numpy().tolist() == [["one", 1], ["two", 2]]
    assert curve(found, "sam", "epoch")["mean"].tolist() == pytest.approx([0.15, 0.3])


def test_an_unknown_arm_is_refused_with_the_nearest_one(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1])
    with pytest.raises(ComparisonError, match=r"one that has a finished trial \(sam\), but got 'samm'.*sam"):
        found_in(writer, "samm")


def test_trials_of_different_data_are_not_drawn_together(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1], data_digest="a")
    run(writer, DESCENT, [0.1], data_digest="b")
    with pytest.raises(ComparisonError, match=r"lfm2k/vbpr: trials in one figure must share one data_digest"):
        found_in(writer)


@pytest.mark.parametrize("status", ["pruned", "running", "failed", "lost", None])
def test_without_a_finished_trial_there_is_nothing_to_draw(new_sweep: NewSweep, status: str | None) -> None:
    writer = new_sweep()
    if status is not None:
        run(writer, SAM, [0.1], status=status)
    with pytest.raises(ComparisonError, match="at least one trial must have finished"):
        found_in(writer)
    frames = writer.store.frame("trials", writer.name), writer.store.frame("metrics", writer.name)
    assert converge((writer.name,), *frames).arms == ()


def test_an_arm_without_a_stored_curve_is_named_in_a_note(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.2])
    writer.trial(DESCENT, None, best_score=0.3)
    found = found_in(writer)
    assert found.arms == ("sam",)
    assert any("no validation curve of descent on lfm2k/vbpr" in note for note in found.notes)


def test_values_that_are_no_numbers_and_other_metrics_are_passed_over(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    trial = run(writer, SAM, [0.1, float("nan"), 0.2], best_score=0.2)
    cost = {"gradient_evaluations": 5, "train_seconds": 1.0, "device_seconds": 1.0, "attempt": 0}
    place = {"sweep": writer.name, "trial": trial, "epoch": 2, "split": "train", "metric": GOAL}
    writer.add("metrics", [{**place, **cost, "value": 0.9}])
    name = writer.trial(DESCENT, 0.3, epochs=6)
    found = found_in(writer)
    assert curve(found, "sam", "epoch")["x"].tolist() == [1, 3]
    # The made-up trial has curves of other metrics too, with values far above the goal's.
    assert curve(found, "descent", "epoch")["high"].max() < 0.9
    assert found.runs.set_index("arm").loc["descent", "trial"] == name


def drawn(data: str) -> Mapping[str, Any]:
    figure: Mapping[str, Any] = json.loads(data)
    return figure


def test_the_figures_hold_exactly_the_numbers_of_the_frames(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 1, "seeds": [1, 2]})
    for seed in (1, 2):
        run(writer, SAM, [0.1 * seed, 0.35, 0.2, 0.4 + 0.1 * seed], seed=seed, point=POINT)
        run(writer, DESCENT, [0.123456789], seed=seed, point={"optimizer.learning_rate": 0.001})
    found = found_in(writer)
    (panels,) = convergence_section(found).panels
    assert [chart.identity.rpartition("vbpr-")[2] for chart in panels.charts] == [
        "epoch",
        "gradient-evaluations",
        "train-seconds",
    ]
    for chart, axis in zip(panels.charts, AXES, strict=True):
        traces = drawn(chart.data)["data"]
        lines = {trace["name"]: trace for trace in traces if "name" in trace}
        assert set(lines) == {"descent", "sam"}
        for arm, trace in lines.items():
            steps = curve(found, arm, axis)
            assert (trace["x"], trace["y"]) == (steps["x"].tolist(), steps["mean"].tolist())
            assert trace["line"]["shape"] == "hv"
        bands = [trace for trace in traces if "name" not in trace]
        assert [band["y"] for band in bands] == [curve(found, "sam", axis)[side].tolist() for side in ("low", "high")]


def test_long_curves_are_drawn_with_a_few_hundred_points_between_the_same_ends(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.0001 * epoch for epoch in range(1, 1001)])
    found = found_in(writer)
    trace = drawn(convergence_section(found).panels[0].charts[0].data)["data"][0]
    assert len(trace["x"]) == POINTS_SHOWN
    assert (trace["x"][0], trace["x"][-1]) == (1, 1000)
    assert set(zip(trace["x"], trace["y"], strict=True)) <= set(
        zip(curve(found, "sam", "epoch")["x"], curve(found, "sam", "epoch")["mean"], strict=True)
    )


def test_the_table_has_a_row_per_arm_and_share_with_means_and_ranges(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 1, "seeds": [1, 2]})
    run(writer, SAM, [0.1, 0.2], seed=1, point=POINT)
    run(writer, SAM, [0.1, 0.1, 0.1, 0.3], seed=2, point=POINT)
    rows = milestones_table(found_in(writer)).rows
    assert [row[4] for row in rows] == ["95\u00a0% of its best", "99\u00a0% of its best", "its best"]
    for row in rows:
        assert row[:4] == ["lfm2k/vbpr", "sam", "2", "0.2500 ± 0.0707"]
        assert row[5:] == ["3 (2 to 4)", "30 (20 to 40)", "7.5 (5 to 10)"]


def test_the_page_stands_alone_and_names_are_never_markup(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.23456], trial=EVIL, update=EVIL, model=EVIL, device=EVIL)
    page = write_convergence(found_in(writer), tmp_path / "out")
    assert [path.name for path in page.parent.iterdir()] == ["convergence.html"]
    text = page.read_text(encoding="utf-8")
    assert EVIL not in text
    own = text.split("<script>")[0]
    assert "&lt;img src=x onerror=alert(1)&gt;" in own and "0.2346" in own
    assert f"recsweep convergence {writer.name}" in own
    assert text.count("plotly.js v") == 1
    assert "script-src 'sha256-" in own.replace("&#39;", "'") and "https:" not in own


def test_the_report_of_a_sweep_has_the_same_section(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.2])
    text = write_report(writer.store, writer.name, tmp_path).read_text(encoding="utf-8")
    (chart, *_) = convergence_section(found_in(writer)).charts
    assert '<h2 id="convergence">' in text and '<a href="#convergence">' in text
    assert f'<script type="application/json" id="{chart.identity}-data">{chart.data}</script>' in text
    markdown = (tmp_path / "report.md").read_text()
    assert "## Convergence" in markdown and "| lfm2k/vbpr | sam | 1 | 0.2000 | its best | 2 | 20 | 5 |" in markdown


def test_the_command_prints_the_table_and_writes_the_page(
    new_sweep: NewSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = new_sweep()
    run(writer, SAM, [0.1, 0.2])
    run(writer, DESCENT, [0.1, 0.3])
    store = ["--store", str(writer.store.root)]
    out = tmp_path / "pages"
    assert cli.run(["convergence", writer.name, "--arms", "sam", *store, "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "sam" in printed and "descent" not in printed and f"Convergence: {out / 'convergence.html'}" in printed
    assert (out / "convergence.html").exists()
    assert cli.run(["convergence", "--arms", "adam", *store]) == 2
    assert "an arm must be one that has a finished trial" in capsys.readouterr().err


def test_notebooks_get_the_function_however_often_they_import_it() -> None:
    assert search.convergence is convergence
    from search import convergence as again

    assert again is convergence


def test_estimates_are_no_points_of_a_curve_and_a_note_says_where_it_begins(new_sweep: NewSweep) -> None:
    plain = new_sweep()
    run(plain, DESCENT, [0.1, 0.2, 0.3])
    assert not any("estimates" in note for note in found_in(plain).notes)
    writer = new_sweep(name="early", train={"max_epochs": 9, "early_validation": {"epochs": 2, "users": 5}})
    name = writer.trial(DESCENT, None, epochs=3, best_score=0.3)
    row = {"sweep": writer.name, "trial": name, "attempt": 0, "split": "valid", "device_seconds": 1.0}
    values = [(1, f"estimate/{GOAL}", 0.9), (2, f"estimate/{GOAL}", 0.8), (3, GOAL, 0.3)]
    writer.add(
        "metrics",
        [
            row
            | {"epoch": epoch, "metric": metric, "value": value}
            | {"gradient_evaluations": 10 * epoch, "train_seconds": 1.0 * epoch}
            for epoch, metric, value in values
        ],
    )
    found = found_in(writer)
    assert curve(found, "descent", "epoch")[["x", "mean"]].to_numpy().tolist() == [[3.0, 0.3]]
    assert reached(found, "descent")[0.95] == (3.0, 30.0, 3.0)
    assert any("begin at the first full validation" in note for note in found.notes)
