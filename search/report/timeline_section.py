"""The timeline in the sweep's report: every attempt of every trial as a bar, and what befell the sweep meanwhile."""

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.report.chart import MIDDLE, REST, Chart, Panels, Series, chart, label
from search.report.frames import SweepFrames
from search.report.section import Section, query
from search.report.tables import ENDINGS, Column, Table
from search.report.timeline import bars, busy_seconds

EVENTS_SHOWN = 50
LANES_HIGH = 60
"""Lanes from which on the figure grows no higher and its bars become thinner."""
NAME_SHOWN = 14
"""Letters of a machine's name in the figure; the table has the whole name."""

_LOOKS = {
    "finished": Series("finished", MIDDLE, mark="bar"),
    "pruned": Series("pruned", "#B8860B", mark="bar"),
    "stopped": Series("stopped", "#7A6FF0", mark="bar"),
    "diverged": Series("diverged", "#B5579A", mark="bar"),
    "failed": Series("failed", "#D55E00", mark="bar"),
    "lost": Series("lost", REST, mark="bar"),
    "running": Series("running", "#009E73", mark="bar"),
}
# Colours alone would not tell these apart from the others for everyone, nor in grey print.
_CROSSED = {"diverged": "x-thin-open", "failed": "x-thin-open", "lost": "circle-open"}


def timeline_section(frames: SweepFrames) -> Section | None:
    """Return the section, or None where no trial has started."""
    rows = bars(frames)
    if rows.empty:
        return None
    again = int((rows["start"] == 2).sum())
    return Section(
        "timeline",
        "Timeline",
        [
            "Every attempt of every trial from its start to its end. A lane holds one attempt at a time; a machine has "
            "as many as it ever ran at once, and gaps are time in which it ran fewer.",
            *([f"{wording.plural(again, 'trial')} began more than once; every start has a bar."] if again else []),
        ],
        [_machines_table(rows), *([_events_table(frames)] if len(frames.events) else [])],
        [_panels(frames, rows)],
        commands={"Every attempt with its numbers": query("trials_all", frames.name)},
    )


def _machines_table(rows: pd.DataFrame) -> Table:
    present = [ending for ending in ENDINGS if (rows["status"] == ending).any()]
    columns = [Column("machine"), Column("first start"), Column("last end"), Column("lanes", "number")]
    columns += [Column("lanes busy", "number"), Column("attempts", "number")]
    columns += [Column(ending, "number") for ending in present]
    found = []
    for machine, part in rows.groupby("machine", sort=True):
        begin, end, count = part["begin"].min(), part["end"].max(), int(part["lane"].max()) + 1
        length = float((end - begin).total_seconds()) * count
        busy = wording.share(busy_seconds(part) / length) if length else wording.NONE
        endings = [wording.count((part["status"] == ending).sum()) for ending in present]
        span = [wording.moment(begin), wording.moment(end)]
        found.append([str(machine), *span, wording.count(count), busy, wording.count(len(part)), *endings])
    return Table("What ran on each machine; how its attempts ended", columns, found)


def _events_table(frames: SweepFrames) -> Table:
    columns = [Column("at"), Column("event"), Column("what happened", "long"), Column("driver's machine")]
    shown = frames.events.tail(EVENTS_SHOWN)
    rows = [
        [
            *(wording.moment(row["at"]), str(row["kind"]), str(row["text"])),
            wording.NONE if wording.missing(row["host"]) else str(row["host"]),
        ]
        for _, row in shown.iterrows()
    ]
    left_out = f"; the last {EVENTS_SHOWN} of {len(frames.events)}" if len(frames.events) > len(shown) else ""
    return Table(f"What happened to the sweep{left_out}", columns, rows)


