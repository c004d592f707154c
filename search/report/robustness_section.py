"""Robustness in the sweep's report: scores and their decrease under corrupted inputs, per arm, level and phase."""

from collections.abc import Iterator

import pandas as pd

from search import wording
from search.protocol_tables import robustness_table
from search.report.frames import SweepFrames
from search.report.measured import diverged, measurements, named, ordered_levels, outdated, tasks
from search.report.robustness_figures import robustness_panels
from search.report.section import Section
from search.report.tables import Column, Table

FINDINGS_SHOWN = 6

_SUBJECTS = {
    "gaussian": "Gaussian noise on the features",
    "item_embedding": "noise on the item embeddings",
    "raw_features": "noise on the features",
    "text_redundancy": "redundant text (surrogate)",
    "visual_redundancy": "redundant visual columns",
    "information_adjustment": "adjusted information (surrogate)",
}
_SURROGATE = (
    "A surrogate changes the features where the paper changed texts or images and encoded them again; its numbers do "
    "not stand beside the paper's."
)
_PHASES = {"test": "only when judged", "train_test": "in training too"}


def robustness_section(frames: SweepFrames) -> Section | None:
    """Return the section, or None where the store holds no such measurement of the sweep's goal metric."""
    rows = measurements(frames, "robustness")
    table = robustness_table(rows, frames.metric) if len(rows) else pd.DataFrame()
    if table.empty:
        return None
    table = named(frames, _with_distinct_levels(table))
    return Section(
        "robustness",
        "Robustness",
        [*_reading(frames, table), *outdated(frames, rows), *diverged(rows, frames.metric)],
        [_table(frames, task, rows) for task, rows in tasks(table)],
        [robustness_panels(frames, task, key, described(*key), group) for task, key, group in _groups(table)],
        list(_contradictions(frames, table)),
    )


def _with_distinct_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the number added to the labels that stand for several, as seeds under other settings do."""
    numbers = table.groupby(["subject", "phase", "level"])["severity"].transform("nunique")
    clear = [
        str(level) if count < 2 else f"{level} ({severity:.3g})"
        for level, severity, count in zip(table["level"], table["severity"], numbers, strict=True)
    ]
    return table.assign(level=clear)


def _reading(frames: SweepFrames, table: pd.DataFrame) -> list[str]:
    return [
        "The best configuration of every cell, trained again and judged on validation interactions under corrupted "
        "inputs. Decr. is (clean − corrupted) / clean, from the means over seeds and draws; SNR is ‖x‖ / ‖noise‖ per "
        "modality, because the same noise is mild for one modality and severe for another.",
        "A small Decr. is not yet robustness: a strategy can win it by a worse clean score, from which there is less "
        f"to lose. So read it beside the {frames.metric} that is left.",
        "Of each pair of panels one shows the score, from clean inputs on, with the standard deviation over seeds and "
        "draws as bars, the other the share of the clean score that is lost. Levels stand at equal distances, arms "
        "slightly apart so that bars do not hide each other.",
        *([_SURROGATE] if any("surrogate" in _SUBJECTS.get(each, "") for each in table["subject"]) else []),
    ]


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, tuple[str, str], pd.DataFrame]]:
    """Yield each task, (corruption, phase) and the rows of it."""
    for task, rows in tasks(table):
        for (subject, phase), group in rows.groupby(["subject", "phase"], sort=False):
            yield task, (str(subject), str(phase)), group


def described(subject: str, phase: str) -> str:
    """Return a corruption in plain words with its phase; a name that is not known as it is."""
    return f"{_SUBJECTS.get(subject, subject)}, {_PHASES.get(phase, phase)}"


def _table(frames: SweepFrames, task: str, table: pd.DataFrame) -> Table:
    ratios = [str(name) for name in table.columns if str(name).startswith("snr/") and table[name].notna().any()]
    columns = [
        *(Column("corruption"), Column("corrupted"), Column("level"), Column("arm")),
        *(Column(f"clean {frames.metric}", "number"), Column(f"corrupted {frames.metric}", "number")),
        *(Column("Decr.", "number"), Column("SNR"), Column("seeds × draws", "number")),
    ]
    rows: list[list[str]] = []
    marked: set[int] = set()
    for _, (subject, phase), group in _groups(table):
        for level in ordered_levels(group):
            shown = group[group["level"] == level]
            best = _best(frames, shown)
            for _, row in shown.iterrows():
                marked |= {len(rows)} if len(shown) > 1 and row["noisy"] == best else set()
                where = [_SUBJECTS.get(subject, subject), _PHASES.get(phase, phase), level]
                rows.append([*where, *_cells(row, ratios)])
    caption = f"{task}: scores under corruption, mean ± standard deviation over seeds and draws; the best corrupted"
    return Table(f"{caption} score of each level stands out", columns, rows, frozenset(marked))


def _cells(row: pd.Series, ratios: list[str]) -> list[str]:
    return [
        str(row["arm"]),
        wording.score(row["clean"]),
        wording.with_deviation(row["noisy"], row["noisy_deviation"]),
        decrease(row["decrease"]),
        ", ".join(_ratio(name, row[name]) for name in ratios if not wording.missing(row[name])) or wording.NONE,
        f"{row['seeds']} × {row['draws']}",
    ]


def _ratio(name: str, value: float) -> str:
    return f"{name.removeprefix('snr/')} {wording.count(value) if value >= 100 else f'{value:.3g}'}"


def decrease(value: float) -> str:
    """Return a decrease in per cent, with a minus where the corrupted score is the better one."""
    return ("−" if round(value, 3) < 0 else "") + wording.share(abs(value))


def _best(frames: SweepFrames, rows: pd.DataFrame) -> float:
    return float(rows["noisy"].max() if frames.better_is_larger else rows["noisy"].min())


def _contradictions(frames: SweepFrames, table: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence where, at the severest level, the smallest Decr. and the best corrupted score are two arms'."""
    found = []
    for task, (subject, phase), group in _groups(table):
        level = ordered_levels(group)[-1]
        shown = group[(group["level"] == level) & group["decrease"].notna()]
        if shown.empty:
            continue
        least = shown.sort_values("decrease", kind="stable").iloc[0]
        best = shown[shown["noisy"] == _best(frames, shown)].iloc[0]
        if least["noisy"] != best["noisy"]:
            found.append(f"{task}, {described(subject, phase)}, level {level}: {_contrast(least, best)}")
    yield from found[:FINDINGS_SHOWN]
    if len(found) > FINDINGS_SHOWN:
        yield f"The same holds in {wording.plural(len(found) - FINDINGS_SHOWN, 'more case')}; see the table."


def _contrast(least: pd.Series, best: pd.Series) -> str:
    left, better = (f"{wording.score(row['noisy'])}, Decr. {decrease(row['decrease'])}" for row in (least, best))
    return f"{least['arm']} loses the smallest share ({left}), but {best['arm']} keeps the better score ({better})."
