"""Which interactions make up the data set, and what its users and items are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from trainables.data.config import DataConfig
from trainables.data.interactions import ITEM, LABEL, RATING, TIME, USER, InteractionTable
from trainables.data.preparation.k_core import k_core
from trainables.data.preparation.raw import RawInteractions
from trainables.data.preparation.settings import Settings
from trainables.data.splits import divide, split_labels
from trainables.errors import DataError

_LARGEST_WHOLE = 2.0**53
"""From here on not every whole number is a float64."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The interactions of a data set: distinct pairs, sorted by user, then time, then item.

    Attributes:
        user_ids, item_ids: original ids; an id's position is its number in the data set.
        counts: what was left out at which step, and what is left.
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: Int64[np.ndarray, " E"]
    items: Int64[np.ndarray, " E"]
    ratings: Float32[np.ndarray, " E"] | None
    times: Float64[np.ndarray, " E"] | None
    counts: Mapping[str, int]


def choose(raw: RawInteractions, settings: Settings, source: str) -> Chosen:
    """Returns the k-core of the distinct pairs that are rated high enough.

    First ratings below the limit go. Of a pair that is left several times the earliest row stays; of equally early
    ones, or where there are no times, the best rated. Then the k-core is taken. Users and items are numbered in the
    order of their original ids as text. The result does not hang on the order of the rows.

    Args:
        source: the files, for messages.

    Raises:
        DataError: a limit on ratings where there are none, or nothing is left.
    """
    rows = _rated_high_enough(raw, settings, source)
    rated = len(rows)
    rows = _distinct(raw, rows)
    in_core, rounds = k_core(raw.users[rows], raw.items[rows], settings.core)
    distinct, rows = len(rows), rows[in_core]
    if not len(rows):
        raise DataError(
            f"{source} must hold users and items with at least {settings.core} interactions each (--core), but of "
            f"{distinct} interactions none is left"
        )
    users, user_ids = _renumbered(raw.users[rows], raw.user_ids)
    items, item_ids = _renumbered(raw.items[rows], raw.item_ids)
    times = None if raw.times is None else raw.times[rows]
    order = np.lexsort((items, users) if times is None else (items, times, users))
    counts = {
        "rows": raw.rows,
        "skipped": raw.rows - len(raw.users),
        "below_min_rating": len(raw.users) - rated,
        "repeated_pairs": rated - distinct,
        "outside_core": distinct - len(rows),
        "core_rounds": rounds,
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(rows),
    }
    return Chosen(
        user_ids=user_ids,
        item_ids=item_ids,
        users=users[order],
        items=items[order],
        ratings=None if raw.ratings is None else raw.ratings[rows][order],
        times=None if times is None else times[order],
        counts=counts,
    )


def labelled(chosen: Chosen, settings: Settings, source: str) -> Mapping[str, np.ndarray]:
    """Returns the columns of the data set's table, with the split's labels, once the split is seen to be usable.

    Raises:
        DataError: the split needs times that are not there, or leaves nothing to train on or to validate with.
    """
    if settings.split == "global_time" and chosen.times is None:
        raise DataError(f"{source} must have times for a split by time (--split global_time), but has none")
    config = DataConfig(name="prepared", split=settings.split, split_seed=settings.split_seed)
    table = InteractionTable(source, chosen.users, chosen.items, chosen.times, None, ())
    labels = split_labels(table, config)
    divide(InteractionTable(source, chosen.users, chosen.items, chosen.times, labels, ()), DataConfig(name="prepared"))
    columns: dict[str, np.ndarray] = {USER: chosen.users, ITEM: chosen.items}
    if chosen.ratings is not None:
        columns[RATING] = chosen.ratings
    if chosen.times is not None:
        columns[TIME] = _whole(chosen.times)
    return columns | {LABEL: labels}


def _rated_high_enough(raw: RawInteractions, settings: Settings, source: str) -> np.ndarray:
    if settings.min_rating is None:
        return np.arange(len(raw.users))
    if raw.ratings is None:
        raise DataError(f"{source} must have ratings for a lowest one (--min-rating), but has none")
    return np.flatnonzero(raw.ratings >= np.float32(settings.min_rating))


def _distinct(raw: RawInteractions, rows: np.ndarray) -> np.ndarray:
    """The first row of each pair in the order of time and, where times are equal, of falling rating."""
    ranks = [column for column in (_falling(raw.ratings, rows), _of(raw.times, rows)) if column is not None]
    users, items = raw.users[rows], raw.items[rows]
    order = np.lexsort((*ranks, items, users))
    users, items = users[order], items[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    distinct: np.ndarray = rows[order[first]]
    return distinct


def _of(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if column is None else column[rows]


def _falling(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if column is None else -column[rows]


def _renumbered(codes: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Numbers from 0 in the order of the ids that occur, and those ids."""
    order = sorted(np.unique(codes).tolist(), key=ids.__getitem__)
    numbers = np.empty(len(ids), dtype=np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[codes], [ids[code] for code in order]


def _whole(times: np.ndarray) -> np.ndarray:
    """Times as integers where all are whole, so that a table of 2014 reads as the published one."""
    if np.abs(times).max() >= _LARGEST_WHOLE or (times % 1).any():
        return times
    whole: np.ndarray = times.astype(np.int64)
    return whole
