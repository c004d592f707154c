"""When and where each attempt of a trial ran: who shares a machine, and which lane of it an attempt has to itself."""

import heapq
from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from search import wording
from search.report.frames import SweepFrames

UNKNOWN = "not recorded"


def bars(frames: SweepFrames) -> pd.DataFrame:
    """Return one row per attempt, by machine: trial, status, machine, lane, begin, end, and `start`, from 1.

    A lane is one of as many as attempts ever ran at once on the machine, and holds one at a time. An attempt that has
    not ended lasts until the store last heard of it.
    """
    attempts = frames.attempts.sort_values(["started", "trial"], kind="stable")
    end = attempts["ended"].where(attempts["ended"].notna(), attempts["written"])
    rows = attempts[["trial", "status"]].assign(
        start=attempts.groupby("trial").cumcount() + 1,
        machine=[machine(worker) for worker in attempts["worker"]],
        begin=attempts["started"],
        end=end.where(end > attempts["started"], attempts["started"]),
    )
    parts = [part.assign(lane=lanes(part["begin"], part["end"])) for _, part in rows.groupby("machine", sort=True)]
    return pd.concat(parts, ignore_index=True) if parts else rows.assign(lane=0)


def machine(worker: object) -> str:
    """Return the machine of a worker, which is named machine:process."""
    return UNKNOWN if wording.missing(worker) else str(worker).rpartition(":")[0] or str(worker)


def lanes(begins: Sequence[datetime] | pd.Series, ends: Sequence[datetime] | pd.Series) -> list[int]:
    """Return a lane from 0 for each span, in the order of their begins: no two in a lane overlap, no lane is wasted."""
    free: list[int] = []
    busy: list[tuple[datetime, int]] = []
    found: list[int] = []
    for begin, end in zip(begins, ends, strict=True):
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lane))
        found.append(lane)
    return found


def busy_seconds(rows: pd.DataFrame) -> float:
    """Return how long the bars last together."""
    return float((rows["end"] - rows["begin"]).dt.total_seconds().sum())
