"""User-item graphs that lose edges at random: anew in every training pass, or once an epoch."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from trainables.layers.dropout import dropout_factors
from trainables.layers.graphs import CsrArrays, PruneRule, normalised_bipartite, prune_edges
from trainables.layers.propagation import Adjacency, SparseOperator


class DroppableAdjacency(nn.Module):
    """The symmetric Â of a user-item graph, from which single stored non-zeros can be dropped.

    Both passes multiply with CSR matrices of the whole graph's structure whose dropped values are 0; the transposes'
    values come by a permutation that is found once.
    """

    order: Tensor
    """[E], where in R̂ each value of R̂ᵀ stands."""

    def __init__(self, graph: CsrArrays) -> None:
        """Takes R̂ [U, I], the user-item half of Â."""
        super().__init__()
        self.whole = SparseOperator(graph)
        places = replace(graph, values=np.arange(len(graph.values), dtype=np.float64)).transpose().values
        self.register_buffer("order", torch.from_numpy(places.astype(np.int64)), persistent=False)

    def forward(self, rate: float = 0.0) -> Adjacency:
        """Â without each of its non-zeros with probability `rate`, in [0, 1), the others times 1 / (1 - rate).

        The two directions of an edge are dropped independently. Rate 0 draws nothing.
        """
        if rate == 0:
            return self.whole.adjacency
        values = self.whole.matrix.values()
        to_users, from_users = values * dropout_factors((2, len(values)), rate, values)
        return Adjacency(
            to_users=_with_values(self.whole.matrix, to_users),
            to_items=_with_values(self.whole.transpose, from_users.index_select(0, self.order)),
            to_users_transposed=_with_values(self.whole.transpose, to_users.index_select(0, self.order)),
            to_items_transposed=_with_values(self.whole.matrix, from_users),
        )


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    structure = matrix.crow_indices(), matrix.col_indices()
    return torch.sparse_csr_tensor(*structure, values, matrix.shape, check_invariants=False)


def uniform_rate() -> float:
    """A dropout rate from U(0, 1), by the global torch generator."""
    return float(torch.rand(()))


def pruned_graph(
    users: Int64[np.ndarray, " E"],
    items: Int64[np.ndarray, " E"],
    shape: tuple[int, int],
    dropout: float,
    generator: np.random.Generator,
    rule: PruneRule = "degree",
) -> SparseOperator:
    """R̂ over exactly ⌊E (1 - dropout)⌋ of the edges, normalised by their own degrees; see `prune_edges`."""
    kept = prune_edges(users, items, dropout, generator, shape=shape, rule=rule)
    return SparseOperator(normalised_bipartite(*kept, *shape))
