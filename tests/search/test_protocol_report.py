"""What a sweep's report shows of the protocols: there only with rows, numbers as stored, nothing read as markup."""

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.protocol_tables import robustness_table
from search.report import write_report
from search.report.frames import SweepFrames, read_frames
from search.report.generalisation_section import VIOLIN_FROM, generalisation_section, paired_differences
from search.report.landscape_section import landscape_section
from search.report.page import MAX_BYTES
from search.report.protocol_sections import protocol_sections
from search.report.robustness_section import decrease, robustness_section
from search.report.section import Section

NewSweep = Callable[..., Any]
GOAL = "recall@20"
CELLS = ("lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam")
DESCENT, SAM = CELLS
EVIL = "<script>alert('x')</script>"

LEVELS = {
    ("gaussian", "train_test"): [("0.01", 0.01), ("0.05", 0.05)],
    ("raw_features", "test"): [("L1", 1e-3), ("L2", 3e-3), ("L3", 1e-2)],
    ("information_adjustment", "test"): [("5%", 0.05)],
}


def row(trial: pd.Series, protocol: str, subject: str, value: float, **columns: Any) -> dict[str, Any]:
    """Return a row of the table `protocols` about this trial."""
    return {
        **{"sweep": trial["sweep"], "trial": trial["trial"], "cell": trial["cell"], "protocol": protocol},
        **{"settings": "5e77", "seed": 999, "split_seed": None, "subject": subject, "phase": "", "level": ""},
        **{"severity": None, "draw": 0, "point": 0, "x": None, "y": None, "split": "valid", "metric": GOAL},
        **{"value": float(value), "gradient_evaluations": 100, "train_seconds": 2.0},
        **columns,
    }


def robustness_rows(
    trial: pd.Series, clean: float, loss: float, seeds: tuple[int, ...] = (1, 2)
) -> list[dict[str, Any]]:
    """Return scores that fall from `clean` by the share `loss` a level, give or take, with ratios to the noise."""
    rng = np.random.default_rng(int(1000 * clean))
    rows = []
    for seed in seeds:
        own = clean + 0.003 * rng.normal()
        rows.append(row(trial, "robustness", "clean", own, seed=seed))
        for (subject, phase), levels in LEVELS.items():
            for place, (level, severity) in enumerate(levels, 1):
                for draw in range(3 if phase == "test" else 1):
                    value = own * (1 - loss * place) + 0.001 * rng.normal()
                    at = {"seed": seed, "phase": phase, "level": level, "severity": severity, "draw": draw}
                    rows.append(row(trial, "robustness", subject, value, **at))
                    rows.append(row(trial, "robustness", subject, 0.05 / severity, **at, metric="snr/text"))
    return rows


def generalisation_rows(trial: pd.Series, score: float, runs: int = 10) -> list[dict[str, Any]]:
    """Return one run per seed, from 996 on, that shares its luck with the same seed's runs of other trials."""
    luck = np.random.default_rng(3).normal(size=runs)
    own = np.random.default_rng(int(1000 * score)).normal(size=runs)
    return [
        row(trial, "generalisation", "both", score + 0.01 * luck[at] + 0.002 * own[at], seed=seed, split_seed=seed)
        for at, seed in enumerate(range(996, 996 + runs))
    ]


def landscape_rows(trial: pd.Series, steepness: float, seeds: tuple[int, ...] = (1, 2)) -> list[dict[str, Any]]:
    """Return a bowl over 5 x 5 points and the sharpness scalars, per seed."""
    axis = np.linspace(-1, 1, 5)
    points = [(x, y) for y in axis for x in axis]
    rows = []
    for seed in seeds:
        common = {"seed": seed, "split": "train"}
        for at, (x, y) in enumerate(points):
            loss = 0.1 * seed + steepness * (x * x + 0.5 * y * y)
            place = {"point": at, "x": float(x), "y": float(y), "metric": "loss"}
            rows.append(row(trial, "landscape", "filter_norm", loss, **common, **place))
        for level, radius in (("0.05", 0.05), ("0.1", 0.1)):
            at_level = {"level": level, "severity": radius, "metric": "value"}
            rows.append(row(trial, "landscape", "ascent_sharpness", steepness * radius, **common, **at_level))
        rows.append(row(trial, "landscape", "hessian_eigenvalue", 2 * steepness, **common, metric="value"))
        rows.append(row(trial, "landscape", "hessian_eigenvalue", 77777.0, **common, metric="iterations"))
    return rows


