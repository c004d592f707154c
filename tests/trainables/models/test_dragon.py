"""DRAGON against its formulas; the encoder and the users' graph are DualGNN's."""

import math
from collections.abc import Callable

import pytest
import torch
from dense_reference import Naive, Weights, bpr, build, check, neighbours
from dual_reference import attention, penalty, representations
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.seeding import numpy_stream
from trainables.types import Batch


def naive_of(shares: dict[str, float], length: int = 40, item_layers: int = 1) -> Naive:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        parts = representations(data, w)
        columns = [w["user_weights"][:, m : m + 1] * part[: data.num_users] for m, part in enumerate(parts)]
        users = torch.cat(columns, dim=1)
        alone = torch.cat([part[data.num_users :] for part in parts], dim=1)
        similar = sum(share * neighbours(data.features[name], 4) for name, share in shares.items())
        items = alone + torch.linalg.matrix_power(similar, item_layers) @ alone
        trained = users + attention(data, length, numpy_stream(0, "graph", 1)) @ users
        judged = users + attention(data, length, None) @ users
        return bpr(trained, items, batch) / math.log(2) + 0.05 * penalty(w, batch, len(parts)), judged @ items.T

    return naive


@pytest.mark.parametrize("length", [3, 40])
def test_loss_gradients_and_scores_equal_the_naive_computation(length: int, toy: DataBundle) -> None:
    naive = naive_of({"image": 0.3, "text": 0.7}, length)
    check("dragon", naive, toy, num_neighbours=length, knn_k=4, image_weight=0.3, reg_weight=0.05)


@pytest.mark.parametrize(
    "shares", [{"text": 1.0}, {"image": 1.0}, {"audio": 0.45, "image": 0.1, "text": 0.45}], ids="+".join
)
def test_so_they_do_with_one_modality_and_with_three(
    shares: dict[str, float], make_toy: Callable[..., DataBundle]
) -> None:
    check("dragon", naive_of(shares), make_toy(modalities=tuple(shares)), knn_k=4, reg_weight=0.05)


def test_so_they_do_with_more_hops_over_the_item_graph(toy: DataBundle) -> None:
    naive = naive_of({"image": 0.1, "text": 0.9}, item_layers=2)
    check("dragon", naive, toy, num_item_layers=2, knn_k=4, reg_weight=0.05)


def test_both_item_graph_and_image_weight_count(toy: DataBundle) -> None:
    found = []
    for numbers in ({}, {"image_weight": 0.5}, {"knn_k": 4}):
        model = build("dragon", toy, **numbers).eval()
        found.append(model.extract(model.fuse()).items)
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_features_are_constants(toy: DataBundle) -> None:
    shapes = {tuple(weight.shape) for weight in build("dragon", toy).state_dict().values()}
    assert not shapes & {features.shape for features in toy.features.values()}


def test_more_neighbours_than_items_are_refused(toy: DataBundle) -> None:
    with pytest.raises(ValueError, match="12"):
        build("dragon", toy, knn_k=12)
