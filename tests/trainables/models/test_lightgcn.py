"""LightGCN against its formulas."""

import torch
from dense_reference import Weights, adjacency, bpr, check, norms, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
    start = torch.cat([w["user_embedding"], w["item_embedding"]])
    final = propagate(adjacency(data, data.train.users, data.train.items), start, 2)
    users, items = final[: data.num_users], final[data.num_users :]
    ego = (w["user_embedding"][batch.users], w["item_embedding"][batch.positives])
    penalty = norms(batch, *ego, w["item_embedding"][batch.negatives[:, 0]])
    return bpr(users, items, batch) + 0.01 * penalty, users @ items.T


def test_loss_gradients_and_scores_equal_the_naive_computation(toy: DataBundle) -> None:
    check("lightgcn", naive, toy, num_layers=2, reg_weight=0.01)
