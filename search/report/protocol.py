"""How a sweep's scores came about: the protocol card and the provenance, as pairs of name and text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from search import wording
from search.report.frames import SweepFrames
from search.report.tables import Column, Table
from search.report.timeline import machine

MACHINES_NAMED = 8

_SPLITS = {
    "given": "as given in the data set's files (x_label)",
    "random": "random 8:1:1 per user",
    "leave_one_out": "leave one out: each user's last two interactions validate and test",
    "global_time": "by time: the newest interactions of all users validate and test",
}

_METRICS = {
    "recall": "hits among the first K over the number of the user's relevant items",
    "precision": "hits among the first K over K",
    "ndcg": "sum of 1/log2(rank + 1) over the hits among the first K, over that of an ideal list of min(K, relevant)",
    "map": "sum over hits of the precision at the hit's rank, over min(K, relevant)",
}


def protocol(frames: SweepFrames) -> list[tuple[str, str]]:
    """Return the protocol card: what was split, ranked, masked, averaged and stopped by which rule."""
    data, train = frames.spec["data"], frames.spec["train"]
    split = str(data.get("split", "given"))
    seed = f", seed {data.get('split_seed')}" if split == "random" else ""
    goal = "larger is better" if frames.better_is_larger else "smaller is better"
    return [
        (
            "Goal",
            f"{frames.metric} on the validation split, {goal}; no trial of a sweep ever loads the test split",
        ),
        *_formulas(frames),
        ("Split", f"{_SPLITS.get(split, split)}{seed}"),
        ("Ranking", "all items, scored with the current weights; no sampled negatives"),
        (
            "Filters",
            "none beside the data set's own: no user and no item is dropped for having few interactions; only rows of "
            "the evaluated split whose user has none in training are left out",
        ),
        ("Masked items", "the user's training items; when testing, validation items are not masked"),
        ("Users", "those with at least one interaction in the evaluated split and one in training"),
        ("Precision", "full precision in the store and for every decision; rounded here for display only"),
        *_early(train),
        ("Modalities", ", ".join(data.get("modalities") or []) or "all that the data set has"),
        ("Seeds", ", ".join(map(str, frames.spec["search"]["seeds"]))),
        ("Training", _training(train)),
        ("Search", _search(frames)),
    ]


def _early(train: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How early validations were made cheaper, where they were."""
    early = train.get("early_validation")
    if early is None:
        return []
    users, rounded = early["users"], early["precision"] == "bf16"
    sample = (
        "all users" if users is None else f"a random sample of {wording.count(users)} users, the same for all trials"
    )
    everybody = "" if users is None or rounded else "; with no more users than that the validation is a full one"
    factors = "; the factors of their scores are rounded to bfloat16 (8 significant bits)" if rounded else ""
    return [
        (
            "Early validations",
            f"up to epoch {early['epochs']} only estimates, on {sample}{factors}{everybody}. Rungs and samplers see "
            "them, and the store has them as estimate/<metric>. No best score, best epoch, early stop, curve or choice "
            "on this page is made of them: a trial that ended before its first full validation has no score",
        )
    ]


def _formulas(frames: SweepFrames) -> list[tuple[str, str]]:
    """The goal metric's formula, then those of the other metrics that the store has."""
    goal, _, cutoff = frames.metric.partition("@")
    others = [(f"{name}@K, in the store", formula) for name, formula in _METRICS.items() if name != goal]
    formulas = [(f"{goal}@K, K = {cutoff}", _METRICS.get(goal, "as stored")), *others]
    return [(name, f"{formula}; the mean over users") for name, formula in formulas]


def _training(train: dict[str, object]) -> str:
    every = train.get("validate_every", 1)
    return (
        f"at most {train.get('max_epochs')} epochs in batches of {train.get('batch_size')}, validated every "
        f"{'epoch' if every == 1 else f'{every} epochs'}; ends after more than {train.get('patience')} validations "
        "in a row without a new best; the best epoch counts"
    )


def _search(frames: SweepFrames) -> str:
    search, space = frames.spec["search"], frames.spec["space"]
    scheduler = search.get("scheduler", {}).get("kind", "fifo")
    ending = "no early ending of trials" if scheduler == "fifo" else f"early ending of trials by {scheduler}"
    tuned = ", ".join(space.get("tune", [])) or "nothing"
    return (
        f"sampler {search['sampler']}, up to {search['trials']} configurations per cell, {ending}; preset "
        f"{space.get('preset')}, tuned: {tuned}"
    )


def provenance(frames: SweepFrames) -> list[tuple[str, str]]:
    """Return where the numbers come from: starts, code, versions, data and machines."""
    last = frames.sweeps.iloc[-1]
    starts = [wording.moment(value) for value in frames.sweeps["started"]]
    return [
        ("Started", "; resumed ".join(starts)),
        ("Specification digest", str(last["digest"])),
        ("Code digest", _distinct(frames.sweeps["code_digest"])),
        ("Code", "; ".join(dict.fromkeys(_commit(row) for _, row in frames.sweeps.iterrows()))),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in _mapping(last["versions_json"]).items()) or "?",
        ),
        ("Driver's machine", _distinct(frames.sweeps["host"])),
        ("Training machines", _machines(frames)),
        ("Devices", _distinct(frames.trials["device"])),
        ("Data digests", _distinct(frames.trials["dataset"] + ": " + frames.trials["data_digest"])),
    ]


def files_table(frames: SweepFrames) -> Table:
    """Return the digests of the data files, as recorded at the sweep's last start."""
    columns = [Column("data set"), Column("file"), Column("SHA-256")]
    rows = []
    for dataset, files in _mapping(frames.sweeps["data_json"].iloc[-1]).items():
        entries = files.items() if isinstance(files, dict) else [("(all)", files)]
        rows += [[str(dataset), str(name), str(digest)] for name, digest in entries]
    return Table("Data files", columns, rows)


def _commit(row: pd.Series) -> str:
    if wording.missing(row["git_commit"]):
        return "not from a git checkout"
    dirty = not wording.missing(row["git_dirty"]) and bool(row["git_dirty"])
    return f"{row['git_commit']}{' with uncommitted changes' if dirty else ''}"


def _mapping(text: object) -> dict[str, object]:
    if wording.missing(text):
        return {}
    value = json.loads(str(text))
    return value if isinstance(value, dict) else {}


def _machines(frames: SweepFrames) -> str:
    """The machines of the trials' workers; with many of them how many there are."""
    known = sorted({machine(worker) for worker in frames.attempts["worker"].dropna()})
    if len(known) > MACHINES_NAMED:
        return f"{', '.join(known[:MACHINES_NAMED])} and {len(known) - MACHINES_NAMED} more"
    return ", ".join(known) or "not recorded"


def _distinct(values: pd.Series) -> str:
    known: Sequence[str] = sorted({str(value) for value in values.dropna()})
    return ", ".join(known) or "not recorded"
