"""SLMRec against its formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_reference import Weights, adjacency, batch_of, build, check, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def infonce(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """The mean over pairs b of -log(exp(l_b r_b / t) / sum_c exp(l_b r_c / t)), pairs as they come, repeated or not."""
    terms = []
    for b in range(len(left)):
        exponents = torch.stack([torch.exp(left[b] @ right[c] / temperature) for c in range(len(right))])
        terms.append(-torch.log(exponents[b] / exponents.sum()))
    return torch.stack(terms).mean()


def unit(x: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in x])


def views(data: DataBundle, w: Weights, layers: int) -> tuple[list[Tensor], list[Tensor]]:
    """The propagated ids and modalities, in that order, of users and of items."""
    graph = adjacency(data, data.train.users, data.train.items)
    tables = [w["item_embedding"]]
    for m, features in enumerate(data.features.values()):
        tables.append(linear(w, f"dense.{m}", unit(torch.from_numpy(np.array(features)).double())))
    propagated = [propagate(graph, torch.cat([w["user_embedding"], table]), layers) for table in tables]
    return [x[: data.num_users] for x in propagated], [x[data.num_users :] for x in propagated]


def fine_and_coarse(data: DataBundle, w: Weights, item_rows: list[Tensor]) -> Tensor:
    ids = linear(w, "id_head", item_rows[0])
    loss, fine = torch.zeros((), dtype=torch.float64), 0
    for name, x in zip(data.features, item_rows[1:], strict=True):
        if name == "text":
            coarse = linear(w, "coarse_heads.1", linear(w, "coarse_heads.0", ids))
            loss = loss + infonce(coarse, linear(w, "coarse_heads.2", x), 0.3)
        else:
            loss = loss + infonce(ids, linear(w, f"fine_heads.{fine}", x), 0.3)
            fine += 1
    return loss


def naive(data: DataBundle, w: Weights, batch: Batch, layers: int = 3, squash: bool = False) -> tuple[Tensor, Tensor]:
    of_users, of_items = views(data, w, layers)
    users = linear(w, "user_fusion", torch.cat(of_users, dim=1))
    items = linear(w, "item_fusion", torch.cat(of_items, dim=1))
    loss = infonce(unit(users[batch.users]), unit(items[batch.positives]), 0.25)
    loss = loss + 0.5 * fine_and_coarse(data, w, [x[batch.positives] for x in of_items])
    for weight in w.values():
        loss = loss + 0.01 * (weight**2).sum() / 2
    scores = users @ items.T
    return loss, 1 / (1 + torch.exp(-scores)) if squash else scores


NUMBERS = {"temperature": 0.25, "ssl_temperature": 0.3, "ssl_weight": 0.5, "reg_weight": 0.01}


@pytest.mark.parametrize("modalities", [("image", "text"), ("text",), ("image",), ("audio", "image", "text")])
def test_loss_gradients_and_scores_equal_the_naive_computation(
    modalities: tuple[str, ...], make_toy: Callable[..., DataBundle]
) -> None:
    check("slmrec", naive, make_toy(modalities=modalities), **NUMBERS)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_even_and_odd_hops_equal_the_naive_computation(layers: int, toy: DataBundle) -> None:
    check("slmrec", lambda *args: naive(*args, layers=layers), toy, num_layers=layers, **NUMBERS)


def test_the_reference_implementation_scores_through_a_sigmoid(toy: DataBundle) -> None:
    check("slmrec", lambda *args: naive(*args, squash=True), toy, compat="mmrec", **NUMBERS)


def test_features_of_zeros_are_no_reason_for_nan(make_toy: Callable[..., DataBundle]) -> None:
    data = make_toy()
    blank = {name: np.where(np.arange(len(f))[:, None] == 2, np.float32(0), f) for name, f in data.features.items()}
    empty = DataBundle(**{**vars(data), "features": blank})
    model = build("slmrec", empty)
    losses = model.loss(model.extract(model.fuse()), batch_of(empty, with_negatives=False))
    assert torch.isfinite(losses.total)
    for layer, view in zip(model.get_submodule("dense").children(), model.fuse().values(), strict=True):
        assert torch.equal(view[2], layer.get_parameter("bias"))


def test_h_is_each_modality_before_the_graph(toy: DataBundle) -> None:
    model = build("slmrec", toy)
    assert {name: tuple(h.shape) for name, h in model.fuse().items()} == {"image": (11, 6), "text": (11, 6)}