def protocol_rows(writer: Any) -> list[dict[str, Any]]:
    """Return all three protocols of every trial of the sweep; SAM's clean score is worse, and it loses less."""
    rows = []
    for _, trial in writer.store.frame("trials", writer.name).iterrows():
        flat = trial["update"] == "sam"
        rows += robustness_rows(trial, 0.2 if flat else 0.3, 0.02 if flat else 0.08)
        rows += generalisation_rows(trial, 0.21 if flat else 0.2)
        rows += landscape_rows(trial, 1.0 if flat else 3.0)
    return rows


@pytest.fixture
def measured(new_sweep: NewSweep) -> Any:
    """Return a sweep with one trial of descent and one of SAM, both measured by all protocols."""
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.25)
    writer.add("protocols", protocol_rows(writer))
    return writer


def frames_of(writer: Any) -> SweepFrames:
    return read_frames(writer.store, writer.name)


def section(writer: Any, make: Callable[[SweepFrames], Section | None]) -> Section:
    found = make(frames_of(writer))
    assert found is not None
    return found


def trace(section: Section, end: str, name: str) -> dict[str, Any]:
    """Return the named trace of the one chart whose id ends so."""
    (chart,) = [chart for chart in section.charts if chart.identity.endswith(end)]
    (found,) = [trace for trace in json.loads(chart.data)["data"] if trace.get("name") == name]
    return dict(found)


def values(rows: list[dict[str, Any]], **columns: Any) -> np.ndarray[Any, Any]:
    chosen = [each for each in rows if all(each[name] == value for name, value in columns.items())]
    return np.array([each["value"] for each in chosen])


def test_sections_are_there_only_where_the_store_has_rows_for_them(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.25)
    page = write_report(writer.store, writer.name, tmp_path).read_text()
    markdown = (tmp_path / "report.md").read_text()
    known = {"robustness": "Robustness", "generalisation": "Generalisation over seeds", "landscape": "Loss landscape"}
    for identity, heading in known.items():
        assert f'"{identity}"' not in page and f"#{identity}" not in page and f"## {heading}" not in markdown
    written: set[str] = set()
    for protocol in ("landscape", "robustness", "generalisation"):
        writer.add("protocols", [each for each in protocol_rows(writer) if each["protocol"] == protocol])
        written.add(protocol)
        page = write_report(writer.store, writer.name, tmp_path).read_text()
        markdown = (tmp_path / "report.md").read_text()
        headings = re.findall(r'<h2 id="(\w+)">', page)
        assert headings[-2 - len(written) :] == [*(each for each in known if each in written), "protocol", "provenance"]
        for identity, heading in known.items():
            assert (f'<a href="#{identity}">{heading}</a>' in page) == (identity in written)
            assert (f"## {heading}\n" in markdown) == (identity in written)


