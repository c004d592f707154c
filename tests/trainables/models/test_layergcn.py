"""LayerGCN against its formulas."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_reference import Weights, adjacency, batch_of, build, check
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.layers.graphs import PruneRule, prune_edges
from trainables.layers.propagation import SparseOperator
from trainables.models.layergcn import LayerGCN
from trainables.seeding import numpy_stream
from trainables.types import Batch


def refined(graph: Tensor, start: Tensor, layers: int) -> Tensor:
    """The sum of layers 1..L, each row scaled by its cosine with layer 0."""
    total, current = torch.zeros_like(start), start
    for _ in range(layers):
        scaled = []
        for row, first in zip(graph @ current, start, strict=True):
            lengths = row.norm().clamp_min(1e-8) * first.norm().clamp_min(1e-8)
            scaled.append(row * (row @ first) / lengths)
        current = torch.stack(scaled)
        total = total + current
    return total


def reference(
    data: DataBundle, w: Weights, batch: Batch, layers: int, pairs: tuple[np.ndarray, np.ndarray]
) -> tuple[Tensor, Tensor]:
    """Loss over the graph of the given pairs, scores over the graph of all."""
    start = torch.cat([w["user_embedding"], w["item_embedding"]])
    final = refined(adjacency(data, *pairs), start, layers)
    loss = torch.zeros((), dtype=torch.float64)
    for u, i, j in zip(batch.users.tolist(), batch.positives.tolist(), batch.negatives[:, 0].tolist(), strict=True):
        user, positive, negative = (final[node] for node in (u, data.num_users + i, data.num_users + j))
        loss = loss - torch.log(torch.sigmoid(user @ positive - user @ negative))
        for node in (u, data.num_users + i, data.num_users + j):
            loss = loss + 0.01 * (start[node] ** 2).sum() / 2
    judged = refined(adjacency(data, data.train.users, data.train.items), start, layers)
    return loss, judged[: data.num_users] @ judged[data.num_users :].T


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_loss_gradients_and_scores_equal_the_naive_computation(layers: int, toy: DataBundle) -> None:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        return reference(data, w, batch, layers, (data.train.users, data.train.items))

    check("layergcn", naive, toy, num_layers=layers, dropout=0.0, reg_weight=0.01)


def test_training_runs_over_the_pruned_graph_and_scoring_over_the_whole_one(toy: DataBundle) -> None:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        generator = numpy_stream(0, "graph", 1)
        shape = data.num_users, data.num_items
        kept = prune_edges(data.train.users, data.train.items, 0.3, generator, shape=shape, rule="degree")
        return reference(data, w, batch, 2, kept)

    check("layergcn", naive, toy, num_layers=2, dropout=0.3, reg_weight=0.01)


@pytest.mark.parametrize(("epoch", "rule"), [(1, "degree"), (2, "uniform"), (3, "degree"), (10, "uniform")])
def test_odd_epochs_prune_by_degree_and_even_ones_uniformly(
    epoch: int, rule: PruneRule, make_toy: Callable[..., DataBundle]
) -> None:
    data = make_toy(num_users=60)
    model = build("layergcn", data, dropout=0.4)
    assert isinstance(model, LayerGCN)
    model.start_epoch(epoch, numpy_stream(0, "graph", epoch))
    assert edges_of(model.training_adjacency) == kept_edges(data, epoch, rule)
    other: PruneRule = "uniform" if rule == "degree" else "degree"
    assert edges_of(model.training_adjacency) != kept_edges(data, epoch, other)


def edges_of(graph: SparseOperator) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in graph.matrix.to_dense().nonzero().tolist()}


def kept_edges(data: DataBundle, epoch: int, rule: PruneRule) -> set[tuple[int, ...]]:
    pairs, shape = (data.train.users, data.train.items), (data.num_users, data.num_items)
    kept = prune_edges(*pairs, 0.4, numpy_stream(0, "graph", epoch), shape=shape, rule=rule)
    return set(zip(*(ends.tolist() for ends in kept), strict=True))


@pytest.mark.parametrize("dropout", [0.1, 0.3, 0.8])
def test_exactly_the_floor_of_the_kept_share_remains(dropout: float, toy: DataBundle) -> None:
    model = build("layergcn", toy, dropout=dropout)
    assert isinstance(model, LayerGCN)
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    assert model.training_adjacency.matrix.values().numel() == math.floor(len(toy.train) * (10 - 10 * dropout) / 10)


def test_without_dropout_the_whole_graph_is_trained_on(toy: DataBundle) -> None:
    model = build("layergcn", toy, dropout=0.0)
    assert isinstance(model, LayerGCN)
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    assert model.training_adjacency is model.adjacency


def test_the_loss_is_a_sum_over_the_batch(toy: DataBundle) -> None:
    model = build("layergcn", toy, dropout=0.0)
    once = batch_of(toy)
    columns = (torch.cat([column, column]) for column in (once.users, once.positives, once.negatives))
    losses = [model.loss(model.extract(model.fuse()), batch).total for batch in (once, Batch(*columns))]
    torch.testing.assert_close(losses[1], 2 * losses[0])
