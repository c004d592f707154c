"""Dividing interactions into train, validation and test, and dropping whom nobody can score."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from trainables.data.bundle import Interactions
from trainables.data.config import DataConfig
from trainables.data.interactions import LABEL, TIME, InteractionTable, missing_column
from trainables.errors import DataError

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True)
class Dropped:
    """Evaluation rows left out because their user has no training row."""

    users: int
    interactions: int


@dataclass(frozen=True)
class Division:
    """The three splits. Only `catalog` sees one: what it hands out never holds train or validation beside test."""

    train: Interactions
    valid: Interactions
    test: Interactions
    dropped_valid: Dropped
    dropped_test: Dropped


def divide(table: InteractionTable, config: DataConfig) -> Division:
    """Returns the splits that the configuration asks for.

    Raises:
        DataError: the rule needs a column that the file lacks, or train or validation would be empty.
    """
    labels = split_labels(table, config)
    train = _rows(table, labels == TRAIN)
    if not len(train):
        raise DataError(
            f"{table.source}: the training split must hold interactions, but is empty (data.split {config.split!r})"
        )
    known = np.zeros(table.num_users, dtype=np.bool_)
    known[train.users] = True
    valid, dropped_valid = _scorable(table, labels == VALID, known)
    test, dropped_test = _scorable(table, labels == TEST, known)
    if not len(valid):
        raise DataError(
            f"{table.source}: the validation split must hold interactions of users that have training interactions, "
            f"but is empty (data.split {config.split!r}, {dropped_valid.interactions} rows dropped)"
        )
    return Division(train, valid, test, dropped_valid, dropped_test)


def split_labels(table: InteractionTable, config: DataConfig) -> Int64[np.ndarray, " E"]:
    """Returns 0 (train), 1 (validation) or 2 (test) for every row.

    Raises:
        DataError: the rule needs a column that the file lacks.
    """
    if config.split == "given":
        if table.labels is None:
            needs = missing_column(table.source, LABEL, table.columns)
            raise DataError(
                f"{needs}; or set data.split to 'random', 'leave_one_out' or 'global_time' instead of 'given'"
            )
        return table.labels
    rng = np.random.default_rng(config.split_seed)
    if config.split == "random":
        return random_split(table.users, rng)
    if config.split == "leave_one_out":
        return leave_one_out_split(table.users, table.times, rng)
    if table.times is None:
        needs = missing_column(table.source, TIME, table.columns)
        raise DataError(f"{needs}; or set data.split to 'random' or 'leave_one_out' instead of 'global_time'")
    return global_time_split(table.times)


def random_split(users: Int64[np.ndarray, " E"], rng: np.random.Generator) -> Int64[np.ndarray, " E"]:
    """Returns labels that divide each user's rows at random by 8:1:1.

    Validation and test get a tenth of the user's rows each, rounded down but at least one; a user with fewer than three
    rows stays in train.
    """
    counts = np.bincount(users)
    return _last_of_each_user(users, rng.permutation(len(users)), np.maximum(counts // 10, 1))


def leave_one_out_split(
    users: Int64[np.ndarray, " E"], times: np.ndarray | None, rng: np.random.Generator
) -> Int64[np.ndarray, " E"]:
    """Returns labels with one test and one validation row per user: the last and the last but one.

    Rows are ordered by time, equal times at random; without times, at random. A user with fewer than three rows stays
    in train.
    """
    order = rng.permutation(len(users))
    if times is not None:
        order = np.argsort(np.lexsort((order, times)))
    return _last_of_each_user(users, order, np.ones(int(users.max()) + 1, dtype=np.int64))


def global_time_split(times: np.ndarray) -> Int64[np.ndarray, " E"]:
    """Returns labels by two moments: up to the 80 % quantile train, up to the 90 % quantile validation, then test.

    Rows of equal time are never separated, so nothing in train is later than anything in validation or test.
    """
    ordered = np.sort(times)
    last_train, last_valid = (ordered[(len(times) * tenths + 9) // 10 - 1] for tenths in (8, 9))
    labels: np.ndarray = (times > last_train).astype(np.int64) + (times > last_valid)
    return labels


def _last_of_each_user(users: np.ndarray, order: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Labels each user's last `held_out` rows in the given order as test, as many before them as validation."""
    counts = np.bincount(users)
    by_user = np.lexsort((order, users))
    from_end = (np.cumsum(counts) - 1)[users[by_user]] - np.arange(len(users))
    share = np.where(counts >= 3, held_out, 0)[users[by_user]]
    labels = np.empty(len(users), dtype=np.int64)
    labels[by_user] = np.where(from_end < share, TEST, np.where(from_end < 2 * share, VALID, TRAIN))
    return labels


def _rows(table: InteractionTable, chosen: np.ndarray) -> Interactions:
    return Interactions(table.users[chosen], table.items[chosen])


def _scorable(table: InteractionTable, chosen: np.ndarray, known: np.ndarray) -> tuple[Interactions, Dropped]:
    kept = chosen & known[table.users]
    left_out = table.users[chosen & ~kept]
    return _rows(table, kept), Dropped(users=len(np.unique(left_out)), interactions=len(left_out))
