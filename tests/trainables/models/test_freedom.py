"""FREEDOM against its formulas."""

import math

import pytest
import torch
from dense_reference import Weights, adjacency, bpr, build, check, neighbours, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.seeding import numpy_stream
from trainables.types import Batch


def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
    pairs = data.train.users, data.train.items
    graph = adjacency(data, *pairs)
    final = propagate(graph, torch.cat([w["user_embedding"], w["item_embedding"]]), 2)
    similar = 0.3 * neighbours(data.features["image"], 4) + 0.7 * neighbours(data.features["text"], 4)
    users = final[: data.num_users]
    items = final[data.num_users :] + similar @ w["item_embedding"]
    loss = bpr(users, items, batch)
    for m in range(2):
        table, weight = w[f"modalities.tables.{m}"], w[f"modalities.projections.{m}.weight"]
        loss = loss + 0.05 * bpr(users, table @ weight.T + w[f"modalities.projections.{m}.bias"], batch)
    return loss, users @ items.T


def test_loss_gradients_and_scores_equal_the_naive_computation(toy: DataBundle) -> None:
    check("freedom", naive, toy, dropout=0.0, knn_k=4, image_weight=0.3, reg_weight=0.05)


def test_freedom_trains_on_a_pruned_graph_and_is_judged_on_the_whole_one(toy: DataBundle) -> None:
    model = build("freedom", toy, dropout=0.8, knn_k=3)
    whole = model.eval().extract(model.fuse()).users
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    first = model.train().extract(model.fuse()).users
    model.start_epoch(2, numpy_stream(0, "graph", 2))
    second = model.train().extract(model.fuse()).users
    assert not torch.equal(first, whole) and not torch.equal(first, second)
    assert torch.equal(model.eval().extract(model.fuse()).users, whole)
    assert model.training_adjacency.matrix.values().numel() == math.floor(len(toy.train) * (1 - 0.8))


def test_more_neighbours_than_items_are_refused(toy: DataBundle) -> None:
    with pytest.raises(ValueError, match="12"):
        build("freedom", toy, knn_k=12)
