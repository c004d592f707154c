"""Sparse graphs of a data set as plain arrays: pure functions of numpy and scipy, without torch.

Shapes: U users, I items, E interactions (edges), F width of a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64
from scipy import sparse

from trainables.errors import ModelError

DEGREE_EPSILON = 1e-7

_SIMILARITIES_AT_ONCE = 2**24
_GROUP = 64
_GROUPS_WORTH_IT = 8  # groups of columns for each one that is sought, from which on it pays to look at them first

PruneRule: TypeAlias = Literal["degree", "uniform"]


def read_only(array: np.ndarray) -> np.ndarray:
    """Returns a view of the array through which nobody can write; the data are not copied."""
    view = array.view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True, eq=False)
class CsrArrays:
    """A sparse matrix in compressed rows, columns sorted within each row, every array read-only.

    Attributes:
        indptr: [rows + 1], where each row starts in `indices`.
        indices: [nnz], the column of each stored value.
        values: [nnz].
        shape: (rows, columns).
    """

    indptr: Int32[np.ndarray, " starts"]
    indices: Int32[np.ndarray, " nnz"]
    values: Float64[np.ndarray, " nnz"]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("indptr", "indices", "values"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __reduce__(self) -> tuple[type["CsrArrays"], tuple[object, ...]]:
        # Through the constructor, because pickle forgets that an array is read-only.
        return (CsrArrays, (self.indptr, self.indices, self.values, self.shape))

    def transpose(self) -> "CsrArrays":
        """Returns the transposed matrix, again in compressed rows."""
        return _from_scipy(self.to_scipy().transpose().tocsr())

    def to_scipy(self) -> sparse.csr_array:
        """Returns a scipy matrix that shares these (read-only) arrays."""
        return sparse.csr_array((self.values, self.indices, self.indptr), shape=self.shape)


def _from_scipy(matrix: sparse.csr_array) -> CsrArrays:
    matrix.sort_indices()
    rows, columns = matrix.shape
    return CsrArrays(
        indptr=matrix.indptr.astype(np.int32, copy=False),
        indices=matrix.indices.astype(np.int32, copy=False),
        values=matrix.data.astype(np.float64, copy=False),
        shape=(int(rows), int(columns)),
    )


def binary_bipartite(
    users: Int64[np.ndarray, " E"], items: Int64[np.ndarray, " E"], num_users: int, num_items: int
) -> CsrArrays:
    """Returns R [U, I], 1 at every edge.

    Raises:
        ModelError: no edge, or one that occurs twice.
    """
    if len(users) == 0:
        raise ModelError("a graph must have an edge, but got none")
    matrix = sparse.coo_array((np.ones(len(users)), (users, items)), shape=(num_users, num_items)).tocsr()
    if matrix.nnz != len(users):
        raise ModelError(f"the edges of a graph must be distinct, but {len(users) - matrix.nnz} of them are repeated")
    return _from_scipy(matrix)


def normalised_bipartite(
    users: Int64[np.ndarray, " E"],
    items: Int64[np.ndarray, " E"],
    num_users: int,
    num_items: int,
    epsilon: float = DEGREE_EPSILON,
) -> CsrArrays:
    """Returns R̂ [U, I], the upper right block of the symmetrically normalised adjacency Â (models.md, section 0).

    The value of edge (u, i) is (d_u + ε)^-1/2 (d_i + ε)^-1/2, with the degrees counted over the given edges; the lower
    left block of Â is `.transpose()`. A user or item without an edge has an empty row or column.

    Raises:
        ModelError: no edge, or one that occurs twice.
    """
    graph = binary_bipartite(users, items, num_users, num_items)
    user_degree, item_degree = np.diff(graph.indptr), np.bincount(graph.indices, minlength=num_items)
    ends = np.repeat(user_degree + epsilon, user_degree), item_degree[graph.indices] + epsilon
    return replace(graph, values=ends[0] ** -0.5 * ends[1] ** -0.5)


def row_mean(graph: CsrArrays, epsilon: float = 0.0) -> CsrArrays:
    """Returns the graph with each row's values divided by (their number + ε): a mean; empty rows stay."""
    degree = np.diff(graph.indptr)
    return replace(graph, values=graph.values / np.repeat(degree + epsilon, degree))


