"""NGCF against its formulas."""

import pytest
import torch
from dense_reference import Weights, adjacency, batch_of, bpr, build, check, norms
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.layers.dropout import dropout_factors
from trainables.types import Batch


def layers(data: DataBundle, w: Weights, graph: Tensor, depth: int, masks: list[Tensor] | None = None) -> Tensor:
    """[E⁰ ‖ norm(E¹) ‖ ...] with explicit loops over nodes; `masks` are dropout's factors for each layer."""
    current = torch.cat([w["user_embedding"], w["item_embedding"]])
    outputs = [current]
    for layer in range(depth):
        w1, b1 = w[f"of_sum.{layer}.weight"], w[f"of_sum.{layer}.bias"]
        w2, b2 = w[f"of_product.{layer}.weight"], w[f"of_product.{layer}.bias"]
        messages, nodes = graph @ current, []
        for own, message in zip(current, messages, strict=True):
            value = w1 @ (message + own) + b1 + w2 @ (message * own) + b2
            nodes.append(torch.where(value > 0, value, 0.2 * value))
        current = torch.stack(nodes)
        if masks is not None:
            current = current * masks[layer]
        outputs.append(torch.stack([row / row.norm() if row.norm() > 0 else row for row in current]))
    return torch.cat(outputs, dim=1)


def reference(
    data: DataBundle, w: Weights, batch: Batch, depth: int, regulariser: str, masks: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    graph = adjacency(data, data.train.users, data.train.items)
    final = layers(data, w, graph, depth, masks)
    users, items = final[: data.num_users], final[data.num_users :]
    blocks = users[batch.users], items[batch.positives], items[batch.negatives[:, 0]]
    squares = sum(((block**2).sum() for block in blocks), torch.zeros(())) / 2 / len(batch.users)
    penalty = squares if regulariser == "squared" else norms(batch, *blocks)
    judged = layers(data, w, graph, depth)
    return bpr(users, items, batch) + 0.05 * penalty, judged[: data.num_users] @ judged[data.num_users :].T


@pytest.mark.parametrize("regulariser", ["squared", "norm"])
@pytest.mark.parametrize("depth", [1, 3])
def test_loss_gradients_and_scores_equal_the_naive_computation(depth: int, regulariser: str, toy: DataBundle) -> None:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        return reference(data, w, batch, depth, regulariser)

    numbers = {"num_layers": depth, "regulariser": regulariser, "reg_weight": 0.05}
    check("ngcf", naive, toy, message_dropout=0.0, node_dropout=0.0, **numbers)


def test_message_dropout_falls_on_every_layers_output_before_it_is_normalised(toy: DataBundle) -> None:
    def naive(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        torch.manual_seed(4)
        like = torch.zeros((), dtype=torch.float64)
        masks = [
            torch.cat([dropout_factors((rows, 6), 0.5, like) for rows in (data.num_users, data.num_items)])
            for _ in range(2)
        ]
        assert all(0 < (mask == 0).sum() < mask.numel() for mask in masks)
        return reference(data, w, batch, 2, "squared", masks)

    torch.manual_seed(4)
    check("ngcf", naive, toy, num_layers=2, message_dropout=0.5, reg_weight=0.05)


def test_node_dropout_changes_the_graph_in_training_only(toy: DataBundle) -> None:
    model = build("ngcf", toy, node_dropout=0.5, message_dropout=0.0)
    fused = model.fuse()
    torch.manual_seed(4)
    trained = model.train().extract(fused)
    torch.manual_seed(4)
    graph = model.adjacency(0.5)
    whole = build("ngcf", toy, node_dropout=0.0, message_dropout=0.0)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    dense = torch.zeros(toy.num_users + toy.num_items, toy.num_users + toy.num_items, dtype=torch.float64)
    dense[: toy.num_users, toy.num_users :] = graph.to_users.to_dense()
    dense[toy.num_users :, : toy.num_users] = graph.to_items.to_dense()
    expected = layers(toy, weights, dense, 3)
    torch.testing.assert_close(torch.cat([trained.users, trained.items]), expected)
    judged = model.eval().extract(fused)
    torch.testing.assert_close(judged.users, whole.eval().extract(fused).users, rtol=0, atol=0)


def test_evaluation_drops_nothing(toy: DataBundle) -> None:
    model = build("ngcf", toy, message_dropout=0.5, node_dropout=0.5).eval()
    first, second = model.extract(model.fuse()), model.extract(model.fuse())
    assert torch.equal(first.users, second.users) and torch.equal(first.items, second.items)
    in_training = model.train().extract(model.fuse())
    assert not torch.equal(first.users, in_training.users)


def test_the_squared_regulariser_is_a_mean_over_the_batch(toy: DataBundle) -> None:
    model = build("ngcf", toy, message_dropout=0.0, reg_weight=0.5)
    once = batch_of(toy)
    columns = (torch.cat([column, column]) for column in (once.users, once.positives, once.negatives))
    losses = [model.loss(model.extract(model.fuse()), batch) for batch in (once, Batch(*columns))]
    torch.testing.assert_close(losses[1].parts["regularisation"], losses[0].parts["regularisation"])
