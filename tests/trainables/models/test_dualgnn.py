"""DualGNN against its formulas."""

import math
from collections.abc import Callable

import pytest
import torch
from dense_reference import Naive, Weights, batch_of, bpr, build, check
from dual_reference import attention, penalty, representations
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.models.dualgnn import DualGNN
from trainables.seeding import numpy_stream
from trainables.types import Batch

LENGTHS = [3, 40]
"""Lists that nobody's neighbours leave short, and lists that everybody's do."""


def naive_of(length: int, layers: int = 2, aliased: bool = False) -> Naive:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        parts = representations(data, w, layers)
        items = sum(parts)[data.num_users :]
        if aliased:
            parts[0] = sum(parts)
        users = sum(w["user_weights"][:, m : m + 1] * part[: data.num_users] for m, part in enumerate(parts))
        trained = users + attention(data, length, numpy_stream(0, "graph", 1)) @ users
        judged = users + attention(data, length, None) @ users
        squares = penalty(w, batch, len(parts)) + (w["item_weights"] ** 2).mean()
        return bpr(trained, items, batch) / math.log(2) + 0.05 * squares, judged @ items.T

    return naive


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("compat", ["paper", "mmrec"])
def test_loss_gradients_and_scores_equal_the_naive_computation(length: int, compat: str, toy: DataBundle) -> None:
    naive = naive_of(length, aliased=compat == "mmrec")
    check("dualgnn", naive, toy, num_neighbours=length, compat=compat, reg_weight=0.05)


@pytest.mark.parametrize("compat", ["paper", "mmrec"])
@pytest.mark.parametrize("modalities", [("text",), ("audio", "image", "text")])
def test_so_they_do_with_one_modality_and_with_three(
    compat: str, modalities: tuple[str, ...], make_toy: Callable[..., DataBundle]
) -> None:
    naive = naive_of(40, aliased=compat == "mmrec")
    check("dualgnn", naive, make_toy(modalities=modalities), compat=compat, reg_weight=0.05)


def test_so_they_do_with_another_number_of_hops(toy: DataBundle) -> None:
    check("dualgnn", naive_of(40, layers=3), toy, num_layers=3, reg_weight=0.05)


def test_before_the_first_epoch_training_sees_the_unpadded_lists(toy: DataBundle) -> None:
    model, batch = build("dualgnn", toy), batch_of(toy)
    seen = model.train().distilled(model.extract(model.fuse()), batch, None)["scores"]
    assert torch.equal(seen, model.eval().distilled(model.extract(model.fuse()), batch, None)["scores"])


@pytest.mark.parametrize("name", ["dualgnn", "dragon"])
def test_scores_do_not_depend_on_the_epochs_padding_and_training_does(name: str, toy: DataBundle) -> None:
    model, batch = build(name, toy), batch_of(toy)
    losses, scores = [], []
    for epoch in (1, 2):
        model.start_epoch(epoch, numpy_stream(0, "graph", epoch))
        losses.append(model.train().loss(model.extract(model.fuse()), batch).total.item())
        scores.append(model.eval().score(model.extract(model.fuse()), batch.users))
    assert losses[0] != losses[1] and torch.equal(*scores)


@pytest.mark.parametrize("name", ["dualgnn", "dragon"])
def test_modality_weights_are_a_softmax_at_the_start_and_free_afterwards(name: str, toy: DataBundle) -> None:
    model, batch = build(name, toy), batch_of(toy)
    assert torch.allclose(model.user_weights.sum(1), torch.ones(toy.num_users, dtype=torch.float64))
    model.loss(model.extract(model.fuse()), batch).total.backward()
    assert model.user_weights.grad is not None and bool(model.user_weights.grad.sum(1).abs().min() > 1e-9)


def test_the_lists_hold_at_most_200_users() -> None:
    with pytest.raises(ValueError, match="200"):
        DualGNN.Config(num_neighbours=201)
