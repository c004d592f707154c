"""One page over all sweeps of a store, newest first, with links to the reports that lie below the page's folder."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from search import wording
from search.report.best import best_configurations, best_of_data_sets
from search.report.frames import Readable, SweepFrames, outlines
from search.report.page import render_page, version, write_atomically
from search.report.tables import ENDINGS, Column, Table

INDEX_FILE = "index.html"
REPORT_FILE = "report.html"


def write_index(store: Readable, folder: str | Path) -> Path:
    """Return the path of `index.html`, written to `folder`; it appears whole or not at all.

    A sweep leads to its report where `folder` has it, as SWEEP/report.html.

    Raises:
        StoreError: the folder cannot be written to.
    """
    sweeps = outlines(store)
    table = index_table(sweeps, reports_below(Path(folder), [sweep.name for sweep in sweeps]))
    missing = len(sweeps) - len(table.links)
    page = render_page(
        "index.html.j2",
        [],
        title="Sweeps",
        table=table,
        summary=_summary(sweeps),
        missing=f"Of {wording.plural(missing, 'sweep')} no report lies below this page's folder." if missing else "",
        written=wording.moment(datetime.now(UTC)),
        version=version(),
    )
    target = Path(folder) / INDEX_FILE
    write_atomically(target, page)
    return target


def reports_below(folder: Path, sweeps: Sequence[str]) -> dict[str, str]:
    """Return the address, relative to the folder, of each sweep's report that lies in it."""
    return {name: quote(f"{name}/{REPORT_FILE}") for name in sweeps if (folder / name / REPORT_FILE).is_file()}


def index_table(sweeps: Sequence[SweepFrames], reports: Mapping[str, str]) -> Table:
    """Return one row per sweep, in the order given; `reports` has the addresses of those that can be opened."""
    columns = [Column("sweep"), Column("started"), Column("cells", "number"), Column("trials", "number")]
    columns += [Column("by ending", "long"), Column("best on validation", "long"), Column("device time", "number")]
    rows = [_row(sweep) for sweep in sweeps]
    links = {place: reports[sweep.name] for place, sweep in enumerate(sweeps) if sweep.name in reports}
    return Table("Sweeps of the store, the last started first", columns, rows, links=links)


def _row(sweep: SweepFrames) -> list[str]:
    counts = sweep.trials["status"].value_counts()
    endings = [f"{wording.count(counts[each])} {each}" for each in ENDINGS if each in counts]
    return [
        sweep.name,
        wording.moment(sweep.sweeps["started"].iloc[0]),
        wording.count(sweep.trials["cell"].nunique()),
        wording.count(len(sweep.trials)),
        ",\n".join(endings) or wording.NONE,
        ",\n".join(_best(sweep)) or wording.NONE,
        wording.duration(float(sweep.trials["device_seconds"].astype(float).sum())),
    ]


def _best(sweep: SweepFrames) -> list[str]:
    winners = best_of_data_sets(sweep, best_configurations(sweep))
    return [
        f"{name}: {sweep.metric} {wording.score(row['score'])}, {row['model']} under {_arm(row)}"
        for name, row in winners.items()
    ]


def _arm(row: pd.Series) -> str:
    return f"{row['update']}" if row["objective"] == "plain" else f"{row['objective']} and {row['update']}"


def _summary(sweeps: Sequence[SweepFrames]) -> str:
    trials = sum(len(sweep.trials) for sweep in sweeps)
    seconds = sum(float(sweep.trials["device_seconds"].astype(float).sum()) for sweep in sweeps)
    return (
        f"{wording.plural(len(sweeps), 'sweep')} with {wording.plural(trials, 'trial')} and "
        f"{wording.duration(seconds)} of device time."
    )
