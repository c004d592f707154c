"""Operations on edges against dense matrices, in value and gradient."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.layers.attention import BipartiteEdges
from trainables.layers.graphs import binary_bipartite

# In no order; user 2 and items 3 and 5 have no edge.
USERS = np.array([3, 0, 1, 0, 1, 1], dtype=np.int64)
ITEMS = np.array([4, 2, 0, 0, 2, 1], dtype=np.int64)
GRAPH = binary_bipartite(USERS, ITEMS, 4, 6)
MASK = torch.from_numpy(GRAPH.to_scipy().toarray()) > 0
SORTED = sorted(zip(USERS.tolist(), ITEMS.tolist(), strict=True))


def edges() -> BipartiteEdges:
    return BipartiteEdges(GRAPH).double()


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def dense(values: Tensor) -> Tensor:
    """Values on the edges as a matrix [4, 6], 0 elsewhere."""
    matrix = torch.zeros(4, 6, dtype=values.dtype)
    for (user, item), value in zip(SORTED, values, strict=True):
        matrix[user, item] = value
    return matrix


def softmax(values: Tensor, dim: int) -> Tensor:
    return torch.where(MASK, dense(values), -torch.inf).softmax(dim).masked_fill(~MASK, 0)[MASK]


CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "products": (BipartiteEdges.products, lambda u, i: (u @ i.T)[MASK], (draw(4, 3), draw(6, 3))),
    "user_softmax": (BipartiteEdges.user_softmax, lambda v: softmax(v, 1), (draw(6),)),
    "item_softmax": (BipartiteEdges.item_softmax, lambda v: softmax(v, 0), (draw(6),)),
    "to_users": (BipartiteEdges.to_users, lambda v, i: dense(v) @ i, (draw(6), draw(6, 3))),
    "to_items": (BipartiteEdges.to_items, lambda v, u: dense(v).T @ u, (draw(6), draw(4, 3))),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_equals_the_dense_one_whatever_the_upstream_gradient(name: str) -> None:
    operation, plain, arguments = CASES[name]
    result, expected = operation(edges(), *arguments), plain(*arguments)
    torch.testing.assert_close(result, expected, rtol=1e-13, atol=1e-13)
    upstream = draw(*expected.shape).detach()
    gradients = zip(
        torch.autograd.grad(result, arguments, upstream),
        torch.autograd.grad(expected, arguments, upstream),
        strict=True,
    )
    for ours, theirs in gradients:
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_can_be_differentiated_twice(name: str) -> None:
    operation, _, arguments = CASES[name]
    graph = edges()
    torch.autograd.gradgradcheck(lambda *tensors: operation(graph, *tensors), arguments)


def test_edges_are_in_the_order_of_users_then_items() -> None:
    assert list(zip(edges().users.tolist(), edges().items.tolist(), strict=True)) == SORTED


def test_nodes_without_an_edge_receive_nothing() -> None:
    graph, ones = edges(), torch.ones(6, dtype=torch.float64)
    assert not graph.to_users(ones, draw(6, 3))[2].any()
    assert not graph.to_items(ones, draw(4, 3))[[3, 5]].any()


@pytest.mark.parametrize("operation", [BipartiteEdges.user_softmax, BipartiteEdges.item_softmax])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_softmax_adds_up_to_one_even_where_exponentials_overflow(
    operation: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    graph = edges().to(dtype)
    for scale in (1e4, -1e4):
        weights = operation(graph, scale * torch.arange(6, dtype=dtype))
        sums = dense(weights).sum(1 if operation is BipartiteEdges.user_softmax else 0)
        assert set(sums.tolist()) == {0.0, 1.0}
