"""Each model against a second computation: dense matrices, written from the formulas, in float64, with gradients.

Models are built as in training, then their weights are read by name and everything else is computed here from the data.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.seeding import numpy_stream, torch_stream
from trainables.types import Batch

Weights = Mapping[str, Tensor]
EPSILON = 1e-7


def adjacency(data: DataBundle, users: np.ndarray, items: np.ndarray) -> Tensor:
    """Â [N, N], dense, from its definition."""
    size = data.num_users + data.num_items
    a = np.zeros((size, size))
    for u, i in zip(users, items, strict=True):
        a[u, data.num_users + i] = a[data.num_users + i, u] = 1
    degree = a.sum(1) + EPSILON
    return torch.from_numpy(a / np.sqrt(degree[:, None] * degree[None, :]) * (a > 0))


def propagate(graph: Tensor, start: Tensor, layers: int) -> Tensor:
    outputs = [start]
    for _ in range(layers):
        outputs.append(graph @ outputs[-1])
    return torch.stack(outputs).mean(0)


def neighbours(features: np.ndarray, k: int) -> Tensor:
    """The k nearest items by cosine, itself included, each with 1/k."""
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    similarity = unit @ unit.T
    graph = np.zeros_like(similarity)
    for item in range(len(unit)):
        for other in sorted(range(len(unit)), key=lambda j: (j != item, -similarity[item, j]))[:k]:
            graph[item, other] = 1 / (k + EPSILON)
    return torch.from_numpy(graph)


def bpr(users: Tensor, items: Tensor, batch: Batch) -> Tensor:
    losses = []
    for u, i, j in zip(batch.users.tolist(), batch.positives.tolist(), batch.negatives[:, 0].tolist(), strict=True):
        gap = (users[u] * items[i]).sum() - (users[u] * items[j]).sum()
        losses.append(-torch.log(torch.sigmoid(gap)))
    return torch.stack(losses).mean()


def norms(batch: Batch, *blocks: Tensor) -> Tensor:
    return sum(((block**2).sum().sqrt() for block in blocks), torch.zeros(())) / len(batch.users)


def distance(left: Tensor, right: Tensor) -> Tensor:
    cosines = [(a @ b) / (a.norm() * b.norm()) for a, b in zip(left, right, strict=True)]
    return 1 - torch.stack(cosines).mean()


def lightgcn(data: DataBundle, w: Weights, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    start = torch.cat([w["user_embedding"], w["item_embedding"]])
    final = propagate(adjacency(data, data.train.users, data.train.items), start, 2)
    users, items = final[: data.num_users], final[data.num_users :]
    ego = (w["user_embedding"][batch.users], w["item_embedding"][batch.positives])
    penalty = norms(batch, *ego, w["item_embedding"][batch.negatives[:, 0]])
    return bpr(users, items, batch) + 0.01 * penalty, users @ items.T


def vbpr(data: DataBundle, w: Weights, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    features = torch.from_numpy(np.concatenate([data.features["image"], data.features["text"]], axis=1)).double()
    content = features @ w["projection.weight"].T + w["projection.bias"]
    users, items = w["user_embedding"], torch.cat([w["item_embedding"], content], dim=1)
    blocks = users[batch.users], items[batch.positives], items[batch.negatives[:, 0]]
    return bpr(users, items, batch) + 0.01 * norms(batch, *blocks), users @ items.T


def bm3(data: DataBundle, w: Weights, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    start = torch.cat([w["user_embedding"], w["item_embedding"]])
    final = propagate(adjacency(data, data.train.users, data.train.items), start, 1)
    users, items = final[: data.num_users], final[data.num_users :] + w["item_embedding"]

    def predict(x: Tensor) -> Tensor:
        return x @ w["predictor.weight"].T + w["predictor.bias"]

    # Dropout is 0 in this test, so a target is its source without gradient.
    user_rows, item_rows = users[batch.users], items[batch.positives]
    loss = distance(predict(user_rows), item_rows.detach()) + distance(predict(item_rows), user_rows.detach())
    for m in range(2):
        table, weight = w[f"modalities.tables.{m}"], w[f"modalities.projections.{m}.weight"]
        rows = (table @ weight.T + w[f"modalities.projections.{m}.bias"])[batch.positives]
        loss = loss + 2.0 * (distance(predict(rows), item_rows.detach()) + distance(predict(rows), rows.detach()))
    loss = loss + 0.1 * ((users**2).sum().sqrt() + (items**2).sum().sqrt()) / data.num_items
    return loss, predict(users) @ predict(items).T


def freedom(data: DataBundle, w: Weights, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
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


Naive = Callable[[DataBundle, Weights, Batch, bool], tuple[Tensor, Tensor]]
SECOND: dict[str, tuple[Naive, dict[str, object]]] = {
    "lightgcn": (lightgcn, {"num_layers": 2, "reg_weight": 0.01}),
    "vbpr": (vbpr, {"reg_weight": 0.01}),
    "bm3": (bm3, {"num_layers": 1, "dropout": 0.0, "reg_weight": 0.1, "cl_weight": 2.0}),
    "freedom": (freedom, {"dropout": 0.0, "knn_k": 4, "image_weight": 0.3, "reg_weight": 0.05}),
}


def build(name: str, data: DataBundle, **numbers: object) -> Recommender:
    config = MODELS[name].Config.model_validate({"embedding_size": 6, **numbers})
    return MODELS[name](config, data, torch_stream(3, "init")).double()


def batch_of(data: DataBundle, with_negatives: bool = True) -> Batch:
    users, items = data.train.users[:14], data.train.items[:14]
    negatives = (items + 2) % data.num_items
    columns = [torch.from_numpy(column.copy()) for column in (users, items, negatives)]
    return Batch(columns[0], columns[1], columns[2][:, None] if with_negatives else columns[2][:, None][:, :0])


def test_every_model_has_a_second_computation() -> None:
    assert set(SECOND) == set(MODELS)


@pytest.mark.parametrize("name", SECOND)
def test_loss_gradients_and_scores_equal_the_naive_computation(name: str, toy: DataBundle) -> None:
    naive, numbers = SECOND[name]
    model = build(name, toy, **numbers)
    # The graph is built in float32 values; the naive one is in float64, so compare with the graph lifted as well.
    batch = batch_of(toy)
    model.train()
    loss = model.loss(model.extract(model.fuse()), batch).total
    loss.backward()
    weights = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    expected, scores = naive(toy, weights, batch, True)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-7)
    for key, value in model.named_parameters():
        gradient = torch.zeros_like(value) if value.grad is None else value.grad
        other = weights[key].grad
        torch.testing.assert_close(gradient, torch.zeros_like(value) if other is None else other, rtol=1e-6, atol=1e-7)
    model.eval()
    everyone = torch.arange(toy.num_users)
    torch.testing.assert_close(model.score(model.extract(model.fuse()), everyone), scores, rtol=1e-6, atol=1e-6)


def test_freedom_trains_on_a_pruned_graph_and_is_judged_on_the_whole_one(toy: DataBundle) -> None:
    model = build("freedom", toy, dropout=0.8, knn_k=3)
    whole = model.eval().extract(model.fuse()).users
    model.start_epoch(numpy_stream(0, "graph", 1))
    first = model.train().extract(model.fuse()).users
    model.start_epoch(numpy_stream(0, "graph", 2))
    second = model.train().extract(model.fuse()).users
    assert not torch.equal(first, whole) and not torch.equal(first, second)
    assert torch.equal(model.eval().extract(model.fuse()).users, whole)
    assert model.training_adjacency.matrix.values().numel() == math.floor(len(toy.train) * (1 - 0.8))


@pytest.mark.parametrize("name", ["vbpr", "bm3", "freedom"])
@pytest.mark.parametrize("modalities", [("text",), ("audio", "image", "text")])
def test_any_number_of_modalities_will_do(
    name: str, modalities: tuple[str, ...], make_toy: Callable[..., DataBundle]
) -> None:
    data = make_toy(modalities=modalities)
    numbers = {"knn_k": 3} if name == "freedom" else {}
    model = build(name, data, **numbers)
    assert torch.isfinite(model.loss(model.extract(model.fuse()), batch_of(data)).total)


@pytest.mark.parametrize("name", MODELS)
def test_isolated_items_do_not_bring_nan(name: str, toy: DataBundle) -> None:
    numbers = {"knn_k": 3} if name == "freedom" else {}
    model = build(name, toy, **numbers)
    assert 10 not in toy.train.items
    model.loss(model.extract(model.fuse()), batch_of(toy)).total.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.uses_negatives])
def test_a_batch_without_negatives_is_refused(name: str, toy: DataBundle) -> None:
    numbers = {"knn_k": 3} if name == "freedom" else {}
    model = build(name, toy, **numbers)
    with pytest.raises(ValueError, match="needs negatives, but the batch has none"):
        model.loss(model.extract(model.fuse()), batch_of(toy, with_negatives=False))


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.uses_features])
def test_a_data_set_without_features_is_refused(name: str, make_toy: Callable[..., DataBundle]) -> None:
    with pytest.raises(ValueError, match=r"needs modality features, but data set 'toy' has no"):
        build(name, make_toy(modalities=()))


def test_more_neighbours_than_items_are_refused(toy: DataBundle) -> None:
    with pytest.raises(ValueError, match="12"):
        build("freedom", toy, knn_k=12)
