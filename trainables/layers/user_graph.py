"""Users who share items (DualGNN, DRAGON): who they are, and their weights in one epoch. NumPy and SciPy, no torch.

Shapes: U users, I items, L stored neighbours.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64
from scipy import sparse

from trainables.errors import ModelError
from trainables.layers.graphs import CsrArrays


def co_occurrence(interactions: CsrArrays, limit: int, block_products: int = 2**22) -> CsrArrays:
    """Returns the graph [U, U] from every user to the `limit` others with whom they share most items.

    A value is the number of shared items, the entry of R Rᵀ; of equal numbers those of the lowest ids stay. R Rᵀ exists
    for as many users at a time as take about `block_products` multiplications.

    Args:
        interactions: R [U, I], 1 at every training pair.

    Raises:
        ModelError: the limit is below 1.
    """
    if limit < 1:
        raise ModelError(f"a user graph must have `limit >= 1`, but got {limit=}")
    by_user = interactions.to_scipy()
    by_item = by_user.transpose().tocsr()
    num_users = by_user.shape[0]
    products = np.cumsum(by_user @ np.diff(by_item.indptr))
    starts = np.flatnonzero(np.diff(products // block_products, prepend=-1)).tolist()
    ends = [*starts[1:], num_users]
    blocks = [_largest(by_user[start:end] @ by_item, start, limit) for start, end in zip(starts, ends, strict=True)]
    numbers, neighbours, shared = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return CsrArrays(
        indptr=np.append(0, np.cumsum(numbers)).astype(np.int32),
        indices=neighbours.astype(np.int32),
        values=shared,
        shape=(num_users, num_users),
    )


def _largest(block: sparse.csr_array, first: int, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(how many a row, columns, values) of the `limit` largest entries of rows first.. of R Rᵀ, off its diagonal."""
    block.sort_indices()
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    values = np.where(block.indices == first + rows, 0.0, block.data)
    order = np.lexsort((-values, rows))  # stable: of equal values the lowest column comes first
    chosen = np.sort(order[np.arange(len(rows)) - block.indptr[rows] < limit])
    chosen = chosen[values[chosen] > 0.0]
    return np.bincount(rows[chosen], minlength=block.shape[0]), block.indices[chosen], values[chosen]


def padding_repeats(neighbours: CsrArrays, length: int, generator: np.random.Generator) -> Int64[np.ndarray, " L"]:
    """Returns how often each neighbour stands in its user's list when lists are padded to `length`.

    Every neighbour stands there once; a list that is too short is filled with neighbours drawn evenly from it, with
    replacement. A user without neighbours keeps an empty list.
    """
    number = np.diff(neighbours.indptr)
    missing = np.where(number > 0, np.maximum(length - number, 0), 0)
    owners = np.repeat(np.arange(len(number)), missing)
    drawn = neighbours.indptr[owners] + (generator.random(len(owners)) * number[owners]).astype(np.int64)
    return 1 + np.bincount(drawn, minlength=len(neighbours.indices))


def softmax_rows(graph: CsrArrays, repeats: Int64[np.ndarray, " L"]) -> CsrArrays:
    """Returns the graph with each row's values v replaced by r exp(v) / Σ r exp(v); empty rows stay.

    Args:
        repeats: r, how often each stored entry counts in its row; equal entries of a list add up.
    """
    number = np.diff(graph.indptr)
    filled = number > 0
    starts = graph.indptr[:-1][filled]

    def of_row(totals: np.ndarray) -> np.ndarray:
        return np.repeat(totals, number[filled])

    weights = repeats * np.exp(graph.values - of_row(np.maximum.reduceat(graph.values, starts)))
    return replace(graph, values=weights / of_row(np.add.reduceat(weights, starts)))
