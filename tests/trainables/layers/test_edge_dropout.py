"""Graphs that lose edges, against dense matrices."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.layers.edge_dropout import DroppableAdjacency, pruned_graph, uniform_rate
from trainables.layers.graphs import normalised_bipartite, prune_edges
from trainables.layers.propagation import Adjacency, light_propagation

SHAPE = (40, 25)
RNG = np.random.default_rng(0)
PAIRS = np.unique(RNG.integers(0, SHAPE, size=(300, 2)), axis=0)
USERS, ITEMS = PAIRS[:, 0].astype(np.int64), PAIRS[:, 1].astype(np.int64)
GRAPH = normalised_bipartite(USERS, ITEMS, *SHAPE)
HALF = torch.from_numpy(GRAPH.to_scipy().toarray())


def adjacency() -> DroppableAdjacency:
    return DroppableAdjacency(GRAPH).double()


def dropped(rate: float, seed: int = 0) -> Adjacency:
    torch.manual_seed(seed)
    graph: Adjacency = adjacency()(rate)
    return graph


def dense(graph: Adjacency) -> Tensor:
    whole = torch.zeros(sum(SHAPE), sum(SHAPE), dtype=torch.float64)
    whole[: SHAPE[0], SHAPE[0] :] = graph.to_users.to_dense()
    whole[SHAPE[0] :, : SHAPE[0]] = graph.to_items.to_dense()
    return whole


def tables() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 3, generator=generator, dtype=torch.float64).requires_grad_() for rows in SHAPE]


def test_without_a_rate_the_graph_is_whole_and_nothing_is_drawn() -> None:
    state = torch.get_rng_state()
    graph = adjacency()(0.0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(graph.to_users.to_dense(), HALF) and torch.equal(graph.to_items.to_dense(), HALF.T)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_a_non_zero_is_dropped_or_grows(rate: float) -> None:
    graph = dropped(rate)
    for half, whole in ((graph.to_users.to_dense(), HALF), (graph.to_items.to_dense(), HALF.T)):
        kept = half != 0
        torch.testing.assert_close(half[kept], whole[kept] / (1 - rate), rtol=1e-4, atol=0)
        share = 1 - int(kept.sum()) / len(USERS)
        assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / len(USERS))


def test_the_two_directions_of_an_edge_are_dropped_independently() -> None:
    down = torch.stack([dropped(0.5, seed).to_users.to_dense()[USERS, ITEMS] == 0 for seed in range(20)])
    up = torch.stack([dropped(0.5, seed).to_items.to_dense()[ITEMS, USERS] == 0 for seed in range(20)])
    assert abs(float((down == up).double().mean()) - 0.5) < 5 * math.sqrt(0.25 / down.numel())


def test_the_mean_of_many_draws_is_the_whole_graph() -> None:
    torch.manual_seed(0)
    graph = adjacency()
    mean = torch.stack([dense(graph(0.5)) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, dense(graph()), rtol=0, atol=5 * float(HALF.max()) / math.sqrt(2000))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_transposes_are_those_of_the_halves(rate: float) -> None:
    graph = dropped(rate)
    assert torch.equal(graph.to_users_transposed.to_dense(), graph.to_users.to_dense().T)
    assert torch.equal(graph.to_items_transposed.to_dense(), graph.to_items.to_dense().T)
    assert torch.equal(dense(graph.transposed), dense(graph).T)
    assert torch.equal(dense(graph.transposed.transposed), dense(graph))


def test_a_hop_over_a_dropped_graph_is_the_dense_product() -> None:
    graph, (users, items) = dropped(0.5), tables()
    compare(torch.cat(graph.neighbours(users, items)), dense(graph) @ torch.cat([users, items]), [users, items])


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_light_propagation_over_a_dropped_graph_is_the_mean_of_all_hops(num_layers: int) -> None:
    graph, (users, items) = dropped(0.5), tables()
    hops = [torch.cat([users, items])]
    for _ in range(num_layers):
        hops.append(dense(graph) @ hops[-1])
    result = torch.cat(light_propagation(graph, users, items, num_layers))
    compare(result, torch.stack(hops).mean(0), [users, items])


def compare(result: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """Holds values and gradients of two computations together."""
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours, plain = (torch.autograd.grad(value, inputs, upstream) for value in (result, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_draws_follow_the_seed() -> None:
    assert torch.equal(dense(dropped(0.5, seed=1)), dense(dropped(0.5, seed=1)))
    assert not torch.equal(dense(dropped(0.5, seed=1)), dense(dropped(0.5, seed=2)))


def test_rates_are_uniform_between_0_and_1() -> None:
    torch.manual_seed(0)
    rates = np.array([uniform_rate() for _ in range(2000)])
    assert 0 <= rates.min() < 0.01 and 0.99 < rates.max() < 1
    assert abs(rates.mean() - 0.5) < 5 * math.sqrt(1 / 12 / 2000)


@pytest.mark.parametrize("rule", ["degree", "uniform"])
def test_a_pruned_graph_is_normalised_by_the_degrees_that_are_left(rule: str) -> None:
    graph = pruned_graph(USERS, ITEMS, SHAPE, 0.4, np.random.default_rng(5), rule)  # type: ignore[arg-type]
    kept = prune_edges(USERS, ITEMS, 0.4, np.random.default_rng(5), shape=SHAPE, rule=rule)  # type: ignore[arg-type]
    expected = np.zeros(SHAPE)
    for user, item in zip(*kept, strict=True):
        degrees = (kept[0] == user).sum() + 1e-7, (kept[1] == item).sum() + 1e-7
        expected[user, item] = (degrees[0] * degrees[1]) ** -0.5
    np.testing.assert_allclose(graph.double().matrix.to_dense().numpy(), expected, rtol=1e-12)
    assert len(kept[0]) == math.floor(len(USERS) * 0.6)
