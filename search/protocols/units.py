"""The units of the protocols: one best configuration, under one protocol, trained with one seed."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from search.errors import StoreError
from search.names import digest
from search.report.best import best_configurations
from search.report.frames import SweepFrames
from search.sections import ProtocolSettings, ProtocolsSection
from spaces.nearest import did_you_mean
from trainables.protocols.config import GeneralisationConfig, variants

Key: TypeAlias = tuple[str, str, int, int | None, str]
"""What makes a unit itself: trial, protocol, seed, split seed, settings."""

DRAWN_SPLITS = ("random", "leave_one_out")
DATA = "data."


@dataclass(frozen=True)
class Unit:
    """One training, or the few of robustness, and what is measured of it.

    Attributes:
        trial: whose configuration it is: the first of the cell's best configuration.
        flat: the configuration to train, with its seed and split in place.
        split_seed: seed of its split; None where the split is not drawn.
        own_split: whether it is divided otherwise than in the sweep.
        data_digest: of the data that the trial saw; None where the store does not know.
        settings: of the protocol; None for a confirmation, which has none.
    """

    protocol: str
    cell: str
    trial: str
    flat: Mapping[str, Any]
    seed: int
    split_seed: int | None
    own_split: bool
    data_digest: str | None
    settings: ProtocolSettings | None

    @property
    def key(self) -> Key:
        """What makes the unit itself in the store."""
        return self.trial, self.protocol, self.seed, self.split_seed, settings_digest(self.settings)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.flat["data.name"])

    def __str__(self) -> str:
        split = f", split {self.split_seed}" if self.own_split else ""
        return f"{self.protocol} of {self.trial} (seed {self.seed}{split})"


def settings_digest(settings: ProtocolSettings | None) -> str:
    """Return 12 hex digits of what decides a unit's numbers; which other seeds are run does not."""
    if settings is None:
        return ""
    return digest(settings.model_dump(mode="json", exclude={"seeds"}))[:12]


def make_units(
    frames: SweepFrames, protocols: ProtocolsSection, seeds: Sequence[int], cells: Sequence[str] | None = None
) -> list[Unit]:
    """Return the units of all protocols that are given, cell by cell in the order of their names.

    Cells without a finished trial have none.

    Args:
        seeds: of the trainings of robustness and landscape.
        cells: only these; None for all.

    Raises:
        StoreError: a cell is unknown, or has no finished trial though it was asked for by name; or none has.
    """
    best = best_configurations(frames)
    check_cells(frames.name, best, cells)
    digests = data_digests(frames)
    return [
        Unit(protocol, str(row["cell"]), trial, flat, seed, split_seed, own_split, digests[trial], settings)
        for _, row in best[best["trial"].notna()].iterrows()
        if cells is None or row["cell"] in cells
        for trial in [str(row["trial"])]
        for protocol, settings in protocols.given().items()
        for flat, seed, split_seed, own_split in _trainings(json.loads(row["config_json"]), settings, seeds)
    ]


def missing_units(units: Sequence[Unit], current: pd.DataFrame, every: pd.DataFrame) -> list[Unit]:
    """Return the units that the store does not show: without rows, or with rows that other settings replaced since.

    Args:
        current: rows of the view `protocols`.
        every: rows of the view `protocols_all`.
    """
    shown, stored = _counts(current), _counts(every)
    return [unit for unit in units if not stored[unit.key] or shown[unit.key] < stored[unit.key]]


def _counts(rows: pd.DataFrame) -> Counter[Key]:
    names = ["trial", "protocol", "seed", "split_seed", "settings"]
    return Counter(
        (trial, protocol, int(seed), None if pd.isna(split_seed) else int(split_seed), settings)
        for trial, protocol, seed, split_seed, settings in rows[names].itertuples(index=False, name=None)
    )


def data_digests(frames: SweepFrames) -> dict[str, str | None]:
    """Return of every trial the digest of the data that it saw; None where the store does not know."""
    return {
        str(trial): None if pd.isna(known) else str(known)
        for trial, known in zip(frames.trials["trial"], frames.trials["data_digest"], strict=True)
    }


def check_cells(sweep: str, best: pd.DataFrame, cells: Sequence[str] | None) -> None:
    """Return if some cell has a finished trial, and every one that is asked for.

    Args:
        best: rows of `best_configurations`.

    Raises:
        StoreError: a cell is unknown or has none; the nearest name is in the text.
    """
    finished = best[best["trial"].notna()]
    for cell in cells or ():
        if cell not in set(best["cell"]):
            known = [str(each) for each in best["cell"]]
            hint = did_you_mean(cell, known) or f"; it has {', '.join(known)}"
            raise StoreError(f"a cell must be one of sweep {sweep!r}, but got {cell!r}{hint}")
        if cell not in set(finished["cell"]):
            raise StoreError(
                f"a cell must have a finished trial to be measured, but {cell} of sweep {sweep!r} has none"
            )
    if finished.empty:
        raise StoreError(f"a sweep must have finished trials to be measured, but {sweep!r} has none")


def _trainings(
    flat: Mapping[str, Any], settings: ProtocolSettings, seeds: Sequence[int]
) -> Iterator[tuple[Mapping[str, Any], int, int | None, bool]]:
    """(configuration, seed, split seed, whether the split is its own) of every unit of a protocol."""
    if isinstance(settings, GeneralisationConfig):
        for variant in variants(flat, settings):
            yield variant.flat, variant.seed, variant.split_seed, _data(variant.flat) != _data(flat)
        return
    split_seed = flat["data.split_seed"] if flat["data.split"] in DRAWN_SPLITS else None
    for seed in seeds:
        yield {**flat, "seed": seed}, seed, split_seed, False


def _data(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key.startswith(DATA)}
