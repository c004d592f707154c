"""Slices, importances, score against cost, timeline: right against brute force, and silent where they must be."""

import json
import shlex
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from search.report.best import best_configurations
from search.report.exploration import exploration_sections
from search.report.frames import SweepFrames, read_frames
from search.report.importance_section import importance_section
from search.report.pareto_section import front_mask, pareto_section
from search.report.searched import searched
from search.report.section import Section, query
from search.report.slices_section import edge, logarithmic, slices_section
from search.report.timeline import bars, lanes
from search.report.timeline_section import timeline_section
from spaces.params import Choice, Float, Int

NewSweep = Callable[..., Any]
DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"


def read(writer: Any) -> SweepFrames:
    return read_frames(writer.store, writer.name)


def slices(frames: SweepFrames) -> Section | None:
    return slices_section(frames, best_configurations(frames), searched(frames))


def drawn(section: Section, identity: str) -> dict[str, Any]:
    """Return a figure as plotly gets it."""
    data: dict[str, Any] = json.loads(next(chart.data for chart in section.charts if chart.identity == identity))
    return data


@pytest.fixture(scope="module")
def full(full_sweep: Any) -> SweepFrames:
    """Return the frames of the full sweep."""
    return read(full_sweep)


@pytest.mark.parametrize("larger", [True, False])
def test_the_front_is_whom_no_other_beats_in_score_or_cost(larger: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        costs = rng.integers(1, 9, 30).astype(np.float64)
        scores = rng.integers(1, 9, 30).astype(np.float64)
        values = scores if larger else -scores
        expected = [
            not any(
                values[other] >= values[mine]
                and costs[other] <= costs[mine]
                and (values[other] > values[mine] or costs[other] < costs[mine])
                for other in range(30)
            )
            for mine in range(30)
        ]
        assert front_mask(costs, scores, better_is_larger=larger).tolist() == expected
    assert front_mask(np.array([]), np.array([]), better_is_larger=larger).tolist() == []


def test_only_finished_trials_are_on_a_front_and_each_stands_in_the_table(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    cheap = writer.trial(SAM, 0.2, epochs=5)
    dear = writer.trial(DESCENT, 0.3, epochs=20)
    writer.trial(SAM, 0.19, epochs=10)
    writer.trial(SAM, 0.9, epochs=1, status="pruned")
    section = pareto_section(read(writer))
    assert section is not None
    assert [row[1] for row in section.tables[0].rows] == [cheap, dear]
    assert {row[3] for row in section.tables[0].rows} == {"gradient evaluations and device time"}
    front, *dots = drawn(section, "pareto-lfm2k--vbpr-gradient-evaluations")["data"]
    assert (front["x"], front["y"]) == ([500, 2000], [0.2, 0.3])
    assert [trace["marker"]["symbol"] for trace in dots] == ["circle-open", "circle", "circle"]


def test_a_cost_that_nobody_measured_has_no_figure(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.2, device_seconds=None)
    section = pareto_section(read(writer))
    assert section is not None and len(section.charts) == 1
    writer = new_sweep(name="unmeasured")
    writer.trial(SAM, 0.2, device_seconds=None, gradient_evaluations=None)
    assert pareto_section(read(writer)) is None


def test_no_two_spans_share_a_lane_and_no_lane_is_wasted() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        begins = np.sort(rng.integers(0, 50, 30)).tolist()
        ends = [begin + int(length) for begin, length in zip(begins, rng.integers(1, 20, 30), strict=True)]
        found = lanes(begins, ends)
        for mine in range(30):
            for other in range(mine):
                if found[mine] == found[other]:
                    assert ends[other] <= begins[mine]
        at_once = max(sum(begins[i] <= moment < ends[i] for i in range(30)) for moment in begins)
        assert max(found) + 1 == at_once


def test_every_attempt_has_a_bar_and_a_running_one_lasts_until_it_was_last_heard_of(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    name = writer.trial(SAM, None, status="lost", epochs=1, attempt=1)
    begin = writer.clock
    config = json.loads(read(writer).trials["config_json"].iloc[0])
    lost = next(row for row in writer.store.table("trials", writer.name).to_pylist())
    again = {**{key: value for key, value in lost.items() if key != "written"}, "attempt": 2, "status": "running"}
    writer.add("trials", [{**again, "started": begin, "ended": None}])
    frames = read(writer)
    rows = bars(frames)
    assert config["update.name"] == "sam"
    assert rows["trial"].tolist() == [name, name] and rows["start"].tolist() == [1, 2]
    assert rows["end"].iloc[1] == frames.attempts.sort_values("started")["written"].iloc[1]
    section = timeline_section(frames)
    assert section is not None and "1 trial began more than once; every start has a bar." in section.sentences


def test_the_timeline_has_one_trace_per_ending_whatever_the_number_of_trials(full: SweepFrames) -> None:
    section = timeline_section(full)
    assert section is not None
    traces = drawn(section, "timeline-bars")["data"]
    assert [len(trace["x"]) / 3 for trace in traces] == [180, 30, 10, 1, 1]
    assert sum(trace["x"].count(None) for trace in traces) == 222
    (row,) = section.tables[0].rows
    assert (row[0], row[5], row[6:]) == ("trainer-1", "222", ["180", "30", "10", "1", "1"])


def test_what_happened_to_the_sweep_is_marked_and_told(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.2)
    event = {"sweep": writer.name, "at": writer.clock + timedelta(seconds=5), "kind": "budget", "text": "spent <all>"}
    writer.add("events", [event])
    section = timeline_section(read(writer))
    assert section is not None
    assert list(section.tables[1].rows[0][1:]) == ["budget", "spent <all>", "–"]
    figure = drawn(section, "timeline-bars")
    assert figure["data"][-1]["text"] == ["budget: spent &lt;all&gt;"]
    assert len(figure["layout"]["shapes"]) == 1


def test_a_slice_shows_finished_trials_filled_and_pruned_ones_hollow(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for rate, status in ((1e-3, "finished"), (2e-3, "pruned"), (3e-3, "diverged")):
        writer.trial(SAM, 0.2, status=status, point={"optimizer.learning_rate": rate})
    section = slices(read(writer))
    assert section is not None
    figure = drawn(section, "slice-lfm2k-vbpr-optimizer-learning-rate")
    shown = [(trace["marker"]["symbol"], trace["x"]) for trace in figure["data"]]
    assert shown == [("circle-open", [2e-3]), ("circle", [1e-3])]
    assert figure["layout"]["xaxis"]["type"] == "log"
    low, high = figure["layout"]["xaxis"]["range"]
    assert low < -4 and high > -2, "the axis must show all of what was searched, 1e-4 to 1e-2"


def test_an_axis_is_logarithmic_as_it_was_searched_else_by_its_spread() -> None:
    assert logarithmic([0.1, 0.2], [Float(low=0.1, high=0.2, log=True)])
    assert not logarithmic([0.001, 0.9], [Float(low=0.001, high=1.0)])
    assert logarithmic([1, 100], [Choice(values=(1, 100))]) and not logarithmic([1, 40], [Choice(values=(1, 40))])
    assert logarithmic([1, 100], []) and not logarithmic([0, 100], [])


def test_the_table_says_where_in_its_range_the_best_value_lies() -> None:
    rate = Float(low=1e-4, high=1e-2, log=True)
    assert [edge(rate, value) for value in (1.2e-4, 1e-3, 9e-3)] == ["at the lower end", "inside", "at the upper end"]
    assert edge(Int(low=1, high=8), 8.0) == "at the upper end"
    assert edge(Choice(values=(1, 2, 4)), 4.0) == "at the upper end" and edge(Choice(values=(1, 2, 4)), 2.0) == "inside"
    assert edge(Choice(values=(1, 2)), 2.0) == edge(Choice(values=("a", "b", "c")), "c") == edge(None, 1.0) == "–"


def test_importances_find_what_the_sample_was_made_of(full: SweepFrames) -> None:
    section = importance_section(full, searched(full))
    assert section is not None
    rows = [row for row in section.tables[0].rows if row[:2] == ["lfm2k, vbpr", "sam"]]
    assert [row[2] for row in rows] == ["optimizer.learning_rate", "update.rho"]
    assert float(rows[0][3].split()[0]) + float(rows[1][3].split()[0]) == pytest.approx(100, abs=0.11)
    assert rows[0][5] == "6 of 18"
    # Plain descent tunes its learning rate only.
    assert any("there is nothing to share: lfm2k/vbpr/plain/descent/adam" in text for text in section.sentences)


def test_too_few_trials_are_said_to_be_too_few(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for place in range(15):
        writer.trial(SAM, 0.2 + 0.01 * place)
    frames = read(writer)
    section = importance_section(frames, searched(frames))
    assert section is not None and not section.tables and not section.charts
    assert f"Too few trials, at the most 15 finished configurations: {SAM}." in section.sentences


def test_a_grid_that_was_tried_whole_is_held_against_the_space(new_sweep: NewSweep) -> None:
    axes = {"model": ["vbpr"], "update": ["sam"]}
    narrow = {
        "optimizer.learning_rate": {"kind": "choice", "values": [0.0001, 0.001, 0.002, 0.01]},
        "update.rho": {"kind": "choice", "values": [0.05, 0.1, 0.2, 0.4]},
    }
    space = {"preset": "extended", "tune": ["update", "optimizer"], "narrow": narrow}
    writer = new_sweep(axes=axes, space=space, search={"sampler": "grid", "trials": 16})
    for point in writer.studies[SAM].space.grid():
        writer.trial(SAM, 100 * float(point["optimizer.learning_rate"]) - float(point["update.rho"]), point=point)
    frames = read(writer)
    section = importance_section(frames, searched(frames))
    assert section is not None
    assert {row[6] for row in section.tables[0].rows} == {"the whole grid"}
    assert section.tables[0].rows[0][2] == "optimizer.learning_rate"


def test_a_specification_that_cannot_be_read_costs_the_importances_only(new_sweep: NewSweep) -> None:
    writer = new_sweep(stored={"search": {"sampler": "of a later version", "trials": 1, "seeds": [1]}})
    for place in range(20):
        writer.trial(SAM, 0.2 + 0.01 * place)
    frames = read(writer)
    sections = {each.identity: each for each in exploration_sections(frames, best_configurations(frames))}
    assert list(sections) == ["slices", "importances", "pareto", "timeline"]
    assert "cannot read the stored specification" in sections["importances"].sentences[-1]
    assert {row[3] for row in sections["slices"].tables[0].rows} == {"–"}


def test_a_sweep_without_trials_has_nothing_to_explore(new_sweep: NewSweep) -> None:
    frames = read(new_sweep())
    assert exploration_sections(frames, best_configurations(frames)) == []


def test_a_command_for_a_query_reaches_the_shell_as_one_statement() -> None:
    for name in ("a-1", "it's", "$(touch x)", 'a"b', "`x`"):
        _, _, statement = shlex.split(query("trials_all", name))
        assert statement == "select * from trials_all where sweep = '{}'".format(name.replace("'", "''"))
        assert query("trials_all", name).startswith("recsweep query '") == any(mark in name for mark in '"$`')
