"""MMGCN's layer against its formula, and the two shared operations that it brought with it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainables.layers.graphs import binary_bipartite
from trainables.layers.mean_aggregation import MeanGraph, MeanLayer, update_nodes
from trainables.layers.propagation import SparseOperator
from trainables.layers.tensors import unit_rows_and_lengths

USERS = np.array([0, 0, 1, 1, 1, 3], dtype=np.int64)
ITEMS = np.array([2, 0, 0, 1, 2, 4], dtype=np.int64)
GRAPH = binary_bipartite(USERS, ITEMS, 4, 6)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def plain_update(m: Tensor, x: Tensor, e: Tensor, own: Tensor, l: Tensor, joint: Tensor, g: Tensor) -> Tensor:  # noqa: E741
    heard, kept = F.leaky_relu(m, 0.01), F.leaky_relu(x @ own.T + l, 0.01) + e
    return F.leaky_relu(torch.cat([heard, kept], dim=1) @ joint.T + g, 0.01)


def arguments(rows: int = 20) -> list[Tensor]:
    shapes = [(rows, 5), (rows, 5), (rows, 3), (3, 5), (3,), (3, 8), (3,)]
    return [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("touched", [[], [7], [0, 3, 19], list(range(15)), list(range(20))])
def test_updating_nodes_equals_the_formula_whichever_rows_have_a_gradient(touched: list[int]) -> None:
    inputs = arguments()
    result, expected = update_nodes(*inputs), plain_update(*inputs)
    torch.testing.assert_close(result, expected, rtol=1e-13, atol=1e-13)
    upstream = torch.zeros(20, 3, dtype=torch.float64)
    upstream[touched] = draw(len(touched), 3, seed=9).detach()
    ours, plain = (torch.autograd.grad(output, inputs, upstream) for output in (result, expected))
    for gradient, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constant", range(7))
def test_updating_nodes_takes_constants(constant: int) -> None:
    inputs = arguments()
    inputs[constant].requires_grad_(False)
    trained = [value for value in inputs if value.requires_grad]
    ours, plain = (torch.autograd.grad(update(*inputs).sum(), trained) for update in (update_nodes, plain_update))
    for gradient, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


def test_a_node_without_neighbours_hears_nothing() -> None:
    layer = MeanLayer(5, 3, torch.Generator().manual_seed(0), first=True).double()
    nodes, ids = (draw(4, 5), draw(6, 5)), (draw(4, 3), draw(6, 3))
    users, items = layer(MeanGraph(GRAPH).double(), nodes, ids)
    weights = layer.own.weight, layer.own.bias, layer.joint.weight, layer.joint.bias
    silence = torch.zeros(1, 5, dtype=torch.float64)
    torch.testing.assert_close(users[2:3], plain_update(silence, nodes[0][2:3], ids[0][2:3], *weights))
    torch.testing.assert_close(items[5:6], plain_update(silence, nodes[1][5:6], ids[1][5:6], *weights))


@pytest.mark.parametrize("width", [1, 3, 64, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("contiguous", [True, False])
def test_a_sparse_product_is_the_dense_one_by_either_kernel(width: int, dtype: torch.dtype, contiguous: bool) -> None:
    table = draw(width, 6).detach().T.to(dtype)
    table = (table.contiguous() if contiguous else table).requires_grad_()
    result = SparseOperator(GRAPH).to(dtype)(table)
    expected = torch.from_numpy(GRAPH.to_scipy().toarray()).to(dtype) @ table
    torch.testing.assert_close(result, expected)
    upstream = draw(width, 4, seed=1).detach().T.to(dtype)
    ours, plain = (torch.autograd.grad(output, table, upstream)[0] for output in (result, expected))
    torch.testing.assert_close(ours, plain)


def test_unit_rows_and_lengths_pass_on_the_gradients_of_both() -> None:
    values = draw(5, 3)
    unit, lengths = unit_rows_and_lengths(values)
    expected = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    torch.testing.assert_close(lengths, expected)
    torch.testing.assert_close(unit * lengths, values)
    torch.autograd.gradcheck(unit_rows_and_lengths, (values,))
    torch.autograd.gradgradcheck(unit_rows_and_lengths, (values,))


def test_a_row_of_zeros_has_no_direction_and_passes_no_gradient_on() -> None:
    values = torch.zeros(2, 3, dtype=torch.float64).requires_grad_()
    unit, lengths = unit_rows_and_lengths(values)
    (unit.sum() + lengths.square().sum()).backward()
    assert not unit.any() and not lengths.any() and not values.grad.any()
