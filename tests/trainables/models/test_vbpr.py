"""VBPR against its formulas."""

import numpy as np
import torch
from dense_reference import Weights, bpr, check, norms
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
    features = torch.from_numpy(np.concatenate([data.features["image"], data.features["text"]], axis=1)).double()
    content = features @ w["projection.weight"].T + w["projection.bias"]
    users, items = w["user_embedding"], torch.cat([w["item_embedding"], content], dim=1)
    blocks = users[batch.users], items[batch.positives], items[batch.negatives[:, 0]]
    return bpr(users, items, batch) + 0.01 * norms(batch, *blocks), users @ items.T


def test_loss_gradients_and_scores_equal_the_naive_computation(toy: DataBundle) -> None:
    check("vbpr", naive, toy, reg_weight=0.01)
