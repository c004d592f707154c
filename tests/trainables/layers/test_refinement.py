"""Hand-written layers against the plain formulas, in value and gradient, over several blocks of rows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainables.layers import refinement
from trainables.layers.dropout import dropout_factors
from trainables.layers.graphs import normalised_bipartite
from trainables.layers.propagation import SparseOperator
from trainables.layers.refinement import bi_interaction, cosine_refinement, unit_layers

SHAPE = (40, 25)
RNG = np.random.default_rng(0)
PAIRS = np.unique(RNG.integers(0, (SHAPE[0] - 1, SHAPE[1] - 1), size=(200, 2)), axis=0).astype(np.int64)
GRAPH = normalised_bipartite(PAIRS[:, 0], PAIRS[:, 1], *SHAPE)
"""The last user and the last item have no edge."""


@pytest.fixture(autouse=True, params=[7, 2048])
def _block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of several blocks, the last of them short, and of one."""
    monkeypatch.setattr(refinement, "BLOCK_ROWS", request.param)


def table(rows: int, width: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100 * rows)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64).requires_grad_()


def compare(result: Tensor, expected: Tensor, inputs: list[Tensor], upstream: Tensor | None = None) -> None:
    """Holds values and gradients of two computations together."""
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    if upstream is None:
        upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours, plain = (torch.autograd.grad(value, inputs, upstream) for value in (result, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def plain_refinement(users: Tensor, items: Tensor, num_layers: int) -> Tensor:
    half = torch.from_numpy(GRAPH.to_scipy().toarray())
    adjacency = torch.zeros(sum(SHAPE), sum(SHAPE), dtype=torch.float64)
    adjacency[: SHAPE[0], SHAPE[0] :], adjacency[SHAPE[0] :, : SHAPE[0]] = half, half.T
    anchor = current = torch.cat([users, items])
    total = torch.zeros_like(anchor)
    for _ in range(num_layers):
        hop = adjacency @ current
        norms = hop.norm(dim=1, keepdim=True).clamp_min(1e-8) * anchor.norm(dim=1, keepdim=True).clamp_min(1e-8)
        current = (hop * anchor).sum(1, keepdim=True) / norms * hop
        total = total + current
    return total


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_cosine_refinement_is_the_sum_of_gated_hops(num_layers: int) -> None:
    users, items = (table(rows) for rows in SHAPE)
    result = torch.cat(cosine_refinement(SparseOperator(GRAPH).double(), users, items, num_layers))
    compare(result, plain_refinement(users, items, num_layers), [users, items])


@pytest.mark.parametrize("scale", [1e-9, 1e-10])
def test_norms_below_the_smallest_count_as_the_smallest(scale: float) -> None:
    """Of users alone: items are then small after one hop, and users after two."""
    users, items = (table(rows) for rows in SHAPE)
    with torch.no_grad():
        users *= scale
    result = torch.cat(cosine_refinement(SparseOperator(GRAPH).double(), users, items, 2))
    expected = plain_refinement(users, items, 2)
    torch.testing.assert_close(result / scale, expected / scale, rtol=1e-12, atol=1e-12)
    ours, plain = (torch.autograd.grad(value.sum(), [users, items]) for value in (result, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=0)


def test_a_loss_on_one_side_alone_is_passed_back_through_both() -> None:
    users, items = (table(rows) for rows in SHAPE)
    refined = cosine_refinement(SparseOperator(GRAPH).double(), users, items, 3)[1]
    compare(refined, plain_refinement(users, items, 3)[SHAPE[0] :], [users, items])


def test_rows_without_edges_or_of_zeros_stay_zero_and_finite() -> None:
    users, items = (table(rows) for rows in SHAPE)
    with torch.no_grad():
        users[3] = 0
    refined = torch.cat(cosine_refinement(SparseOperator(GRAPH).double(), users, items, 2))
    assert not refined[3].any() and not refined[SHAPE[0] - 1].any() and not refined[-1].any()
    gradients = torch.autograd.grad(refined.sum(), [users, items])
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_refinement_leaves_its_input_alone_and_asks_no_gradient_of_a_constant() -> None:
    users, items = (table(rows) for rows in SHAPE)
    before = users.detach().clone()
    refined = torch.cat(cosine_refinement(SparseOperator(GRAPH).double(), users, items.detach(), 2))
    (gradient,) = torch.autograd.grad(refined.sum(), [users])
    (plain,) = torch.autograd.grad(plain_refinement(users, items.detach(), 2).sum(), [users])
    torch.testing.assert_close(gradient, plain, rtol=1e-12, atol=1e-12)
    assert torch.equal(users, before) and items.grad is None


def interaction_inputs() -> list[Tensor]:
    """Ego rows, messages, two weight matrices and a bias."""
    weights = [table(4, seed=seed) for seed in (1, 2)]
    return [table(30), table(30, seed=1), *weights, table(1, width=4)[0].detach().requires_grad_()]


def plain_interaction(ego: Tensor, messages: Tensor, of_sum: Tensor, of_product: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu((ego + messages) @ of_sum.T + (ego * messages) @ of_product.T + bias, 0.2)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_bi_interaction_is_its_formula(rate: float) -> None:
    inputs = interaction_inputs()
    torch.manual_seed(0)
    result = bi_interaction(*inputs, dropout=rate)
    torch.manual_seed(0)
    blocks = [len(rows) for rows in inputs[0].split(refinement.BLOCK_ROWS)]
    factors = torch.cat([dropout_factors((rows, 4), rate, inputs[0]) for rows in blocks])
    compare(result, plain_interaction(*inputs) * (factors if rate else 1.0), inputs)


@pytest.mark.parametrize("touched", [0, 1, 10, 25])
def test_rows_without_a_gradient_may_be_few_or_many(touched: int) -> None:
    inputs = interaction_inputs()
    upstream = torch.zeros(30, 4, dtype=torch.float64)
    upstream[torch.randperm(30, generator=torch.Generator().manual_seed(0))[:touched], 1] = -1.0
    compare(bi_interaction(*inputs), plain_interaction(*inputs), inputs, upstream)
    layers = [table(30, seed=seed) for seed in range(3)]
    upstream = torch.cat([torch.zeros(30, 3, dtype=torch.float64), upstream, upstream[:, :2]], dim=1)
    compare(unit_layers(layers), plain_layers(layers), layers, upstream)


def plain_layers(layers: list[Tensor]) -> Tensor:
    return torch.cat([layers[0], *(F.normalize(layer, dim=1) for layer in layers[1:])], dim=1)


@pytest.mark.parametrize("number", [2, 4])
def test_unit_layers_stand_side_by_side(number: int) -> None:
    layers = [table(30, seed=seed) for seed in range(number)]
    compare(unit_layers(layers), plain_layers(layers), layers)


def test_a_layers_row_of_zeros_stays_zero_and_passes_no_gradient_on() -> None:
    first, second = table(30), table(30, seed=1)
    with torch.no_grad():
        second[4] = 0
    result = unit_layers([first, second])
    (gradient,) = torch.autograd.grad(result.sum(), second)
    assert not result[4, 3:].any() and not gradient[4].any() and bool(torch.isfinite(gradient).all())
