"""What DualGNN and DRAGON add to a user: a weighted mean of the users who share most items with them."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trainables.devices import finds_rows
from trainables.layers.graphs import CsrArrays, weighted_sum
from trainables.layers.propagation import SparseOperator, sparse_product
from trainables.layers.tensors import rows
from trainables.layers.user_graph import padding_repeats, softmax_rows


class UserAttention(nn.Module):
    """Rows of users + S · users, S [U, U] the softmax over the numbers of items that a user shares with its neighbours.

    In training S is that of the last `redraw`, in which lists shorter than `length` are padded by random repetition; in
    evaluation, and before the first redraw, it is that of the lists as they are: scores depend on the weights alone.
    """

    def __init__(self, neighbours: CsrArrays, length: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.length = length
        self.unpadded = self._operator(np.ones(len(neighbours.values), dtype=np.int64))
        self.drawn = self.unpadded

    def redraw(self, generator: np.random.Generator) -> None:
        """Pads the lists of training anew."""
        like = self.unpadded.matrix
        drawn = self._operator(padding_repeats(self.neighbours, self.length, generator))
        self.drawn = drawn.to(like.device, like.dtype)

    def _operator(self, repeats: np.ndarray) -> SparseOperator:
        num_users = self.neighbours.shape[0]
        everyone = np.arange(num_users + 1, dtype=np.int32)
        identity = CsrArrays(everyone, everyone[:-1], np.ones(num_users), self.neighbours.shape)
        return SparseOperator(weighted_sum([identity, softmax_rows(self.neighbours, repeats)], [1.0, 1.0]))

    def forward(self, users: Float[Tensor, "U W"], ids: Int[Tensor, " B"]) -> Float[Tensor, "B W"]:
        operator = self.drawn if self.training else self.unpadded
        if not finds_rows(ids):
            return rows(operator(users), ids)
        result: Tensor = _ChosenRows.apply(operator.matrix, ids, users)  # type: ignore[no-untyped-call]
        return result


class _ChosenRows(torch.autograd.Function):
    """Rows of matrix @ dense at the given ids, by the product with those rows alone: a batch needs one in ten."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, ids: Tensor, dense: Tensor) -> Tensor:
        ctx.chosen = _chosen_rows(matrix, ids)
        return sparse_product(ctx.chosen, dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, sparse_product(_transposed(ctx.chosen), gradient)


def _chosen_rows(matrix: Tensor, ids: Tensor) -> Tensor:
    """The CSR matrix of the given rows [B, U]."""
    starts = matrix.crow_indices()
    lengths = starts.diff()[ids]
    ends = lengths.cumsum(0, dtype=torch.int32)
    places = torch.repeat_interleave(starts[ids] - (ends - lengths), lengths)
    places += torch.arange(len(places), dtype=torch.int32, device=places.device)
    return _csr(ends, matrix.col_indices()[places], matrix.values()[places], (len(ids), matrix.shape[1]))


def _transposed(matrix: Tensor) -> Tensor:
    num_rows, num_columns = matrix.shape
    columns = matrix.col_indices()
    order = columns.argsort(stable=True)
    every_row = torch.arange(num_rows, dtype=torch.int32, device=columns.device)
    ids = every_row.repeat_interleave(matrix.crow_indices().diff())
    ends = columns.bincount(minlength=num_columns).cumsum(0, dtype=torch.int32)
    return _csr(ends, ids[order], matrix.values()[order], (num_columns, num_rows))


def _csr(ends: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(nn.functional.pad(ends, (1, 0)), columns, values, shape, check_invariants=False)
