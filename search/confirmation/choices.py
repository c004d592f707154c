"""What is confirmed: the configurations that validation chose, and seeds that the search never saw."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from search.errors import SearchError, StoreError
from search.protocols.units import Unit, check_cells, data_digests
from search.report.best import best_configurations, rank_configurations
from search.report.frames import SweepFrames
from spaces.nearest import did_you_mean

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


def choices(
    frames: SweepFrames, cells: Sequence[str] | None = None, top: int = 1, trials: Sequence[str] | None = None
) -> list[Choice]:
    """Return the best configurations of every cell by the rule of `search.report.best`, cell by cell, or named ones.

    Args:
        cells: only these; None for all that have a finished trial.
        top: configurations of a cell at most.
        trials: instead of the best ones the configurations of these finished trials, of whatever rank.

    Raises:
        StoreError: a cell or a trial is unknown, or has not finished.
    """
    check_cells(frames.name, best_configurations(frames), cells)
    _check_finished(frames, trials)
    found = []
    for cell, scored in frames.scored.groupby("cell", sort=True):
        if cells is not None and cell not in cells:
            continue
        ranking = rank_configurations(frames, scored)
        configs = scored.set_index("trial")["config_json"]
        for rank, members in enumerate(ranking["trials"], 1):
            if rank <= top if trials is None else not set(trials).isdisjoint(members):
                found.append(Choice(str(cell), rank, members[0], json.loads(configs[members[0]]), len(ranking)))
    return found


def _check_finished(frames: SweepFrames, trials: Sequence[str] | None) -> None:
    finished = set(frames.scored["trial"])
    for trial in trials or ():
        if trial not in finished:
            hint = did_you_mean(trial, sorted(finished))
            raise StoreError(
                f"a trial to confirm must be a finished one of sweep {frames.name}, but got {trial!r}{hint}"
            )


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