def _panels(frames: SweepFrames, rows: pd.DataFrame) -> Panels:
    legend = [look for ending, look in _LOOKS.items() if (rows["status"] == ending).any()]
    events = [_EVENTS] if len(frames.events) else []
    caption = "Bars are attempts, crossed at their end where they failed or diverged, ringed where they were lost."
    if events:
        caption += " Triangles and lines mark what happened to the sweep."
    return Panels("timeline-attempts", "Attempts over time", caption, [_chart(frames, rows)], [*legend, *events])


_EVENTS = Series("start, resume, warning or end of the sweep", REST, dash="dot", width=1.5)


def _chart(frames: SweepFrames, rows: pd.DataFrame) -> Chart:
    figure = go.Figure()
    places = _places(rows)
    count = max(places.values()) + 1
    height = 6 + 1.1 * min(count, LANES_HIGH)
    thickness = max(2.0, min(10.0, 11.0 * LANES_HIGH / count))
    for ending, look in _LOOKS.items():
        part = rows[rows["status"] == ending]
        if len(part):
            _add_bars(figure, part, places, ending, {"color": look.colour, "width": thickness})
    if len(frames.events):
        _add_events(figure, frames.events)
    _name_machines(figure, rows, places)
    figure.update_xaxes(title="time, UTC", type="date")
    figure.update_yaxes(range=[count - 0.4, -1.2], showgrid=False)
    figure.update_layout(hovermode="closest")
    title = "Attempts over time"
    return chart("timeline-bars", title, "", figure, height=height)


def _places(rows: pd.DataFrame) -> dict[tuple[str, int], int]:
    """The row of every machine's lane, from the top."""
    known = sorted(set(zip(rows["machine"], rows["lane"], strict=True)))
    return {key: place for place, key in enumerate(known)}


def _add_bars(
    figure: go.Figure, rows: pd.DataFrame, places: dict[tuple[str, int], int], ending: str, line: dict[str, object]
) -> None:
    xs: list[object] = []
    ys: list[int | None] = []
    texts: list[str] = []
    columns = ["trial", "machine", "lane", "start", "begin", "end"]
    for trial, machine, lane, start, begin, end in rows[columns].itertuples(index=False):
        # None lifts the pen between two bars, so that all of an ending are one trace.
        xs += [_stamp(begin), _stamp(end), None]
        ys += [*[places[machine, lane]] * 2, None]
        again = f", start {start}" if start > 1 else ""
        texts += [label(f"{trial}{again}: {ending}")] * 3
    mark = _CROSSED.get(ending)
    marker = {"symbol": mark or "circle", "size": [0, 8 if mark else 0, 0] * len(rows), "line": {"width": 2}}
    figure.add_scatter(
        x=xs,
        y=ys,
        text=texts,
        mode="lines+markers",
        line=line,
        marker={**marker, "color": line["color"]},
        hovertemplate="%{text}<br>%{x}<extra></extra>",
    )


def _add_events(figure: go.Figure, events: pd.DataFrame) -> None:
    stamps = [_stamp(at) for at in events["at"]]
    for stamp in dict.fromkeys(stamps):
        line = {"color": REST, "width": 1, "dash": "dot"}
        figure.add_shape(type="line", x0=stamp, x1=stamp, yref="paper", y0=0, y1=1, line=line, layer="below")
    figure.add_scatter(
        x=stamps,
        y=[-0.8] * len(stamps),
        mode="markers",
        marker={"symbol": "triangle-down", "size": 9, "color": REST},
        text=[label(f"{kind}: {text}") for kind, text in zip(events["kind"], events["text"], strict=True)],
        hovertemplate="%{text}<br>%{x}<extra></extra>",
    )


def _name_machines(figure: go.Figure, rows: pd.DataFrame, places: dict[tuple[str, int], int]) -> None:
    machines = sorted(set(rows["machine"]))
    lanes = rows.groupby("machine")["lane"].max()
    middles = [places[name, 0] + int(lanes[name]) / 2 for name in machines]
    shown = [name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 1]}…" for name in machines]
    figure.update_yaxes(tickvals=middles, ticktext=[label(name) for name in shown])


def _stamp(moment: pd.Timestamp) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
