"""GRCN against its formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_reference import Weights, bpr, build, check
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def unit(values: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in values])


def neighbourhoods(data: DataBundle) -> dict[int, list[int]]:
    """The neighbours of every node, users first."""
    result: dict[int, list[int]] = {node: [] for node in range(data.num_users + data.num_items)}
    for u, i in zip(data.train.users.tolist(), data.train.items.tolist(), strict=True):
        result[u].append(data.num_users + i)
        result[data.num_users + i].append(u)
    return result


def attend(x: Tensor, neighbours: dict[int, list[int]]) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Every node's mean of its neighbours, weighted by the softmax of the inner products with it; and the weights."""
    rows, weights = [], {}
    for node, others in neighbours.items():
        total, raised = torch.zeros_like(x[node]), [torch.exp(x[node] @ x[other]) for other in others]
        for other, value in zip(others, raised, strict=True):
            weights[node, other] = value / sum(raised, torch.zeros(()))
            total = total + weights[node, other] * x[other]
        rows.append(total)
    return torch.stack(rows), weights


def content(
    data: DataBundle, w: Weights, place: int, features: np.ndarray, routings: int
) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """One modality's content representation [N, D], and the attention of target and source."""
    neighbours, num_users = neighbourhoods(data), data.num_users
    projection = f"projections.{place}"
    f = torch.from_numpy(features).double() @ w[f"{projection}.weight"].T + w[f"{projection}.bias"]
    f = unit(torch.where(f > 0, f, 0.01 * f))
    p = unit(w[f"preferences.{place}"])
    for _ in range(routings):
        p = unit(p + attend(torch.cat([p, f]), neighbours)[0][:num_users])
    x = torch.cat([p, f])
    mean, weights = attend(x, neighbours)
    return x + mean, weights


def naive_with(routings: int, layers: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss with reg_weight 0.3, and the scores."""

    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        parts = [content(data, w, place, features, routings) for place, features in enumerate(data.features.values())]
        size = data.num_users + data.num_items
        refined = torch.zeros(size, size, dtype=torch.float64)
        for target, source in parts[0][1]:
            trusted = [weights[target, source] * w["confidence"][source, m] for m, (_, weights) in enumerate(parts)]
            refined[target, source] = torch.stack(trusted).max().clamp_min(0)
        hops = [unit(w["embedding"])]
        for _ in range(layers):
            hops.append(refined @ hops[-1])
        e = torch.cat([sum(hops[1:], hops[0]), *(part for part, _ in parts)], dim=1)
        users, items = e[: data.num_users], e[data.num_users :]
        return bpr(users, items, batch) + 0.3 * penalty(data, w, batch), users @ items.T

    return naive


def penalty(data: DataBundle, w: Weights, batch: Batch) -> Tensor:
    squares = []
    for u, i, j in zip(batch.users.tolist(), batch.positives.tolist(), batch.negatives[:, 0].tolist(), strict=True):
        for item in (i, j):
            squares.append(w["embedding"][u] ** 2 + w["embedding"][data.num_users + item] ** 2)
    total = torch.stack(squares).mean() + (w["preferences.0"] ** 2).mean()
    for place in range(len(data.features)):
        total = total + torch.stack([w[f"preferences.{place}"][u] ** 2 for u in batch.users.tolist()]).mean()
    return total


@pytest.mark.parametrize("modalities", [("image", "text"), ("text",), ("audio", "image", "text")])
@pytest.mark.parametrize(("routings", "layers"), [(3, 2), (1, 1), (2, 3)])
def test_loss_gradients_and_scores_equal_the_naive_computation(
    make_toy: Callable[..., DataBundle], modalities: tuple[str, ...], routings: int, layers: int
) -> None:
    data = make_toy(modalities=modalities)
    check("grcn", naive_with(routings, layers), data, num_routings=routings, num_layers=layers, reg_weight=0.3)


def test_as_in_mmrec_routing_only_normalises(toy: DataBundle) -> None:
    check("grcn", naive_with(0, 2), toy, num_routings=3, compat="mmrec", reg_weight=0.3)


def test_a_representation_holds_ids_and_every_modality_side_by_side(make_toy: Callable[..., DataBundle]) -> None:
    data = make_toy(modalities=("audio", "image", "text"))
    model = build("grcn", data)
    hidden = model.extract(model.fuse())
    assert hidden.users.shape == (data.num_users, 4 * 6)
    assert hidden.items.shape == (data.num_items, 4 * 6)


def test_h_is_the_routed_content_on_which_attention_ids_and_content_depend(toy: DataBundle) -> None:
    model = build("grcn", toy)
    fused = model.fuse()
    assert list(fused) == ["image", "image_users", "text", "text_users"]
    assert all(torch.allclose(h.norm(dim=1), torch.ones(len(h), dtype=h.dtype)) for h in fused.values())
    clean = model.extract(fused).users
    noisy = model.extract({name: h + 0.1 for name, h in fused.items()}).users
    changed = (clean - noisy).abs().amax(0) > 0
    assert changed.all(), "every column, of ids and of both modalities, must follow from H"
