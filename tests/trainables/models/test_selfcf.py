"""SelfCF against its formulas."""

from collections.abc import Callable

import pytest
import torch
from dense_reference import Naive, Weights, adjacency, batch_of, build, check, propagate
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.layers.dropout import dropout_factors
from trainables.layers.edge_dropout import DroppableAdjacency, uniform_rate
from trainables.layers.propagation import Adjacency
from trainables.models.selfcf import SelfCF
from trainables.seeding import torch_stream
from trainables.types import Batch

Target = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
"""(detached encoder output [N, D], batch) -> targets of the batch's users and items."""

DOUBLE = torch.zeros((), dtype=torch.float64)


def dense(graph: Adjacency) -> Tensor:
    upper, lower = graph.to_users.to_dense(), graph.to_items.to_dense()
    users, items = upper.shape
    zeros = upper.new_zeros
    return torch.cat([torch.cat([zeros(users, users), upper], 1), torch.cat([lower, zeros(items, items)], 1)])


def cosines(left: Tensor, right: Tensor) -> Tensor:
    return torch.stack([a @ b / (a.norm() * b.norm()).clamp_min(1e-8) for a, b in zip(left, right, strict=True)])


def loss_of(w: Weights, encoded: Tensor, target: tuple[Tensor, Tensor], batch: Batch, num_users: int) -> Tensor:
    """The loss without regulariser."""

    def predict(x: Tensor) -> Tensor:
        return x @ w["predictor.weight"].T + w["predictor.bias"]

    users, items = encoded[batch.users], encoded[num_users + batch.positives]
    return -(cosines(predict(users), target[1]).mean() + cosines(predict(items), target[0]).mean()) / 2


def scores_of(w: Weights, encoded: Tensor, num_users: int) -> Tensor:
    users, items = encoded[:num_users], encoded[num_users:]
    predicted = encoded @ w["predictor.weight"].T + w["predictor.bias"]
    return torch.stack(
        [
            torch.stack([predicted[u] @ items[i] + users[u] @ predicted[num_users + i] for i in range(len(items))])
            for u in range(num_users)
        ]
    )


def naive(encoder_graph: Callable[[], Tensor] | None, target: Target, reg_weight: float) -> Naive:
    """The computation of one variant; None for the encoder's graph means the whole one."""

    def compute(data: DataBundle, w: Weights, batch: Batch) -> tuple[Tensor, Tensor]:
        torch.manual_seed(8)
        whole = adjacency(data, data.train.users, data.train.items)
        start = torch.cat([w["user_embedding"], w["item_embedding"]])
        encoded = propagate(encoder_graph() if encoder_graph else whole, start, 2)
        loss = loss_of(w, encoded, target(encoded.detach(), batch), batch, data.num_users)
        for u, i in zip(batch.users.tolist(), batch.positives.tolist(), strict=True):
            loss = loss + reg_weight * ((encoded[u] ** 2).sum() + (encoded[data.num_users + i] ** 2).sum()) / 2
        return loss, scores_of(w, propagate(whole, start, 2), data.num_users)

    return compute


def dropped_graph(data: DataBundle) -> Callable[[], Tensor]:
    """Draws the encoder's graph as the model does: a rate for the pass, then the non-zeros."""
    graph = DroppableAdjacency(data.bipartite()).double()
    return lambda: dense(graph(uniform_rate()))


