"""One epoch of training pairs: a full shuffle, with negatives that the user has not met."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from trainables.data.bundle import Interactions
from trainables.errors import DataError

BITMAP_BYTES = 2**20
_MAX_ROUNDS = 32
_BLOCK_ROWS = 16_384

Membership: TypeAlias = Callable[[np.ndarray], np.ndarray]


class EpochSampler:
    """Draws epochs of (user, positive, negatives) from the training pairs; holds no random state of its own.

    A negative is uniform over the items that occur in train and that the user has no training pair with (models.md,
    section 0). The numbers depend on the two generators alone, not on which of the two membership tests is in use.
    """

    def __init__(
        self,
        train: Interactions,
        num_users: int,
        num_items: int,
        *,
        negatives: bool = True,
        bitmap_bytes: int = BITMAP_BYTES,
    ) -> None:
        """Prepares the membership test.

        Args:
            negatives: False for models that learn without; then no user can be unfit and epochs have K = 0.
            bitmap_bytes: the test is one bit per (user, item) where that fits in, else a search in sorted pairs.

        Raises:
            DataError: negatives are wanted and a user has every item of the training split.
        """
        # Sorted by user, so that looking up negatives in this order walks through memory instead of jumping in it.
        keys = np.sort(train.users * num_items + train.items)
        self._users, self._items = np.divmod(keys, num_items)
        self._num_items = num_items
        self._candidates = np.unique(train.items)
        self._negatives = negatives
        if negatives:
            self._check_every_user_has_negatives()
            fits = num_users * num_items <= 8 * bitmap_bytes
            self._is_positive = _bitmap_test(keys, num_users * num_items) if fits else _sorted_test(keys)

    def epoch(
        self, batch_rng: np.random.Generator, negative_rng: np.random.Generator, num_negatives: int
    ) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"], Int64[np.ndarray, "E K"]]:
        """Returns every training pair once, shuffled, as users [E], positives [E] and negatives [E, K].

        Args:
            batch_rng: shuffles.
            negative_rng: draws negatives, so that their number does not change the order of the pairs.
            num_negatives: K per pair; 0 draws nothing.
        """
        if num_negatives and not self._negatives:
            raise DataError(f"a sampler made without negatives must be asked for none, but got {num_negatives=}")
        negatives = np.empty((len(self._users), num_negatives), dtype=np.int64)
        # In blocks whose temporaries stay in the processor's cache.
        for start in range(0, len(negatives) if num_negatives else 0, _BLOCK_ROWS):
            users = np.repeat(self._users[start : start + _BLOCK_ROWS], num_negatives)
            negatives[start : start + _BLOCK_ROWS] = self._draw(users, negative_rng).reshape(-1, num_negatives)
        order = batch_rng.permutation(len(negatives))
        return self._users.take(order), self._items.take(order), negatives.take(order, axis=0)

    def _draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns one negative per given user: all are drawn, then only those that are positives are drawn again."""
        negatives = self._candidates[rng.integers(len(self._candidates), size=len(users))]
        offsets = users * self._num_items
        open_rows = np.flatnonzero(self._is_positive(offsets + negatives))
        for _ in range(_MAX_ROUNDS):
            if not len(open_rows):
                return negatives
            drawn = self._candidates[rng.integers(len(self._candidates), size=len(open_rows))]
            negatives[open_rows] = drawn
            open_rows = open_rows[self._is_positive(offsets[open_rows] + drawn)]
        # Who is still open has nearly every item: choose among the few others, which has the same distribution.
        for row in open_rows:
            others = self._candidates[~self._is_positive(offsets[row] + self._candidates)]
            negatives[row] = others[rng.integers(len(others))]
        return negatives

    def _check_every_user_has_negatives(self) -> None:
        counts = np.bincount(self._users)
        full = np.flatnonzero(counts >= len(self._candidates))
        if len(full):
            raise DataError(
                f"every user must lack an item of the training split to have negatives, but user {full[0]} has all "
                f"{len(self._candidates)} of them ({len(full)} such users)"
            )


def _bitmap_test(keys: np.ndarray, size: int) -> Membership:
    bits = np.zeros((size + 7) // 8, dtype=np.uint8)
    np.bitwise_or.at(bits, keys >> 3, np.left_shift(1, keys & 7).astype(np.uint8))

    def is_positive(queries: np.ndarray) -> np.ndarray:
        found: np.ndarray = bits.take(queries >> 3) >> (queries.astype(np.uint8) & 7) & 1
        return found.view(np.bool_)

    return is_positive


def _sorted_test(ordered: np.ndarray) -> Membership:
    def is_positive(queries: np.ndarray) -> np.ndarray:
        places = np.minimum(np.searchsorted(ordered, queries), len(ordered) - 1)
        found: np.ndarray = ordered[places] == queries
        return found

    return is_positive
