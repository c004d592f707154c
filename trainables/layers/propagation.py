"""Sparse propagation over the user-item graph and over item-item graphs, with hand-written backward passes.

The two halves R̂ [U, I] and R̂ᵀ [I, U] of the symmetric adjacency are multiplied separately: exactly the product with the
N x N matrix, cheaper on one core and parallel over rows on several (performance.md). CSR with 32-bit indices, because
that is the layout that MKL and cuSPARSE are fast on.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.devices import finds_rows
from trainables.layers.graphs import CsrArrays
from trainables.layers.tensors import shared_tensor


def csr_tensor(arrays: CsrArrays, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix as a CSR tensor on the CPU; it shares the memory of the structure, and copies the values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(
            shared_tensor(arrays.indptr),
            shared_tensor(arrays.indices),
            shared_tensor(arrays.values).to(dtype, copy=True),
            arrays.shape,
            check_invariants=False,
        )


class SparseOperator(nn.Module):
    """A constant sparse matrix [R, C] with its transpose [C, R], so that a backward pass never transposes.

    A module, so that it moves with its model to another device or precision (from float32 to float64 the values are
    taken anew, not widened); it has no weights and no state to save. On a CPU the transpose is made when it is first
    asked for: of a large graph whose rows are only looked up (`UserAttention`) it would be memory that nothing reads.
    """

    matrix: Tensor

    def __init__(self, arrays: CsrArrays) -> None:
        super().__init__()
        self._arrays = arrays
        self.register_buffer("matrix", csr_tensor(arrays), persistent=False)
        self._transpose: Tensor | None = None

    @property
    def transpose(self) -> Tensor:
        """The transposed matrix [C, R], where and as precise as the matrix."""
        if self._transpose is None:
            self._transpose = csr_tensor(self._arrays.transpose(), self.matrix.dtype).to(self.matrix.device)
        return self._transpose

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseOperator":
        before = self.matrix.dtype, self.matrix.device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype, device = self.matrix.dtype, self.matrix.device
        if dtype.itemsize > before[0].itemsize:
            self.matrix = csr_tensor(self._arrays, dtype).to(device)
        if (dtype, device) != before:
            self._transpose = None
        if not finds_rows(self.matrix):
            self._transpose = self.transpose
        return self

    @property
    def adjacency(self) -> "Adjacency":
        """The symmetric adjacency of which this matrix is the user-item half."""
        return Adjacency(self.matrix, self.transpose, self.transpose, self.matrix)

    def forward(self, dense: Float[Tensor, "C W"]) -> Float[Tensor, "R W"]:
        """The sparse matrix times the dense one, differentiable (any number of times) in the dense one."""
        return _product(self.matrix, self.transpose, dense)


def sparse_product(matrix: Float[Tensor, "R C"], dense: Float[Tensor, "C W"]) -> Float[Tensor, "R W"]:
    """matrix @ dense of a CSR matrix, not differentiable, in half the time or less.

    In float32 a row of the result is a weighted bag of embeddings, by a kernel that fetches rows ahead of their use: at
    Baby's size it takes half of MKL's time with 64 columns and a third with 384. Elsewhere it is the product into an
    empty matrix, because `@` fills two results with zeros first.
    """
    dense = dense.detach()
    if dense.device.type == "cpu" and dense.dtype == torch.float32:
        columns, starts, values = matrix.col_indices(), matrix.crow_indices(), matrix.values()
        bags: Tensor = nn.functional.embedding_bag(
            columns, dense, starts, mode="sum", per_sample_weights=values, include_last_offset=True
        )
        return bags
    return dense.new_empty(len(matrix), dense.shape[1]).addmm_(matrix, dense, beta=0)


class _Product(torch.autograd.Function):
    """matrix @ dense; the gradient with respect to the dense operand is matrixᵀ @ gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        return sparse_product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _product(ctx.transpose, ctx.matrix, gradient)


def _product(matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
    result: Tensor = _Product.apply(matrix, transpose, dense)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True, eq=False)
class Adjacency:
    """The adjacency [[0, to_users], [to_items, 0]] of a user-item graph, symmetric or not, and its transpose.

    Attributes:
        to_users: [U, I], CSR; what users take from items.
        to_items: [I, U].
        to_users_transposed: [I, U].
        to_items_transposed: [U, I].
    """

    to_users: Tensor
    to_items: Tensor
    to_users_transposed: Tensor
    to_items_transposed: Tensor

    @property
    def transposed(self) -> "Adjacency":
        """The transpose of the whole: what a backward pass propagates over."""
        return Adjacency(self.to_items_transposed, self.to_users_transposed, self.to_items, self.to_users)

    def neighbours(
        self, users: Float[Tensor, "U W"], items: Float[Tensor, "I W"]
    ) -> tuple[Float[Tensor, "U W"], Float[Tensor, "I W"]]:
        """One hop: the adjacency times [users; items], differentiable in both."""
        return (
            _product(self.to_users, self.to_users_transposed, items),
            _product(self.to_items, self.to_items_transposed, users),
        )


def _mean_of_layers(graph: Adjacency, users: Tensor, items: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
    ends = [_horner(graph, users, items, num_layers, from_users=side) for side in (True, False)]
    return (ends[0], ends[1]) if num_layers % 2 == 0 else (ends[1], ends[0])


def _horner(graph: Adjacency, users: Tensor, items: Tensor, num_layers: int, *, from_users: bool) -> Tensor:
    """One side of (E + Â(E + Â(E + ...))) / (L + 1): hop l of it needs the other side's hop l - 1 only.

    So there are two independent chains of products, and within one each product reads what the last one wrote, which is
    still in the cache; hop by hop over both sides it would not be.
    """
    value = (users if from_users else items).clone() if num_layers == 0 else (users if from_users else items)
    for hops_left in reversed(range(num_layers)):
        start, half = (items, graph.to_items) if from_users else (users, graph.to_users)
        value = sparse_product(half, value).add_(start)
        if not hops_left:
            value.div_(num_layers + 1)
        from_users = not from_users
    return value


class _LightPropagation(torch.autograd.Function):
    """The mean of Âˡ E over l = 0..L. The backward pass is the same function of the gradients, over Âᵀ."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, graph: Adjacency, num_layers: int) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.num_layers = graph, num_layers
        return _mean_of_layers(graph, users, items, num_layers)

    @staticmethod
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *light_propagation(ctx.graph.transposed, users, items, ctx.num_layers), None, None


def light_propagation(
    graph: SparseOperator | Adjacency, users: Float[Tensor, "U W"], items: Float[Tensor, "I W"], num_layers: int
) -> tuple[Float[Tensor, "U W"], Float[Tensor, "I W"]]:
    """LightGCN's propagation LGN_L (He et al., SIGIR 2020): the mean of layers 0..L of Âˡ [users; items].

    Args:
        graph: Â, or R̂ [U, I] for the symmetric one of which it is the user-item half.
        num_layers: L; 0 returns the input.
    """
    adjacency = graph.adjacency if isinstance(graph, SparseOperator) else graph
    result: tuple[Tensor, Tensor] = _LightPropagation.apply(users, items, adjacency, num_layers)  # type: ignore[no-untyped-call]
    return result
