"""Dense pieces of the second computations of DualGNN and DRAGON: encoder, users' graph, regulariser."""

import math

import numpy as np
import torch
from dense_reference import Weights, adjacency
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def representations(data: DataBundle, w: Weights, layers: int = 2) -> list[Tensor]:
    """x + Âx + Â²x + ... [N, D] of every modality."""
    graph = adjacency(data, data.train.users, data.train.items, epsilon=0.0)
    found = []
    for m, features in enumerate(data.features.values()):
        hidden = torch.from_numpy(features).double() @ w[f"encoder.inner.{m}.weight"].T + w[f"encoder.inner.{m}.bias"]
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        content = hidden @ w[f"encoder.outer.{m}.weight"].T + w[f"encoder.outer.{m}.bias"]
        layer = torch.stack([row / row.norm() for row in (*w[f"encoder.preferences.{m}"], *content)])
        total = layer
        for _ in range(layers):
            layer = graph @ layer
            total = total + layer
        found.append(total)
    return found


def attention(data: DataBundle, length: int, rng: np.random.Generator | None) -> Tensor:
    """S [U, U], list by list; with a generator, short lists are padded from it."""
    bought = [set(data.train.items[data.train.users == u].tolist()) for u in range(data.num_users)]
    matrix = torch.zeros(data.num_users, data.num_users, dtype=torch.float64)
    for u, own in enumerate(bought):
        shared = {v: len(own & other) for v, other in enumerate(bought) if v != u and own & other}
        listed = sorted(shared, key=lambda v: (-shared[v], v))[:length]
        drawn = [] if rng is None or not listed else [rng.random() for _ in range(length - len(listed))]
        neighbours = listed + [sorted(listed)[int(number * len(listed))] for number in drawn]
        total = sum(math.exp(shared[v]) for v in neighbours)
        for v in neighbours:
            matrix[u, v] += math.exp(shared[v]) / total
    return matrix


def penalty(w: Weights, batch: Batch, num_modalities: int) -> Tensor:
    squares = [(w[f"encoder.preferences.{m}"][batch.users] ** 2).mean() for m in range(num_modalities)]
    return sum(squares, (w["user_weights"] ** 2).mean())
