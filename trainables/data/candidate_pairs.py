"""Drawing interactions of a synthetic data set that is too large to look at every pair of user and item."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

_PER_CHOICE = 8
"""Candidates looked at for each pair that is drawn."""
_BLOCK_CELLS = 2**20


def draw_by_candidates(
    user_factors: Float64[np.ndarray, "U L"],
    item_factors: Float64[np.ndarray, "I L"],
    activity: Float64[np.ndarray, " U"],
    appeal: Float64[np.ndarray, " I"],
    min_per_item: int,
    draw_counts: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """Returns distinct pairs, sorted by user and item, as many of each user as `draw_counts` says.

    First every item takes its minimum of users, then users fill up. Who chooses looks at a few candidates, drawn by
    their activity or appeal, and takes those with the largest taste + Gumbel noise: as `synthesize` does over all, but
    over a sample. Memory goes with the number of pairs, not with users x items.

    Args:
        item_factors: scaled, so that the inner product with a user's is the log-odds of taste.
        activity, appeal: log-odds of users and items.
        draw_counts: pairs that each user has so far -> how many each user gets, at least as many.
    """
    num_items = len(item_factors)
    wanted = np.full(num_items, min_per_item)
    items, users = _choose(item_factors, user_factors, activity, wanted, np.empty(0, dtype=np.int64), rng)
    forced = np.sort(users * num_items + items)
    had = np.bincount(users, minlength=len(user_factors))
    users, items = _choose(user_factors, item_factors, appeal, draw_counts(had) - had, forced, rng)
    return np.divmod(np.sort(np.concatenate([forced, users * num_items + items])), num_items)


def _choose(
    rows: np.ndarray,
    columns: np.ndarray,
    bias: np.ndarray,
    wanted: np.ndarray,
    taken: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (row, column) of `wanted[row]` distinct columns for every row, none of whose keys is in `taken`."""
    narrow = rows.astype(np.float32), columns.astype(np.float32)
    share = np.cumsum(np.exp(bias - bias.max()))
    chosen = []
    # Rows that want alike many stand together, so that a block has as many candidates as each of its rows needs.
    open_rows, factor = np.argsort(wanted, kind="stable"), _PER_CHOICE
    open_rows = open_rows[wanted[open_rows] > 0]
    while len(open_rows):
        left, start = [], 0
        while start < len(open_rows):
            block, width = _block(open_rows[start:], wanted, factor, len(columns))
            candidates = _candidates(share / share[-1], len(block), width, rng)
            odds = np.einsum("rl,rcl->rc", narrow[0][block], narrow[1][candidates])
            odds -= np.log(rng.standard_exponential(odds.shape)).astype(np.float32)
            odds[_unfit(candidates, block, len(columns), taken)] = -np.inf
            done = np.isfinite(odds).sum(axis=1) >= wanted[block]
            chosen.append(_best(odds[done], candidates[done], block[done], wanted))
            left.append(block[~done])
            start += len(block)
        # A row whose candidates were too much alike looks at more of them, in the end at all.
        open_rows, factor = np.concatenate(left), 4 * factor
    if not chosen:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate([pair[0] for pair in chosen]), np.concatenate([pair[1] for pair in chosen])


def _block(open_rows: np.ndarray, wanted: np.ndarray, factor: int, num_columns: int) -> tuple[np.ndarray, int]:
    """Returns the next rows, and how many candidates each of them has."""
    size = max(1, _BLOCK_CELLS // min(num_columns, factor * int(wanted[open_rows[0]])))
    # Within a block the last row wants most.
    block = open_rows[:size]
    while len(block) > 1 and min(num_columns, factor * int(wanted[block[-1]])) * len(block) > 2 * _BLOCK_CELLS:
        block = block[: len(block) // 2]
    return block, min(num_columns, factor * int(wanted[block[-1]]))


def _candidates(share: np.ndarray, num_rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Columns drawn by their share, sorted in each row; every column where that many are asked for."""
    if width == len(share):
        return np.tile(np.arange(width), (num_rows, 1))
    drawn = np.searchsorted(share, rng.random((num_rows, width)), side="right")
    return np.sort(np.minimum(drawn, len(share) - 1), axis=1)


def _unfit(candidates: np.ndarray, block: np.ndarray, num_columns: int, taken: np.ndarray) -> np.ndarray:
    """Where a candidate repeats the one before it, or makes a pair that is taken."""
    unfit = np.zeros(candidates.shape, dtype=np.bool_)
    unfit[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
    if len(taken):
        keys = block[:, None] * num_columns + candidates
        places = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        unfit |= taken[places] == keys
    return unfit


def _best(
    odds: np.ndarray, candidates: np.ndarray, block: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-odds, axis=1, kind="stable")
    rows, ranks = np.nonzero(np.arange(odds.shape[1]) < wanted[block][:, None])
    return block[rows], candidates[rows, order[rows, ranks]]