def test_rows_of_another_metric_or_sweep_make_no_section(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    rows = [each for each in protocol_rows(writer) if each["protocol"] != "landscape"]
    writer.add("protocols", [{**each, "metric": "ndcg@20"} for each in rows])
    writer.add("protocols", [{**each, "sweep": "another"} for each in rows])
    assert protocol_sections(frames_of(writer)) == []


def test_robustness_draws_scores_and_decreases_as_they_follow_from_the_rows(measured: Any) -> None:
    rows = protocol_rows(measured)
    found = section(measured, robustness_section)
    trials = frames_of(measured).trials.set_index("arm")["trial"]
    for arm, trial in trials.items():
        clean = values(rows, trial=trial, subject="clean").mean()
        for (subject, phase), levels in LEVELS.items():
            noisy = [values(rows, trial=trial, subject=subject, level=level, metric=GOAL) for level, _ in levels]
            name = f"{subject.replace('_', '-')}-{phase.replace('_', '-')}"
            score = trace(found, f"{name}-score", str(arm))
            means = [each.mean() for each in noisy]
            assert score["y"] == pytest.approx([clean, *means], rel=1e-12)
            assert score["error_y"]["array"] == [None, *(pytest.approx(each.std(ddof=1)) for each in noisy)]
            share = trace(found, f"{name}-decrease", str(arm))
            assert share["y"] == pytest.approx([100 * (clean - mean) / clean for mean in means], rel=1e-9)


def test_robustness_figures_and_table_agree_with_the_protocols_own_table(measured: Any) -> None:
    frames = frames_of(measured)
    table = robustness_table(frames.protocols, GOAL).set_index(["cell", "subject", "level"])
    found = section(measured, robustness_section)
    shown = {(cells[0], cells[2], cells[3]): cells for cells in found.tables[0].rows}
    assert len(shown) == len(table) == 12
    cells = shown["noise on the features", "L2", "sam"]
    expected = table.loc[SAM, "raw_features", "L2"]
    assert cells[4] == f"{expected['clean']:.4f}"
    deviation = expected["noisy_deviation"]
    assert cells[5] == f"{expected['noisy']:.4f} ± {deviation:{'.4f' if deviation >= 0.001 else '.3g'}}"
    assert cells[6:] == [f"{100 * expected['decrease']:.1f}\u00a0%", "text 16.7", "2 × 3"]
    assert trace(found, "raw-features-test-score", "sam")["y"][2] == expected["noisy"]


def test_arms_at_one_level_stand_apart_and_levels_in_their_order(measured: Any) -> None:
    found = section(measured, robustness_section)
    places = {arm: trace(found, "raw-features-test-score", arm)["x"] for arm in ("descent", "sam")}
    assert [round(x) for x in places["sam"]] == [round(x) for x in places["descent"]] == [0, 1, 2, 3]
    assert not set(places["sam"]) & set(places["descent"])
    (chart,) = [chart for chart in found.charts if chart.identity.endswith("raw-features-test-score")]
    assert json.loads(chart.data)["layout"]["xaxis"]["ticktext"] == ["clean", "L1", "L2", "L3"]


def test_it_is_said_where_the_smallest_decrease_is_not_the_best_score(measured: Any) -> None:
    found = section(measured, robustness_section)
    assert len(found.findings) == 3
    assert "level L3: sam loses the smallest share" in found.findings[1]
    assert "but descent keeps the better score" in found.findings[1]
    assert any("win it by a worse clean score" in sentence for sentence in found.sentences)
    marked = [found.tables[0].rows[place] for place in sorted(found.tables[0].marked)]
    assert len(marked) == 6 and {cells[3] for cells in marked} == {"descent"}


def test_nothing_is_said_where_one_arm_is_best_in_both(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.25)
    for _, trial in writer.store.frame("trials", writer.name).iterrows():
        writer.add("protocols", robustness_rows(trial, 0.3, 0.08 if trial["update"] == "sam" else 0.02))
    assert section(writer, robustness_section).findings == []


def test_levels_of_one_name_and_different_severity_are_kept_apart(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25)
    (_, trial), *_ = writer.store.frame("trials", writer.name).iterrows()
    first, second = robustness_rows(trial, 0.3, 0.02, seeds=(1,)), robustness_rows(trial, 0.3, 0.02, seeds=(2,))
    writer.add("protocols", first)
    writer.add("protocols", [{**each, "severity": each["severity"] and 2 * each["severity"]} for each in second])
    levels = [cells[2] for cells in section(writer, robustness_section).tables[0].rows]
    assert "L1 (0.001)" in levels and "L1 (0.002)" in levels and len(levels) == 12


def test_a_single_draw_has_a_mean_and_no_bar(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25)
    (_, trial), *_ = writer.store.frame("trials", writer.name).iterrows()
    writer.add("protocols", robustness_rows(trial, 0.3, 0.02, seeds=(1,)))
    found = section(writer, robustness_section)
    assert trace(found, "gaussian-train-test-score", "sam")["error_y"]["array"] == [None, None, None]
    assert "±" not in found.tables[0].rows[0][5]


@pytest.mark.parametrize(("value", "text"), [(0.0456, "4.6\u00a0%"), (-0.012, "−1.2\u00a0%"), (-0.0001, "0.0\u00a0%")])
def test_a_decrease_below_zero_has_a_minus_unless_it_reads_as_zero(value: float, text: str) -> None:
    assert decrease(value) == text


def test_violins_hold_every_run_and_the_table_every_paired_difference(measured: Any) -> None:
    rows = protocol_rows(measured)
    found = section(measured, generalisation_section)
    trials = frames_of(measured).trials.set_index("arm")["trial"]
    runs = {arm: values(rows, trial=trial, protocol="generalisation") for arm, trial in trials.items()}
    for arm, scores in runs.items():
        drawn = trace(found, "both-violins", str(arm))
        assert drawn["type"] == "violin" and drawn["x"] == scores.tolist()
        assert drawn["text"] == [f"seed {seed}, split {seed}" for seed in range(996, 1006)]
    spread, by_seed = found.tables
    sam = dict(zip([column.title for column in spread.columns], spread.rows[1], strict=True))
    gaps = runs["sam"] - runs["descent"]
    assert sam["arm"] == "sam" and sam["runs"] == sam["pairs"] == "10"
    assert sam[GOAL] == f"{runs['sam'].mean():.4f} ± {runs['sam'].std(ddof=1):.4f}"
    assert sam["range"] == f"{runs['sam'].min():.4f} to {runs['sam'].max():.4f}"
    assert sam["CV"] == f"{100 * runs['sam'].std(ddof=1) / runs['sam'].mean():.1f}\u00a0%"
    assert sam["difference to descent"] == f"+{gaps.mean():.4f} ± {gaps.std(ddof=1):.4f}"
    signed = [f"{'+' if gap >= 0 else '−'}{abs(gap):.4f}" for gap in (gaps.min(), gaps.max())]
    assert sam["range of differences"] == f"{signed[0]} to {signed[1]}"
    assert by_seed.rows[0] == ["996", "996", f"{runs['descent'][0]:.4f}", f"{runs['sam'][0]:.4f}"]
    assert len(by_seed.rows) == 10


def test_only_runs_that_both_have_are_paired(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.25)
    rows = [each for each in protocol_rows(writer) if each["protocol"] == "generalisation"]
    lost = {(DESCENT, 996), (SAM, 1005)}
    writer.add("protocols", [each for each in rows if (each["cell"], each["seed"]) not in lost])
    frames = frames_of(writer)
    gaps = paired_differences(frames.protocols, SAM, DESCENT, "both")
    expected = values(rows, cell=SAM)[1:-1] - values(rows, cell=DESCENT)[1:-1]
    assert gaps.tolist() == pytest.approx(expected.tolist(), abs=1e-15)
    spread, by_seed = section(writer, generalisation_section).tables
    assert [cells[2] for cells in spread.rows] == ["9", "9"] and spread.rows[1][7] == "8"
    assert by_seed.rows[0][2] == "–" and by_seed.rows[-1][3] == "–"


def test_a_given_split_has_no_seed_and_few_runs_have_no_density(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25)
    (_, trial), *_ = writer.store.frame("trials", writer.name).iterrows()
    rows = [{**each, "subject": "init", "split_seed": None} for each in generalisation_rows(trial, 0.3)]
    writer.add("protocols", rows[: VIOLIN_FROM - 1])
    found = section(writer, generalisation_section)
    drawn = trace(found, "init-violins", "sam")
    assert drawn["type"] == "scatter" and len(drawn["x"]) == VIOLIN_FROM - 1 and drawn["text"][0] == "seed 996"
    assert [cells[1] for cells in found.tables[1].rows] == ["–"] * (VIOLIN_FROM - 1)
    assert "points only" in found.panels[0].caption


def test_landscapes_are_means_over_seeds_in_common_colours(measured: Any) -> None:
    rows = protocol_rows(measured)
    found = section(measured, landscape_section)
    maps = [json.loads(chart.data)["data"][0] for chart in found.charts]
    assert [chart.title for chart in found.charts] == ["descent", "sam"] and len(found.panels) == 1
    for each, cell in zip(maps, CELLS, strict=True):
        assert each["type"] == "contour"
        assert each["x"] == each["y"] == [-1, -0.5, 0, 0.5, 1]
        by_seed = [values(rows, cell=cell, subject="filter_norm", seed=seed).reshape(5, 5) for seed in (1, 2)]
        assert np.array(each["customdata"]) == pytest.approx(np.mean(by_seed, axis=0), abs=1e-12)
        # Steep against flat spans more than a factor of 20 here, so colours go by the logarithm.
        assert np.array(each["z"]) == pytest.approx(np.log10(np.mean(by_seed, axis=0)), abs=6e-5)
    assert len({(each["zmin"], each["zmax"], json.dumps(each["contours"])) for each in maps}) == 1
    assert (10 ** maps[0]["zmin"], 10 ** maps[0]["zmax"]) == pytest.approx((0.15, 4.65), rel=2e-4)
    assert found.panels[0].scale is not None and found.panels[0].scale.ticks[::2] == ["0.15", "4.65"]


def test_colours_are_linear_where_losses_are_alike(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25)
    (_, trial), *_ = writer.store.frame("trials", writer.name).iterrows()
    writer.add("protocols", landscape_rows(trial, 0.5))
    drawn = json.loads(section(writer, landscape_section).charts[0].data)["data"][0]
    rows = landscape_rows(trial, 0.5)
    by_seed = [values(rows, subject="filter_norm", seed=seed).reshape(5, 5) for seed in (1, 2)]
    assert np.array(drawn["z"]) == pytest.approx(np.mean(by_seed, axis=0), abs=1e-12)
    assert "%{z" in drawn["hovertemplate"]


def test_a_point_that_one_seed_lacks_stays_empty(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25)
    (_, trial), *_ = writer.store.frame("trials", writer.name).iterrows()
    rows = landscape_rows(trial, 0.5)
    lost = next(each for each in rows if each["seed"] == 2 and each["point"] == 7)
    overflow = next(each for each in rows if each["seed"] == 1 and each["point"] == 8)
    overflow["value"] = float("inf")
    writer.add("protocols", [each for each in rows if each is not lost])
    found = section(writer, landscape_section)
    z = json.loads(found.charts[0].data)["data"][0]["z"]
    assert [(y, x) for y in range(5) for x in range(5) if z[y][x] is None] == [(1, 2), (1, 3)]
    assert found.tables[0].rows[0][4] == "23"


def test_a_landscape_along_one_direction_is_a_line_per_arm(measured: Any, new_sweep: NewSweep) -> None:
    writer = new_sweep(name="line")
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.25)
    rows = [each for each in protocol_rows(writer) if each["subject"] == "filter_norm" and each["y"] == 0]
    writer.add("protocols", [{**each, "y": None} for each in rows])
    found = section(writer, landscape_section)
    for arm, cell in zip(("descent", "sam"), CELLS, strict=True):
        drawn = trace(found, "filter-norm-line", arm)
        expected = np.mean([values(rows, cell=cell, seed=seed) for seed in (1, 2)], axis=0)
        assert drawn["x"] == [-1, -0.5, 0, 0.5, 1] and drawn["y"] == pytest.approx(expected.tolist())
    assert found.panels[0].scale is None


