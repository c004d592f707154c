"""The best-configuration report of one sweep: report.html, best.yaml and report.md in one folder."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

from search import wording
from search.report.best import RULE, best_configurations, best_of_data_sets, best_sweep
from search.report.confirmed import judge
from search.report.exploration import exploration_sections
from search.report.figures import curve_charts, history_charts
from search.report.frames import Readable, SweepFrames, read_frames
from search.report.page import render_markdown, render_page, version, write_atomically
from search.report.parallel import families_left_out, parallel_charts
from search.report.protocol import files_table, protocol, provenance
from search.report.protocol_sections import convergence_sections, protocol_sections
from search.report.section import Section
from search.report.tables import best_table, confirmations_table, endings_table, errors_table, pairs_table
from search.report.verdict import verdict

BEST_FILE = "best.yaml"


def write_report(store: Readable, sweep: str, folder: str | Path) -> Path:
    """Return the path of `report.html`, written to `folder` with `report.md` and `best.yaml`; each appears whole.

    `best.yaml` repeats the best configuration; with several data sets it is that of the first one, and each has a
    `best-<data set>.yaml` of its own. None is written while no trial has finished.

    Raises:
        StoreError: the store does not hold the sweep, or the folder cannot be written to.
    """
    frames = read_frames(store, sweep)
    best = best_configurations(frames)
    target = Path(folder)
    files = best_files(frames, best)
    for name, content in files.items():
        write_atomically(target / name, content)
    convergence, explored, measured = (
        convergence_sections(frames),
        exploration_sections(frames, best),
        protocol_sections(frames),
    )
    shown = {
        **_shown(frames, best, list(files)),
        **{"convergence": convergence, "explored": explored, "measured": measured},
    }
    charts = {"history": history_charts(frames), "curves": curve_charts(frames), "parallel": parallel_charts(frames)}
    every = [
        *(chart for part in charts.values() for chart in part),
        *(chart for section in (*convergence, *explored, *measured) for chart in section.charts),
    ]
    write_atomically(target / "report.md", render_markdown("report.md.j2", **shown))
    page = render_page(
        "sweep.html.j2",
        every,
        title=f"{sweep}: best configurations",
        sections=_sections({**shown, **charts}, explored, measured),
        parallel_left_out=families_left_out(frames),
        **charts,
        **shown,
    )
    write_atomically(target / "report.html", page)
    if not files:
        # One from an earlier report into this folder would pass for this one's.
        (target / BEST_FILE).unlink(missing_ok=True)
    return target / "report.html"


def best_files(frames: SweepFrames, best: pd.DataFrame) -> dict[str, str]:
    """Return the text of best.yaml, and of one file per data set where there are several; empty without a winner."""
    winners = best_of_data_sets(frames, best)
    texts = {name: yaml.safe_dump(best_sweep(frames, row), sort_keys=False) for name, row in winners.items()}
    first = dict(zip([BEST_FILE], texts.values(), strict=False))
    if len(texts) < 2:
        return first
    return first | {f"best-{_file_safe(name)}.yaml": text for name, text in texts.items()}


def _shown(frames: SweepFrames, best: pd.DataFrame, files: list[str]) -> dict[str, object]:
    confirmed = judge(frames)
    return {
        "name": frames.name,
        "metric": frames.metric,
        "mode": frames.mode,
        "written": wording.moment(datetime.now(UTC)),
        "version": version(),
        "verdict": verdict(frames, best),
        "best": best_table(frames, best),
        "best_files": files,
        "rule": RULE,
        "candidates": _candidates(best),
        "endings": endings_table(frames),
        "errors": errors_table(frames),
        "confirmations": confirmations_table(frames),
        "pairs": pairs_table(confirmed),
        "confirmed": [*(pair.sentence for pair in confirmed.pairs), *confirmed.notes],
        "claims": [claim.sentence for claim in confirmed.claims],
        "protocol": protocol(frames),
        "provenance": provenance(frames),
        "files": files_table(frames),
        "specification": yaml.safe_dump(json.loads(json.dumps(frames.spec)), sort_keys=False),
    }


def _candidates(best: pd.DataFrame) -> str:
    candidates, trials = int(best["candidates"].sum()), int(best["evaluated"].sum())
    cells = wording.plural(len(best), "cell")
    return f"{wording.plural(candidates, 'candidate')} in {cells}, from {wording.plural(trials, 'trial')}."


def _sections(
    shown: Mapping[str, object], explored: Sequence[Section], measured: Sequence[Section]
) -> list[tuple[str, str]]:
    headings = {**_HEADINGS, **_named(explored), **_OUTCOMES, **_named(measured), **_LAST_HEADINGS}
    optional = {
        "history": shown["history"],
        "curves": shown["curves"],
        "convergence": shown["convergence"],
        "parameters": shown["parallel"],
        "endings": getattr(shown["endings"], "rows", ()),
        "confirmations": getattr(shown["confirmations"], "rows", ()),
    }
    return [(key, heading) for key, heading in headings.items() if key not in optional or optional[key]]


def _named(sections: Sequence[Section]) -> dict[str, str]:
    return {section.identity: section.heading for section in sections}


_HEADINGS = {
    "best": "Best configurations",
    "rule": "Selection rule",
    "history": "Cost",
    "curves": "Learning curves",
    "convergence": "Convergence",
    "parameters": "Tuned parameters",
}
_OUTCOMES = {
    "endings": "Failures",
    "confirmations": "Confirmations",
}
_LAST_HEADINGS = {
    "protocol": "Protocol",
    "provenance": "Provenance",
}


def _file_safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
