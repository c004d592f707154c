"""LightGCN's propagation of a table on one side of the user-item graph, the other side starting from zeros.

By linearity LGN([A; B]) = LGN([A; 0]) + LGN([0; B]). With one side at 0 every hop is one half of the product with the
adjacency, and starts that share a side share its part.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.layers.propagation import SparseOperator, sparse_product


def one_sided_propagation(
    across: SparseOperator, start: Float[Tensor, "R W"], num_layers: int
) -> tuple[Float[Tensor, "R W"], Float[Tensor, "R W"]]:
    """(`own`, `bridge`) of LGN_L([start; 0]): its part on the start's side, and what `across` maps to its other part.

    With A the half `across` the graph, the own side sums the even hops 1 + AᵀA + (AᵀA)² + ..., the other side the odd
    ones A (1 + AᵀA + ...), each over L + 1. They are the same sum before its A where L is odd.

    Args:
        across: A [C, R], the half of the adjacency that leads from the start's side to the other one.
        num_layers: L, at least 1.
    """
    own = _even_hops(across, start, num_layers // 2, 1 / (num_layers + 1))
    return own, own if num_layers % 2 else _even_hops(across, start, num_layers // 2 - 1, 1 / (num_layers + 1))


class _EvenHops(torch.autograd.Function):
    """share · (1 + AᵀA + ... + (AᵀA)ᵏ) times a table, by Horner's rule; symmetric, so its own backward pass."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, across: SparseOperator, count: int, share: float) -> Tensor:
        ctx.arguments = across, count, share
        value = start if count else start * share
        for left in reversed(range(count)):
            value = sparse_product(across.transpose, sparse_product(across.matrix, value)).add_(start)
            if not left:
                value.mul_(share)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _even_hops(ctx.arguments[0], gradient, *ctx.arguments[1:]), None, None, None


def _even_hops(across: SparseOperator, start: Tensor, count: int, share: float) -> Tensor:
    result: Tensor = _EvenHops.apply(start, across, count, share)  # type: ignore[no-untyped-call]
    return result
