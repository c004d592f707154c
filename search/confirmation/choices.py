"""What is confirmed: the configurations that validation chose, and seeds that the search never saw."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from search.errors import SearchError
from search.protocols.units import Unit, check_cells, data_digests
from search.report.best import best_configurations, rank_configurations
from search.report.frames import SweepFrames

PROTOCOL = "confirmation"


@dataclass(frozen=True)
class Choice:
    """One configuration of a cell.

    Attributes:
        rank: its place in the cell by the search's score, from 1.
        trial: its first trial.
        flat: its configuration, with the trial's seed.
        candidates: configurations of the cell that it was chosen from.
    """

    cell: str
    rank: int
    trial: str
    flat: dict[str, Any]
    candidates: int


def choices(frames: SweepFrames, cells: Sequence[str] | None = None, top: int = 1) -> list[Choice]:
    """Return the best configurations of every cell by the rule of `search.report.best`, cell by cell.

    Args:
        cells: only these; None for all that have a finished trial.
        top: configurations of a cell at most.

    Raises:
        StoreError: a cell is unknown or has no finished trial.
    """
    check_cells(frames.name, best_configurations(frames), cells)
    found = []
    for cell, scored in frames.scored.groupby("cell", sort=True):
        if cells is not None and cell not in cells:
            continue
        ranking = rank_configurations(frames, scored)
        configs = scored.set_index("trial")["config_json"]
        for rank, trials in enumerate(ranking["trials"].head(top), 1):
            found.append(Choice(str(cell), rank, trials[0], json.loads(configs[trials[0]]), len(ranking)))
    return found


def fresh_seeds(seeds: int | Sequence[int], searched: Collection[int]) -> tuple[int, ...]:
    """Return so many seeds that the search did not use, the least from 1 on; or the given ones, if they are such.

    Raises:
        SearchError: there is none, or a given one is not fresh.
    """
    if isinstance(seeds, int):
        if seeds < 1:
            raise SearchError(f"a confirmation must have a seed at least, but got {seeds}")
        return tuple(islice((seed for seed in count(1) if seed not in searched), seeds))
    used = sorted(set(seeds) & set(searched))
    if used:
        raise SearchError(f"the seeds of a confirmation must be fresh, but the search used {', '.join(map(str, used))}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise SearchError(f"the seeds of a confirmation must be one or more, each once, but got {list(seeds)}")
    return tuple(seeds)


def make_units(frames: SweepFrames, chosen: Sequence[Choice], seeds: Sequence[int]) -> list[Unit]:
    """Return one training per choice and seed, seed by seed, so that an interrupt leaves whole pairs."""
    digests = data_digests(frames)
    return [
        Unit(PROTOCOL, choice.cell, choice.trial, choice.flat | {"seed": seed}, seed, None, False, digest, None)
        for seed in seeds
        for choice in chosen
        for digest in [digests[choice.trial]]
    ]