def test_the_scalars_are_the_sharpness_and_not_how_it_was_found(measured: Any) -> None:
    grids, scalars = section(measured, landscape_section).tables
    assert grids.rows[0] == ["lfm2k, vbpr", "filter_norm", "descent", "2", "25", "0.15", "0.15", "4.65", "2.25"]
    shown = {(cells[1], cells[2], cells[3]): cells[5] for cells in scalars.rows}
    assert shown == {
        ("rise along the gradient (radius ρ)", "0.05", "descent"): "0.15",
        ("rise along the gradient (radius ρ)", "0.05", "sam"): "0.05",
        ("rise along the gradient (radius ρ)", "0.1", "descent"): "0.3",
        ("rise along the gradient (radius ρ)", "0.1", "sam"): "0.1",
        ("largest eigenvalue of the Hessian", "–", "descent"): "6",
        ("largest eigenvalue of the Hessian", "–", "sam"): "2",
    }


def test_only_the_trial_measured_last_is_shown_and_a_newer_best_is_named(measured: Any) -> None:
    newer = measured.trial(DESCENT, 0.4)
    for found in protocol_sections(frames_of(measured)):
        assert any(f"since then {newer} has become" in sentence for sentence in found.sentences)
    trial = measured.store.frame("trials", measured.name).set_index("trial", drop=False).loc[newer]
    rows = generalisation_rows(trial, 0.4)
    measured.add("protocols", rows)
    found = section(measured, generalisation_section)
    assert trace(found, "both-violins", "descent")["x"] == [each["value"] for each in rows]
    assert not any("since then" in sentence for sentence in found.sentences)


