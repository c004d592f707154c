"""LightGCN and VBPR trained as the field's reference libraries train them: the yardsticks of `epoch_time.py`.

Written from the formulas in the usual manner: a Python loop for the negatives, a COO adjacency over all nodes, stacked
layers, plain autograd, every item projected for every batch, PyTorch's default Adam. `PUBLISHED` holds what MMRec
(enoche/MMRec@e775373) itself needed per epoch on another machine, one thread, Amazon Baby's size; the ratio of LightGCN
here and there carries those figures over to this machine.
"""

import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.bundle import DataBundle

PUBLISHED = {
    "selfcf": 4.5,
    "lightgcn": 6.8,
    "vbpr": 7.2,
    "layergcn": 17.5,
    "bm3": 30.6,
    "freedom": 31.4,
    "slmrec": 32.6,
    "dualgnn": 78.1,
    "lgmrec": 79.2,
    "dragon": 89.8,
    "grcn": 97.6,
    "mmgcn": 128.2,
}
"""Seconds of a training epoch without evaluation."""

BATCH_SIZE = 2048


def lightgcn_seconds(data: DataBundle, epochs: int) -> list[float]:
    """CPU seconds of each epoch of LightGCN, three layers, regularisation weight 1e-4."""
    half = data.bipartite().to_scipy().tocoo()
    row = np.concatenate([half.row, half.col + data.num_users])
    column = np.concatenate([half.col + data.num_users, half.row])
    values = np.concatenate([half.data, half.data]).astype(np.float32)
    size = data.num_users + data.num_items
    places = torch.from_numpy(np.stack([row, column]).astype(np.int64))
    adjacency = torch.sparse_coo_tensor(places, torch.from_numpy(values), (size, size), check_invariants=False)
    users, items = (nn.Parameter(nn.init.xavier_uniform_(torch.empty(n, 64))) for n in (data.num_users, data.num_items))

    def loss(u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        ego = torch.cat([users, items], dim=0)
        layers = [ego]
        for _ in range(3):
            layers.append(torch.sparse.mm(adjacency, layers[-1]))
        final = torch.stack(layers, dim=1).mean(dim=1)
        all_users, all_items = torch.split(final, [data.num_users, data.num_items])
        penalty = torch.norm(users[u]) + torch.norm(items[i]) + torch.norm(items[j])
        return _ranking_loss(all_users[u], all_items[i], all_items[j]) + 1e-4 * penalty / len(j)

    return [_epoch(data, loss, torch.optim.Adam([users, items], lr=1e-3)) for _ in range(epochs)]


def vbpr_seconds(data: DataBundle, epochs: int) -> list[float]:
    """CPU seconds of each epoch of VBPR, regularisation weight 1e-3."""
    features = torch.from_numpy(np.concatenate(list(data.features.values()), axis=1))
    users, items = (
        nn.Parameter(nn.init.xavier_uniform_(torch.empty(n, width)))
        for n, width in ((data.num_users, 128), (data.num_items, 64))
    )
    projection = nn.Linear(features.shape[1], 64)

    def loss(u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        fused = torch.cat([items, projection(features)], dim=-1)
        a, b, c = users[u], fused[i], fused[j]
        return _ranking_loss(a, b, c) + 1e-3 * (torch.norm(a) + torch.norm(b) + torch.norm(c)) / len(j)

    optimizer = torch.optim.Adam([users, items, *projection.parameters()], lr=1e-3)
    return [_epoch(data, loss, optimizer) for _ in range(epochs)]


def _ranking_loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    gap = (users * positives).sum(dim=1) - (users * negatives).sum(dim=1)
    return -torch.log(1e-10 + torch.sigmoid(gap)).mean()


def _epoch(data: DataBundle, loss: Callable[..., Tensor], optimizer: torch.optim.Optimizer) -> float:
    start = time.process_time()
    for u, i, j in _batches(data):
        optimizer.zero_grad()
        loss(u, i, j).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.process_time() - start


def _batches(data: DataBundle) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    seen: dict[int, set[int]] = {}
    for user, item in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        seen.setdefault(user, set()).add(item)
    candidates = np.unique(data.train.items).tolist()
    order = np.random.default_rng(0).permutation(len(data.train))
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        negatives = []
        for user in data.train.users[chosen].tolist():
            drawn = random.choice(candidates)
            while drawn in seen[user]:
                drawn = random.choice(candidates)
            negatives.append(drawn)
        columns = (data.train.users[chosen], data.train.items[chosen], np.array(negatives))
        yield tuple(torch.from_numpy(column) for column in columns)  # type: ignore[misc]
