"""Values on the edges of a user-item graph: how well both ends agree, softmax over a node's edges, weighted sums.

No vector is ever written per edge: the inner products of all edges are one sampled dense product (SDDMM), a weighted
sum over neighbours is one sparse product, and their gradients are products of these two kinds again.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trainables.layers.graphs import CsrArrays
from trainables.layers.propagation import csr_tensor, sparse_product


class BipartiteEdges(nn.Module):
    """The E edges of a user-item graph; a vector [E] of values on them is in the order of users, then of items.

    Holds the same edges item by item too, so that nothing is sorted later. A user or item without an edge receives 0.
    Everything is differentiable any number of times.
    """

    pattern: Tensor
    pattern_by_item: Tensor
    by_item: Tensor
    users: Tensor

    def __init__(self, interactions: CsrArrays) -> None:
        super().__init__()
        blank = replace(interactions, values=np.zeros_like(interactions.values))
        by_item = np.argsort(interactions.indices, kind="stable")
        users = np.repeat(np.arange(interactions.shape[0]), np.diff(interactions.indptr))
        self.register_buffer("pattern", csr_tensor(blank), persistent=False)
        self.register_buffer("pattern_by_item", csr_tensor(blank.transpose()), persistent=False)
        self.register_buffer("by_item", torch.from_numpy(by_item), persistent=False)
        self.register_buffer("users", torch.from_numpy(users), persistent=False)

    @property
    def items(self) -> Int[Tensor, " E"]:
        """The item at the end of every edge; `users` are those at the other."""
        return self.pattern.col_indices()

    def products(self, users: Float[Tensor, "U W"], items: Float[Tensor, "I W"]) -> Float[Tensor, " E"]:
        """The inner product of the two ends of every edge."""
        result: Tensor = _Products.apply(users, items, self)  # type: ignore[no-untyped-call]
        return result

    def user_softmax(self, values: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
        """The softmax of the values over the edges of each user."""
        result: Tensor = _Softmax.apply(values, self, True)  # type: ignore[no-untyped-call]
        return result

    def item_softmax(self, values: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
        """The softmax of the values over the edges of each item."""
        result: Tensor = _Softmax.apply(values, self, False)  # type: ignore[no-untyped-call]
        return result

    def to_users(self, weights: Float[Tensor, " E"], items: Float[Tensor, "I W"]) -> Float[Tensor, "U W"]:
        """Each user's sum of its items, weighted by the edges."""
        result: Tensor = _WeightedSum.apply(weights, items, self, True)  # type: ignore[no-untyped-call]
        return result

    def to_items(self, weights: Float[Tensor, " E"], users: Float[Tensor, "U W"]) -> Float[Tensor, "I W"]:
        """Each item's sum of its users, weighted by the edges."""
        result: Tensor = _WeightedSum.apply(weights, users, self, False)  # type: ignore[no-untyped-call]
        return result

    def matrix(self, weights: Float[Tensor, " E"]) -> Float[Tensor, "U I"]:
        """The sparse matrix of the weights, in compressed rows."""
        return _filled(self.pattern, weights)

    def matrix_by_item(self, weights: Float[Tensor, " E"]) -> Float[Tensor, "I U"]:
        """The transpose of `matrix`, again in compressed rows."""
        return _filled(self.pattern_by_item, weights.index_select(0, self.by_item))

    def gather(self, values: Float[Tensor, " E"], how: Literal["sum", "max"], per_user: bool) -> Float[Tensor, " E"]:
        """On every edge the sum or maximum of the values over all edges of its user, or of its item."""
        pattern = self.pattern if per_user else self.pattern_by_item
        sorted_values = values if per_user else values.index_select(0, self.by_item)
        gathered = torch.segment_reduce(sorted_values, how, offsets=pattern.crow_indices(), unsafe=True)
        return gathered.index_select(0, self.users if per_user else self.items)


def _filled(pattern: Tensor, values: Tensor) -> Tensor:
    starts, columns = pattern.crow_indices(), pattern.col_indices()
    matrix: Tensor = torch.sparse_csr_tensor(starts, columns, values, pattern.shape, check_invariants=False)
    return matrix


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, edges: BipartiteEdges) -> Tensor:
        ctx.save_for_backward(users, items)
        ctx.edges = edges
        products: Tensor = torch.sparse.sampled_addmm(edges.pattern, users, items.t(), beta=0.0).values()
        return products

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        users, items = ctx.saved_tensors
        return ctx.edges.to_users(gradient, items), ctx.edges.to_items(gradient, users), None


class _WeightedSum(torch.autograd.Function):
    """Per user the weighted sum of its items' rows, or per item that of its users' rows."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, table: Tensor, edges: BipartiteEdges, per_user: bool) -> Tensor:
        ctx.save_for_backward(weights, table)
        ctx.edges, ctx.per_user = edges, per_user
        return sparse_product(edges.matrix(weights) if per_user else edges.matrix_by_item(weights), table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weights, table = ctx.saved_tensors
        by_user, by_item = (gradient, table) if ctx.per_user else (table, gradient)
        by_table: Tensor = _WeightedSum.apply(weights, gradient, ctx.edges, not ctx.per_user)  # type: ignore[no-untyped-call]
        return ctx.edges.products(by_user, by_item), by_table, None, None


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: BipartiteEdges, per_user: bool) -> Tensor:
        raised = (values - edges.gather(values, "max", per_user)).exp_()
        weights = raised / edges.gather(raised, "sum", per_user)
        ctx.save_for_backward(weights)
        ctx.edges, ctx.per_user = edges, per_user
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        along = weights * gradient
        return along - weights * ctx.edges.gather(along, "sum", ctx.per_user), None, None
