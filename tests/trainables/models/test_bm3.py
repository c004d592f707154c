"""BM3 against its formulas."""

import torch
from dense_reference import Weights, adjacency, check, distance, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.types import Batch


def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
    start = torch.cat([w["user_embedding"], w["item_embedding"]])
    final = propagate(adjacency(data, data.train.users, data.train.items), start, 1)
    users, items = final[: data.num_users], final[data.num_users :] + w["item_embedding"]

    def predict(x: Tensor) -> Tensor:
        return x @ w["predictor.weight"].T + w["predictor.bias"]

    # Dropout is 0 in this test, so a target is its source without gradient.
    user_rows, item_rows = users[batch.users], items[batch.positives]
    loss = distance(predict(user_rows), item_rows.detach()) + distance(predict(item_rows), user_rows.detach())
    for m in range(2):
        table, weight = w[f"modalities.tables.{m}"], w[f"modalities.projections.{m}.weight"]
        rows = (table @ weight.T + w[f"modalities.projections.{m}.bias"])[batch.positives]
        loss = loss + 2.0 * (distance(predict(rows), item_rows.detach()) + distance(predict(rows), rows.detach()))
    loss = loss + 0.1 * ((users**2).sum().sqrt() + (items**2).sum().sqrt()) / data.num_items
    return loss, predict(users) @ predict(items).T


def test_loss_gradients_and_scores_equal_the_naive_computation(toy: DataBundle) -> None:
    check("bm3", naive, toy, num_layers=1, dropout=0.0, reg_weight=0.1, cl_weight=2.0)
