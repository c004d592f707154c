"""MMGCN against its formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_reference import Weights, batch_of, bpr, build, check
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def lrelu(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.01 * values)


def unit(values: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in values])


def mean_adjacency(data: DataBundle) -> Tensor:
    """D⁻¹A [N, N]; rows without an edge stay 0."""
    size = data.num_users + data.num_items
    a = torch.zeros(size, size, dtype=torch.float64)
    for u, i in zip(data.train.users, data.train.items, strict=True):
        a[u, data.num_users + i] = a[data.num_users + i, u] = 1
    return a / a.sum(1, keepdim=True).clamp_min(1)


def network(data: DataBundle, w: Weights, place: int, features: np.ndarray, latent_size: int, layers: int) -> Tensor:
    """One modality's representations of all nodes [N, D]."""
    prefix, inputs = f"networks.{place}", torch.from_numpy(features).double()
    if features.shape[1] > 2 * latent_size:
        inputs = inputs @ w[f"projections.{place}.weight"].T + w[f"projections.{place}.bias"]
    x, mean = unit(torch.cat([w[f"{prefix}.preference"], inputs])), mean_adjacency(data)
    for k in range(layers):
        layer = f"{prefix}.layers.{k}"
        h = lrelu(mean @ (x @ w[f"{layer}.message"]))
        itself = lrelu(x @ w[f"{layer}.own.weight"].T + w[f"{layer}.own.bias"]) + w["embedding"]
        x = lrelu(torch.cat([h, itself], dim=1) @ w[f"{layer}.joint.weight"].T + w[f"{layer}.joint.bias"])
    return x


def naive_with(latent_size: int, layers: int, compat: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss with reg_weight 0.3, and the scores."""

    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        constants = ("embedding", "preference") if compat == "mmrec" else ()
        w = {key: value.detach() if key.endswith(constants) else value for key, value in w.items()}
        outputs = [
            network(data, w, place, features, latent_size, layers)
            for place, features in enumerate(data.features.values())
        ]
        e = sum(outputs[1:], outputs[0]) / len(outputs)
        users, items = e[: data.num_users], e[data.num_users :]
        squares = []
        for u, i, j in zip(batch.users.tolist(), batch.positives.tolist(), batch.negatives[:, 0].tolist(), strict=True):
            for item in (i, j):
                squares.append(w["embedding"][u] ** 2 + w["embedding"][data.num_users + item] ** 2)
        preferences = [w[f"networks.{place}.preference"] for place in range(len(outputs))]
        penalised = preferences if compat == "paper" else preferences[:1]
        penalty = torch.stack(squares).mean() + sum((p**2).mean() for p in penalised)
        return bpr(users, items, batch) + 0.3 * penalty, users @ items.T

    return naive


@pytest.mark.parametrize("compat", ["paper", "mmrec"])
@pytest.mark.parametrize("modalities", [("image", "text"), ("text",), ("audio", "image", "text")])
@pytest.mark.parametrize(("latent_size", "layers"), [(3, 3), (2, 1), (256, 2)])
def test_loss_gradients_and_scores_equal_the_naive_computation(
    make_toy: Callable[..., DataBundle], compat: str, modalities: tuple[str, ...], latent_size: int, layers: int
) -> None:
    data = make_toy(modalities=modalities)
    numbers = {"latent_size": latent_size, "num_layers": layers, "compat": compat, "reg_weight": 0.3}
    check("mmgcn", naive_with(latent_size, layers, compat), data, **numbers)


def test_only_features_more_than_twice_as_wide_as_the_latent_size_are_projected(toy: DataBundle) -> None:
    model = build("mmgcn", toy, latent_size=3)
    fused = model.fuse()
    assert fused["image"].shape == (toy.num_items, 3)
    assert torch.equal(fused["text"].float(), torch.from_numpy(toy.features["text"].copy()))


@pytest.mark.parametrize(("compat", "counts"), [("paper", True), ("mmrec", False)])
def test_the_regularisation_weight_moves_the_weights_unless_as_in_mmrec(
    toy: DataBundle, compat: str, counts: bool
) -> None:
    gradients = []
    for weight in (0.0, 0.5):
        model = build("mmgcn", toy, compat=compat, reg_weight=weight)
        batch = batch_of(toy)
        model.loss(model.extract(model.fuse()), batch).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(*gradients) is not counts


def test_as_in_mmrec_neither_id_embedding_nor_preferences_are_trained(toy: DataBundle) -> None:
    model = build("mmgcn", toy, compat="mmrec")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"embedding", "networks.0.preference", "networks.1.preference"}
