"""The protocols on a terminal: a line for every unit, and their main figures as tables."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from search.protocol_tables import generalisation_table, landscape_table, robustness_table
from search.protocols.runner import UnitEnd
from search.store import Store
from search.wording import (
    NONE,
    duration,
    missing,
    number,
    plural,
    score,
    share,
    signed_score,
    span,
    with_deviation,
)


def unit_line(end: UnitEnd) -> str:
    """Returns what a person reads when a unit has ended."""
    result = f"failed: {end.error}" if end.error else f"{plural(end.rows, 'value')} in {duration(end.seconds)}"
    return f"[{end.number}/{end.total}] {end.unit}: {result}"


def print_figures(
    screen: Console, store: Store, sweep: str, protocols: Sequence[str], cells: Sequence[str] | None = None
) -> None:
    """Prints the main figures of the protocols as far as the store has them."""
    rows, trials = store.frame("protocols", sweep), store.frame("trials", sweep)
    metric = str(trials["metric"].iloc[0])
    figures = {
        "robustness": lambda: robustness_table(rows, metric),
        "generalisation": lambda: generalisation_table(rows, trials, metric),
        "landscape": lambda: landscape_table(rows),
    }
    for protocol in protocols:
        found = figures[protocol]()
        shown = found[found["cell"].isin(cells)] if cells else found
        if len(shown):
            screen.print(_SHOWN[protocol](shown, metric))


def _show_robustness(figures: pd.DataFrame, metric: str) -> Table:
    table = _table(f"Robustness: {metric} on the validation split", "cell", "corruption", "level")
    for heading in ("clean", "corrupted", "Decr.", "SNR", "seeds x draws"):
        table.add_column(heading, justify="right")
    for row in figures.to_dict(orient="records"):
        ratios = [(str(name).removeprefix("snr/"), row[name]) for name in figures if str(name).startswith("snr/")]
        known = [f"{name} {number(value)}" for name, value in ratios if not missing(value)]
        scores = [score(row["clean"]), with_deviation(row["noisy"], row["noisy_deviation"]), share(row["decrease"])]
        place = [row["cell"], f"{row['subject']} ({row['phase']})", row["level"]]
        table.add_row(*place, *scores, "\n".join(known) or NONE, f"{row['seeds']} x {row['draws']}")
    return table


def _show_generalisation(figures: pd.DataFrame, metric: str) -> Table:
    table = _table(f"Generalisation: {metric} on the validation split", "cell", "varied")
    for heading in ("runs", "mean ± SD", "min to max", "CV", "difference to descent"):
        table.add_column(heading, justify="right")
    for row in figures.to_dict(orient="records"):
        gap = NONE if missing(row["difference"]) else signed_score(row["difference"])
        gap += "" if missing(row["difference_deviation"]) else f" ± {score(row['difference_deviation'])}"
        spread = [with_deviation(row["mean"], row["deviation"]), span(row["low"], row["high"])]
        table.add_row(row["cell"], row["subject"], str(row["runs"]), *spread, share(row["variation"]), gap)
    return table


def _show_landscape(figures: pd.DataFrame, metric: str) -> Table:
    table = _table("Sharpness of the training loss around the best weights", "cell", "measure", "radius")
    for heading in ("mean ± SD", "seeds"):
        table.add_column(heading, justify="right")
    for row in figures.to_dict(orient="records"):
        spread = number(row["mean"])
        spread += "" if missing(row["deviation"]) else f" ± {number(row['deviation'])}"
        table.add_row(row["cell"], row["subject"].replace("_", " "), row["level"] or NONE, spread, str(row["seeds"]))
    return table


_SHOWN = {"robustness": _show_robustness, "generalisation": _show_generalisation, "landscape": _show_landscape}


def _table(title: str, *texts: str) -> Table:
    table = Table(title=title)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    return table