def test_embedding_dropout_equals_the_naive_computation(toy: DataBundle) -> None:
    def target(encoded: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        users, items = encoded[batch.users], encoded[toy.num_users + batch.positives]
        user_factors = dropout_factors((len(users), 6), 0.3, DOUBLE)
        return users * user_factors, items * dropout_factors((len(items), 6), 0.3, DOUBLE)

    torch.manual_seed(8)
    computed = naive(dropped_graph(toy), target, reg_weight=0.02)
    check("selfcf", computed, toy, variant="ed", num_layers=2, dropout=0.3, reg_weight=0.02)


def test_history_embedding_equals_the_naive_computation(toy: DataBundle) -> None:
    model = build("selfcf", toy, variant="he")
    assert isinstance(model, SelfCF)
    history = torch.cat([model.user_history, model.item_history])

    def target(encoded: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        mixed = 0.7 * history + (1 - 0.7) * encoded
        return mixed[batch.users], mixed[toy.num_users + batch.positives]

    torch.manual_seed(8)
    computed = naive(dropped_graph(toy), target, reg_weight=0.02)
    check("selfcf", computed, toy, variant="he", num_layers=2, momentum=0.7, reg_weight=0.02)


def test_edge_pruning_equals_the_naive_computation_and_has_no_regulariser(toy: DataBundle) -> None:
    graph = DroppableAdjacency(toy.bipartite()).double()

    def target(encoded: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        hop = dense(graph(0.4)) @ encoded
        return hop[batch.users], hop[toy.num_users + batch.positives]

    torch.manual_seed(8)
    check("selfcf", naive(None, target, reg_weight=0.0), toy, variant="ep", num_layers=2, dropout=0.4, reg_weight=0.5)


def test_targets_pass_no_gradient_on(toy: DataBundle) -> None:
    """Without predictor weights nothing is left of the online branch, and the loss has no slope in the embeddings."""
    for variant in ("ed", "he", "ep"):
        model = build("selfcf", toy, variant=variant, reg_weight=0.0)
        assert isinstance(model, SelfCF)
        torch.nn.init.zeros_(model.predictor.weight)
        model.loss(model.extract(model.fuse()), batch_of(toy, with_negatives=False)).total.backward()
        assert model.user_embedding.grad is not None and not model.user_embedding.grad.any()
        assert model.predictor.bias.grad is not None and model.predictor.bias.grad.any()


@pytest.mark.parametrize(("variant", "draws"), [("ed", True), ("he", True), ("ep", False)])
def test_the_encoder_drops_edges_in_training_at_a_new_rate_each_pass(
    variant: str, draws: bool, toy: DataBundle
) -> None:
    model = build("selfcf", toy, variant=variant)
    torch.manual_seed(0)
    passes = [model.train().fuse()["users"] for _ in range(2)]
    assert torch.equal(*passes) is not draws
    judged = [model.eval().fuse()["users"] for _ in range(2)]
    assert torch.equal(*judged)


@pytest.mark.parametrize("variant", ["ed", "he", "ep"])
def test_nothing_is_drawn_outside_training(variant: str, toy: DataBundle) -> None:
    model = build("selfcf", toy, variant=variant, dropout=0.5).eval()
    state = torch.get_rng_state()
    model.loss(model.extract(model.fuse()), batch_of(toy, with_negatives=False))
    assert torch.equal(state, torch.get_rng_state())


def test_the_history_is_what_the_encoder_said_of_the_batch_before(toy: DataBundle) -> None:
    model = build("selfcf", toy, variant="he", momentum=0.5)
    assert isinstance(model, SelfCF)
    batch = batch_of(toy, with_negatives=False)
    before = model.user_history.clone()
    torch.manual_seed(1)
    hidden = model.extract(model.fuse(batch))
    losses = model.loss(hidden, batch)
    assert torch.equal(model.user_history, before)  # a loss leaves the history to `remember`
    model.remember(batch, losses.memory)
    touched = torch.zeros(toy.num_users, dtype=torch.bool)
    touched[batch.users] = True
    assert torch.equal(model.user_history[touched], hidden.users[touched])
    assert torch.equal(model.user_history[~touched], before[~touched]) and not touched.all()
    assert torch.equal(model.item_history[batch.positives], hidden.items[batch.positives])
    assert not any(value.requires_grad for value in losses.memory.values())


def test_the_history_starts_standard_normal_from_the_generator_and_is_in_checkpoints(toy: DataBundle) -> None:
    config = SelfCF.Config(variant="he", embedding_size=512)
    first, second = (SelfCF(config, toy, torch_stream(3, "init")) for _ in range(2))
    assert torch.equal(first.user_history, second.user_history)
    assert abs(float(first.user_history.mean())) < 0.05 and abs(float(first.user_history.std()) - 1) < 0.05
    assert {"user_history", "item_history"} <= set(first.state_dict())
    assert "user_history" not in build("selfcf", toy, variant="ed").state_dict()
