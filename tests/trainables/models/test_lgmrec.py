"""LGMRec against its formulas."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from dense_reference import EPSILON, Weights, adjacency, batch_of, bpr, build, check, norms, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle, Interactions
from trainables.types import Batch

SEED = 11
NUMBERS = {"num_hyperedges": 3, "hyper_weight": 0.7, "temperature": 0.4, "cl_weight": 0.05, "reg_weight": 0.01}


def histories(data: DataBundle) -> Tensor:
    r = torch.zeros(data.num_users, data.num_items, dtype=torch.float64)
    for u, i in zip(data.train.users, data.train.items, strict=True):
        r[u, i] = 1
    return r


def unit(x: Tensor) -> Tensor:
    return torch.stack([row / row.norm() if row.detach().any() else row for row in x])


def modal_graph(data: DataBundle, projected: Tensor, hops: int) -> Tensor:
    r = histories(data)
    users = torch.stack([(row[:, None] * projected).sum(0) / (row.sum() + EPSILON) for row in r])
    graph, nodes = adjacency(data, data.train.users, data.train.items), torch.cat([users, projected])
    for _ in range(hops):
        nodes = graph @ nodes
    return nodes


def noisy_members(logits: Tensor, dropout: float) -> Tensor:
    """Gumbel softmax, and a dropout mask that is drawn beside it."""
    noise = -torch.empty_like(logits).exponential_().log()
    mask = F.dropout(torch.ones_like(logits), dropout) if dropout else 1.0
    return torch.softmax((logits + noise) / 0.4, 1) * mask


def hypergraph(item_members: Tensor, user_members: Tensor, items: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    users = torch.zeros(0)
    for _ in range(rounds):
        states = item_members.T @ items
        items = item_members @ states
        users = user_members @ states
    return users, items


def contrast(left: Tensor, right: Tensor, chosen: Tensor) -> Tensor:
    """- sum_b log( exp(cos(l_b, r_b) / t) / sum_k exp(cos(l_b, r_k) / t) )."""
    loss = torch.zeros((), dtype=torch.float64)
    rows, columns = unit(left), unit(right)
    for b in chosen.tolist():
        exponents = torch.stack([torch.exp(rows[b] @ column / 0.4) for column in columns])
        loss = loss - torch.log(exponents[b] / exponents.sum())
    return loss


def final(
    data: DataBundle, w: Weights, hops: tuple[int, int, int], members: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """All nodes' representations, and each modality's users and items in its hypergraph."""
    graph = adjacency(data, data.train.users, data.train.items)
    ids = propagate(graph, torch.cat([w["user_embedding"], w["item_embedding"]]), hops[0])
    local, hyper = ids, []
    for m, table in enumerate(data.features.values()):
        features = torch.from_numpy(np.array(table)).double()
        local = local + unit(modal_graph(data, features @ w[f"projections.{m}"], hops[1]))
        logits = features @ w[f"hyperedges.{m}"]
        of_items = members(logits)
        hyper.append(hypergraph(of_items, members(histories(data) @ logits), ids[data.num_users :], hops[2]))
    total = sum((torch.cat(pair) for pair in hyper), torch.zeros(()))
    return local + 0.7 * unit(total), hyper


def naive(
    data: DataBundle, w: Weights, batch: Batch, hops: tuple[int, int, int] = (2, 2, 1), dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(SEED)
    nodes, hyper = final(data, w, hops, lambda logits: noisy_members(logits, dropout))
    users, items = nodes[: data.num_users], nodes[data.num_users :]
    loss = bpr(users, items, batch)
    for (users_a, items_a), (users_b, items_b) in combinations(hyper, 2):
        loss = loss + 0.05 * (contrast(users_a, users_b, batch.users) + contrast(items_a, items_b, batch.positives))
    loss = loss + 0.01 * norms(batch, users[batch.users], items[batch.positives], items[batch.negatives[:, 0]])
    judged, _ = final(data, w, hops, lambda logits: torch.softmax(logits / 0.4, 1))
    return loss, judged[: data.num_users] @ judged[data.num_users :].T


@pytest.mark.parametrize("modalities", [("image", "text"), ("text",), ("audio", "image", "text")])
def test_loss_gradients_and_scores_equal_the_naive_computation(
    modalities: tuple[str, ...], make_toy: Callable[..., DataBundle]
) -> None:
    torch.manual_seed(SEED)
    check("lgmrec", naive, make_toy(modalities=modalities), dropout=0.0, **NUMBERS)


@pytest.mark.parametrize("hops", [(1, 2, 3), (3, 1, 2)])
def test_every_number_of_hops_equals_the_naive_computation(hops: tuple[int, int, int], toy: DataBundle) -> None:
    layers = dict(zip(("num_layers", "num_modal_layers", "num_hyper_layers"), hops, strict=True))
    torch.manual_seed(SEED)
    check("lgmrec", lambda *args: naive(*args, hops=hops), toy, dropout=0.0, **layers, **NUMBERS)


def test_histories_of_different_lengths_equal_the_naive_computation(toy: DataBundle) -> None:
    kept = np.arange(len(toy.train)) % 5 != 1
    uneven = replace(toy, train=Interactions(toy.train.users[kept], toy.train.items[kept]))
    torch.manual_seed(SEED)
    check("lgmrec", naive, uneven, dropout=0.0, **NUMBERS)


def test_dropped_memberships_equal_the_naive_computation(toy: DataBundle) -> None:
    torch.manual_seed(SEED)
    check("lgmrec", lambda *args: naive(*args, dropout=0.4), toy, dropout=0.4, **NUMBERS)


def test_training_draws_noise_and_evaluation_does_not(toy: DataBundle) -> None:
    model = build("lgmrec", toy, dropout=0.0)
    first, second = (model.train().extract(model.fuse()).users for _ in range(2))
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    first, second = (model.eval().extract(model.fuse()).users for _ in range(2))
    assert torch.equal(first, second) and torch.equal(state, torch.get_rng_state())


def test_only_pairs_of_modalities_are_contrasted(make_toy: Callable[..., DataBundle]) -> None:
    counts = {("text",): 0, ("image", "text"): 1, ("audio", "image", "text"): 3}
    for modalities, count in counts.items():
        data = make_toy(modalities=modalities)
        model = build("lgmrec", data)
        parts = model.loss(model.extract(model.fuse()), batch_of(data)).parts
        assert sum(name.startswith("contrast") for name in parts) == count


def test_h_is_each_modality_before_its_graph(toy: DataBundle) -> None:
    model = build("lgmrec", toy, num_hyperedges=3)
    assert {name: tuple(h.shape) for name, h in model.fuse().items()} == {"image": (11, 6), "text": (11, 6)}
