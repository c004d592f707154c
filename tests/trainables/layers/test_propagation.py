"""Sparse propagation against dense matrices, in value and gradient."""

import numpy as np
import pytest
import torch

from trainables.layers.graphs import normalised_bipartite, row_mean
from trainables.layers.propagation import SparseOperator, light_propagation

USERS = np.array([0, 0, 1, 1, 1, 3], dtype=np.int64)
ITEMS = np.array([2, 0, 0, 1, 2, 4], dtype=np.int64)
GRAPH = normalised_bipartite(USERS, ITEMS, 4, 6)


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 3, generator=generator, dtype=torch.float64).requires_grad_() for n in (4, 6))
    return users, items


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3, 4])
def test_light_propagation_is_the_mean_of_all_hops(num_layers: int) -> None:
    users, items = tables()
    half = torch.from_numpy(GRAPH.to_scipy().toarray())
    adjacency = torch.zeros(10, 10, dtype=torch.float64)
    adjacency[:4, 4:], adjacency[4:, :4] = half, half.T
    hops = [torch.cat([users, items])]
    for _ in range(num_layers):
        hops.append(adjacency @ hops[-1])
    expected = torch.stack(hops).mean(0)
    result = torch.cat(light_propagation(SparseOperator(GRAPH).double(), users, items, num_layers))
    torch.testing.assert_close(result, expected, rtol=1e-13, atol=1e-13)
    upstream = torch.randn(10, 3, dtype=torch.float64)
    ours = torch.autograd.grad(result, [users, items], upstream)
    for gradient, plain in zip(ours, torch.autograd.grad(expected, [users, items], upstream), strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-13, atol=1e-13)


def test_propagation_leaves_its_input_alone() -> None:
    users, items = (table.detach() for table in tables())
    kept = users.clone(), items.clone()
    outputs = light_propagation(SparseOperator(GRAPH).double(), users, items, 0)
    assert torch.equal(users, kept[0]) and torch.equal(items, kept[1])
    assert outputs[0].data_ptr() != users.data_ptr()


def test_a_sparse_product_can_be_differentiated_twice() -> None:
    operator = SparseOperator(GRAPH).double()
    torch.autograd.gradgradcheck(operator, (tables()[1],))


def test_going_from_float32_to_float64_takes_the_values_anew() -> None:
    operator = SparseOperator(GRAPH)
    assert operator.matrix.dtype == torch.float32
    for _ in range(2):
        operator.double()
        assert np.array_equal(operator.matrix.values().numpy(), GRAPH.values)
        assert np.array_equal(operator.transpose.values().numpy(), GRAPH.transpose().values)
        operator.float()


def test_row_means_divide_by_the_number_of_neighbours() -> None:
    mean = row_mean(GRAPH).to_scipy().toarray()
    expected = GRAPH.to_scipy().toarray() / np.array([[2], [3], [1], [1]])
    np.testing.assert_allclose(mean, expected, rtol=1e-15)
    assert not mean[2].any()


def test_an_operator_shares_the_memory_of_its_structure_and_copies_the_values() -> None:
    graph = normalised_bipartite(USERS, ITEMS, 4, 6)
    matrix = SparseOperator(graph).double().matrix
    assert np.shares_memory(matrix.crow_indices().numpy(), graph.indptr)
    assert np.shares_memory(matrix.col_indices().numpy(), graph.indices)
    assert not np.shares_memory(matrix.values().numpy(), graph.values)


def test_a_transpose_follows_its_matrix_to_another_precision() -> None:
    operator = SparseOperator(GRAPH)
    for dtype in (torch.float32, torch.float64, torch.float32):
        operator.to(dtype)
        assert operator.transpose.dtype == operator.matrix.dtype == dtype
        assert operator.transpose is operator.transpose
        np.testing.assert_array_equal(
            operator.transpose.values().numpy(), GRAPH.transpose().values.astype(operator.matrix.values().numpy().dtype)
        )


def test_elsewhere_than_on_a_cpu_the_transpose_is_made_with_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = SparseOperator(GRAPH)
    monkeypatch.setattr("trainables.layers.propagation.finds_rows", lambda values: False)
    operator.double()
    monkeypatch.setattr("trainables.layers.propagation.csr_tensor", None)  # a step that made it would wait
    assert operator.transpose.dtype == torch.float64