def test_names_are_never_markup(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25, trial=EVIL, dataset=EVIL, model=EVIL, update=f"{EVIL}|`x`")
    writer.trial(DESCENT, 0.3, dataset=EVIL, model=EVIL)
    rows = [
        {**each, "level": EVIL if each["level"] else "", "phase": EVIL if each["phase"] else ""}
        for each in protocol_rows(writer)
    ]
    writer.add(
        "protocols", [{**each, "subject": EVIL if each["subject"] == "gaussian" else each["subject"]} for each in rows]
    )
    text = write_report(writer.store, writer.name, tmp_path).read_text(encoding="utf-8")
    assert 'id="robustness"' in text and 'id="generalisation"' in text and 'id="landscape"' in text
    assert EVIL not in text and EVIL in unescape(text)
    data = "".join(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL))
    assert data and "<" not in data
    # Plotly reads markup in labels, so what it is given is escaped once more.
    read = data.replace("\\u003c", "<")
    assert "&lt;script&gt;" in read and "<script" not in read
    assert "<script" not in (tmp_path / "report.md").read_text()


def _markdown_tables(text: str) -> Iterator[list[str]]:
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield block.splitlines()


def test_the_markdown_has_every_table_whole_and_every_sentence(measured: Any, tmp_path: Path) -> None:
    write_report(measured.store, measured.name, tmp_path)
    text = (tmp_path / "report.md").read_text()
    tables = list(_markdown_tables(text))
    for found in protocol_sections(frames_of(measured)):
        for sentence in found.findings:
            assert f"- {' '.join(sentence.split())}\n" in text
        for table in found.tables:
            rows = [f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |" for cells in table.rows]
            assert rows in [lines[2:] for lines in tables]
    assert "\n\n\n\n" not in text


def test_every_figure_has_an_id_of_its_own_and_stands_in_the_page_once(measured: Any, tmp_path: Path) -> None:
    text = write_report(measured.store, measured.name, tmp_path).read_text()
    identities = re.findall(r'<div class="plot" id="([^"]+)"', text)
    assert len(identities) == len(set(identities))
    for found in protocol_sections(frames_of(measured)):
        for chart in found.charts:
            assert text.count(f'<script type="application/json" id="{chart.identity}-data">{chart.data}</script>') == 1
    assert len(text.encode()) < MAX_BYTES