def item_knn(features: Float[np.ndarray, "I F"], k: int, block_rows: int | None = None) -> CsrArrays:
    """Returns the directed graph [I, I] from every item to its k nearest items by cosine, itself among them.

    Every stored value is 1 / (k + 1e-7): normalising binary edges by the row degree, which is k everywhere, leaves
    nothing else (models.md, section 0). The item itself is always kept; equal similarities go to the lowest index. A
    zero row is equally far from all. The similarities exist for `block_rows` items at a time; by default for 512, or
    for as many as make 64 MB where items are many.

    Raises:
        ModelError: k lies outside 1..I.
    """
    num_items = len(features)
    if not 1 <= k <= num_items:
        raise ModelError(f"an item graph must have `1 <= k <= number of items`, but got {k=} for {num_items} items")
    if block_rows is None:
        block_rows = min(512, max(64, _SIMILARITIES_AT_ONCE // num_items))
    unit = _unit_rows(features)
    neighbours = np.empty((num_items, k), dtype=np.int32)
    memory = np.empty((min(block_rows, num_items), num_items), dtype=unit.dtype)
    for start in range(0, num_items, block_rows):
        rows = np.arange(min(block_rows, num_items - start))
        similarity = np.matmul(unit[start : start + block_rows], unit.T, out=memory[: len(rows)])  # [block, I]
        similarity[rows, start + rows] = np.inf
        neighbours[start : start + block_rows] = _largest_columns(similarity, k)
    return CsrArrays(
        indptr=np.arange(0, num_items * k + 1, k, dtype=np.int32),
        indices=np.sort(neighbours, axis=1).reshape(-1),
        values=np.full(num_items * k, 1.0 / (k + DEGREE_EPSILON)),
        shape=(num_items, num_items),
    )


def _unit_rows(features: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("id,id->i", features, features, dtype=np.float64))
    unit: np.ndarray = features / np.where(lengths > 0.0, lengths, 1.0).astype(features.dtype)[:, None]
    return unit


def _largest_columns(matrix: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns [rows, k] of each row's k largest values; of equal ones those with the lowest index.

    Of many columns only those are sorted that can be among them. A column belongs to one of G groups (column modulo G);
    k groups have a maximum of at least the k-th largest one, so every value that counts is as large, and lies in one of
    these groups. Rows where more than k groups tie for that are sorted whole.
    """
    num_groups = matrix.shape[1] // _GROUP
    if num_groups < _GROUPS_WORTH_IT * k:
        return _sorted_columns(matrix, k)
    grouped = matrix[:, : num_groups * _GROUP].reshape(len(matrix), _GROUP, num_groups)
    maxima = grouped.max(axis=1)
    least = np.partition(maxima, num_groups - k, axis=1)[:, num_groups - k, None]
    near = maxima >= least
    clear = np.flatnonzero(near.sum(axis=1) == k)
    groups = np.nonzero(near[clear])[1].reshape(-1, 1, k)
    inside = (groups + num_groups * np.arange(_GROUP)[:, None]).reshape(len(clear), -1)
    rest = np.broadcast_to(np.arange(num_groups * _GROUP, matrix.shape[1]), (len(clear), matrix.shape[1] % _GROUP))
    columns = np.sort(np.hstack([inside, rest]), axis=1)
    places = _sorted_columns(matrix[clear[:, None], columns], k)
    chosen = np.empty((len(matrix), k), dtype=np.int64)
    chosen[clear] = np.take_along_axis(columns, places, axis=1)
    if len(tied := np.setdiff1d(np.arange(len(matrix)), clear)):
        chosen[tied] = _sorted_columns(matrix[tied], k)
    return chosen


def _sorted_columns(matrix: np.ndarray, k: int) -> np.ndarray:
    first = matrix.shape[1] - k
    chosen = np.argpartition(matrix, first, axis=1)[:, first:]
    smallest = np.take_along_axis(matrix, chosen, axis=1).min(axis=1)
    tied = np.flatnonzero(np.count_nonzero(matrix >= smallest[:, None], axis=1) > k)
    if len(tied):
        chosen[tied] = np.argsort(-matrix[tied], axis=1, kind="stable")[:, :k]
    return chosen


def weighted_sum(graphs: Sequence[CsrArrays], weights: Sequence[float]) -> CsrArrays:
    """Returns the sum of weight x graph over graphs of one shape; a graph of weight 0 leaves no entries.

    Raises:
        ModelError: no graph, a weight too many or too few, or shapes that differ.
    """
    if not graphs or len(graphs) != len(weights):
        raise ModelError(
            f"a sum of graphs must have one weight for each, but got {len(graphs)} graphs and {len(weights)} weights"
        )
    if len({graph.shape for graph in graphs}) > 1:
        raise ModelError(f"graphs that are added must have one shape, but got {[graph.shape for graph in graphs]}")
    total = weights[0] * graphs[0].to_scipy()
    for graph, weight in zip(graphs[1:], weights[1:], strict=True):
        total = total + weight * graph.to_scipy()
    total.eliminate_zeros()
    return _from_scipy(total)


def prune_edges(
    users: Int64[np.ndarray, " E"],
    items: Int64[np.ndarray, " E"],
    dropout: float,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int],
    rule: PruneRule = "degree",
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " kept"]]:
    """Returns exactly floor(E (1 - dropout)) of the edges, drawn without replacement, in their old order.

    Under `degree` each draw takes an edge with probability proportional to (d_u d_i)^-1/2 among those left, which
    spares edges between unpopular ends (FREEDOM, LayerGCN); under `uniform` all are alike. The floor is taken of the
    decimal number that was written: dropout 0.8 leaves 20 of 100 edges, where binary fractions would leave 19.

    Args:
        dropout: share of the edges left out, in [0, 1).
        shape: (U, I).

    Raises:
        ModelError: dropout outside its range, or so high that no edge would be left.
    """
    kept = len(users) - ceil(len(users) * Fraction(repr(float(dropout)))) if 0.0 <= dropout < 1.0 else 0
    if kept < 1:
        raise ModelError(f"dropout must lie in [0, 1) and leave an edge, but got {dropout=} for {len(users)} edges")
    # Of independent times, Exponential with rates w, edge e is the first with probability w_e / sum(w); then the next.
    times = rng.standard_exponential(len(users))
    if rule == "degree":
        user_degree, item_degree = (
            np.bincount(ids, minlength=size) for ids, size in zip((users, items), shape, strict=True)
        )
        times *= np.sqrt(user_degree[users] * item_degree[items])
    chosen = np.sort(np.argpartition(times, kept - 1)[:kept])
    return users[chosen], items[chosen]
