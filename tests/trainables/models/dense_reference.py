"""Dense building blocks for second computations: whole matrices and explicit loops, written from the formulas.

A model's test writes its forward pass and loss with these, in float64, and `check` compares loss, gradients and scores.
Nothing here uses `trainables.layers`.
"""

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
Naive = Callable[[DataBundle, Weights, Batch], tuple[Tensor, Tensor]]
"""(data, weights by name, batch) -> (loss, scores of all users for all items [U, I])."""

EPSILON = 1e-7


def adjacency(data: DataBundle, users: np.ndarray, items: np.ndarray, epsilon: float = EPSILON) -> Tensor:
    """Â [N, N], dense, from its definition; rows without an edge stay 0."""
    size = data.num_users + data.num_items
    a = np.zeros((size, size))
    for u, i in zip(users, items, strict=True):
        a[u, data.num_users + i] = a[data.num_users + i, u] = 1
    degree = a.sum(1) + epsilon
    scale = np.sqrt(degree[:, None] * degree[None, :])
    return torch.from_numpy(np.divide(a, scale, out=np.zeros_like(a), where=a > 0))


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


def build(name: str, data: DataBundle, **numbers: object) -> Recommender:
    """The model in float64, with its weights drawn as in training."""
    config = MODELS[name].Config.model_validate({"embedding_size": 6, **numbers})
    model: Recommender = MODELS[name](config, data, torch_stream(3, "init"))  # type: ignore[call-arg, arg-type]
    return model.double()


def batch_of(data: DataBundle, with_negatives: bool = True) -> Batch:
    """Fourteen training pairs, some of whose users and items repeat, with one negative each or none."""
    users, items = data.train.users[:14], data.train.items[:14]
    negatives = (items + 2) % data.num_items
    columns = [torch.from_numpy(column.copy()) for column in (users, items, negatives)]
    return Batch(columns[0], columns[1], columns[2][:, None] if with_negatives else columns[2][:, None][:, :0])


def check(name: str, naive: Naive, data: DataBundle, start: bool = True, **numbers: object) -> None:
    """Holds a model's training loss, every gradient and its scores in evaluation mode to the naive computation."""
    model = build(name, data, **numbers)
    if start:
        model.start_epoch(1, numpy_stream(0, "graph", 1))
    batch = batch_of(data, with_negatives=model.uses_negatives)
    model.train()
    loss = model.loss(model.extract(model.fuse(batch)), batch).total
    loss.backward()
    weights = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    expected, scores = naive(data, weights, batch)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)
    for key, value in model.named_parameters():
        gradient = torch.zeros_like(value) if value.grad is None else value.grad
        other = weights[key].grad
        torch.testing.assert_close(
            gradient,
            torch.zeros_like(value) if other is None else other,
            rtol=1e-9,
            atol=1e-9,
            msg=lambda m, key=key: f"{key}: {m}",
        )
    model.eval()
    everyone = torch.arange(data.num_users)
    with torch.no_grad():
        judged = model.score(model.extract(model.fuse()), everyone)
    torch.testing.assert_close(judged, scores.detach(), rtol=1e-9, atol=1e-9)
