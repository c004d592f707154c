"""AMR: against a second computation from the formulas, its identities, and what it must leave alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.errors import ModelError
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.objectives.amr import AMR, feature_values
from trainables.objectives.base import Objective
from trainables.seeding import torch_stream
from trainables.types import Batch, Losses

Build = Callable[..., Recommender]
Make = Callable[..., Objective]
Seeded = Callable[..., Any]
MULTIMODAL = [name for name, model in MODELS.items() if model.uses_features]
TRAINABLE_TABLES = ("bm3", "freedom")
ADVERSARIES = [
    *((name, "gradient") for name in MULTIMODAL),
    *((name, "random") for name in ("vbpr", "freedom", "lgmrec")),
]
PARTS = {"image": slice(0, 7), "text": slice(7, 12)}


def without_regularisation(losses: Losses) -> Tensor:
    return sum(part for name, part in losses.parts.items() if name != "regularisation")  # type: ignore[return-value]


# A second computation for VBPR, from the formulas of strategies.md §7, with NumPy and gradients by hand.


def vbpr_numbers(model: Recommender, batch: Batch) -> dict[str, np.ndarray]:
    names = {"p": "user_embedding", "q": "item_embedding", "w": "projection.weight", "b": "projection.bias"}
    numbers = {key: model.get_parameter(name).detach().numpy().copy() for key, name in names.items()}
    numbers["c"] = model.get_buffer("features").numpy().copy()
    return numbers | {"u": batch.users.numpy(), "i": batch.positives.numpy(), "j": batch.negatives[:, 0].numpy()}


def vbpr_gradients(numbers: dict[str, np.ndarray], features: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """(BPR loss, its gradient in p, q, w, b and the features c) at given features."""
    p, q, w, b, u, i, j = (numbers[key] for key in ("p", "q", "w", "b", "u", "i", "j"))
    items = np.concatenate([q, features @ w.T + b], axis=1)
    gaps = ((items[i] - items[j]) * p[u]).sum(1)
    by_gap = -1 / (1 + np.exp(gaps)) / len(u)  # ∂/∂x of mean softplus(-x)
    by_p, by_items = np.zeros_like(p), np.zeros_like(items)
    np.add.at(by_p, u, by_gap[:, None] * (items[i] - items[j]))
    np.add.at(by_items, i, by_gap[:, None] * p[u])
    np.add.at(by_items, j, -by_gap[:, None] * p[u])
    by_q, by_content = np.split(by_items, 2, axis=1)
    gradients = {"p": by_p, "q": by_q, "w": by_content.T @ features, "b": by_content.sum(0), "c": by_content @ w}
    return float(np.log1p(np.exp(-gaps)).mean()), gradients


def reference_moves(numbers: dict[str, np.ndarray], epsilon: float, *, relative: bool) -> np.ndarray:
    """Δ: ε along every item's own gradient, modality by modality."""
    _, gradients = vbpr_gradients(numbers, numbers["c"])
    moves = np.zeros_like(numbers["c"])
    for part in PARTS.values():
        size = epsilon * (np.mean([np.linalg.norm(row) for row in numbers["c"][:, part]]) if relative else 1.0)
        for item, row in enumerate(gradients["c"][:, part]):
            if np.any(row):
                moves[item, part] = size * row / np.linalg.norm(row)
    return moves


@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_loss_and_gradients_are_those_of_the_formulas(
    scale: str, build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("vbpr", reg_weight=0.0)
    amr = objective_for("amr", model, epsilon=0.7, epsilon_scale=scale, adversarial_weight=0.4)
    numbers = vbpr_numbers(model, batch)
    clean, by_clean = vbpr_gradients(numbers, numbers["c"])
    moves = reference_moves(numbers, 0.7, relative=scale == "relative")
    untouched = sorted(set(range(11)) - set(numbers["i"]) - set(numbers["j"]))
    assert untouched and not moves[untouched].any() and moves.any()
    adversarial, by_adversarial = vbpr_gradients(numbers, numbers["c"] + moves)
    losses = amr(model, batch)
    assert losses.parts["bpr"].item() == pytest.approx(clean, abs=1e-13)
    assert losses.parts["adversarial"].item() == pytest.approx(0.4 * adversarial, abs=1e-13)
    assert losses.total.item() == pytest.approx(clean + 0.4 * adversarial, abs=1e-13)
    losses.total.backward()
    names = {"p": "user_embedding", "q": "item_embedding", "w": "projection.weight", "b": "projection.bias"}
    for key, name in names.items():
        expected = by_clean[key] + 0.4 * by_adversarial[key]  # Δ counts as a constant
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=0, atol=1e-13, err_msg=name)


def test_the_regulariser_counts_once_and_moves_nobody(build: Build, objective_for: Make, batch: Batch) -> None:
    free, strict = build("vbpr", reg_weight=0.0), build("vbpr", reg_weight=10.0)
    losses = {model: objective_for("amr", model)(model, batch) for model in (free, strict)}
    assert torch.equal(losses[free].parts["adversarial"], losses[strict].parts["adversarial"])
    plain = objective_for("plain", strict)(strict, batch)
    expected = plain.total + losses[strict].parts["adversarial"]
    torch.testing.assert_close(losses[strict].total, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("name", "adversary"), ADVERSARIES)
def test_without_a_move_it_is_the_plain_loss_and_once_more_without_its_regulariser(
    name: str, adversary: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    """So the clean pass draws what plain training draws, and the second pass draws the same again."""
    model = build(name)
    plain = seeded(objective_for("plain", model), model, batch)
    amr = objective_for("amr", model, epsilon=0.0, adversarial_weight=2.0, adversary=adversary)
    losses = seeded(amr, model, batch)
    assert all(torch.equal(losses.parts[part], value) for part, value in plain.parts.items())
    assert torch.equal(losses.parts["adversarial"], 2 * without_regularisation(plain))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found, expected = (
        torch.autograd.grad(loss, parameters, allow_unused=True)
        for loss in (losses.total, plain.total + 2 * without_regularisation(plain))
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", MULTIMODAL)
def test_the_adversary_raises_the_loss_and_a_random_one_less(
    name: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    numbers = {"epsilon": 1e-3, "adversarial_weight": 1.0}
    worst = seeded(objective_for("amr", model, **numbers), model, batch)
    random = seeded(objective_for("amr", model, adversary="random", **numbers), model, batch)
    clean = without_regularisation(seeded(objective_for("plain", model), model, batch))
    rise = [(losses.parts["adversarial"] - clean).item() for losses in (worst, random)]
    assert rise[0] > 0 and rise[0] > rise[1]


@pytest.mark.parametrize(("name", "adversary"), ADVERSARIES)
def test_rows_move_by_epsilon_modality_by_modality(
    name: str, adversary: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    for scale in ("absolute", "relative"):
        amr = objective_for("amr", model, epsilon=0.3, adversary=adversary, epsilon_scale=scale)
        assert isinstance(amr, AMR)
        _, directions = seeded(amr._clean_pass, model, batch)
        values = feature_values(model)
        for table, moved in amr.moved(model, directions).items():
            for part in model.feature_tables()[table].values():
                move, along = (moved - values[table])[:, part].detach(), directions[table][:, part]
                size = 0.3 * (1.0 if scale == "absolute" else values[table][:, part].norm(dim=1).mean().item())
                active = along.norm(dim=1) > 0
                assert bool(active.any()) and not bool(move[~active].any())
                torch.testing.assert_close(move[active].norm(dim=1), torch.full_like(move[active][:, 0], size))
                cosines = torch.cosine_similarity(move[active], along[active])
                torch.testing.assert_close(cosines, torch.ones_like(cosines))


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(1e-12, 1e12),
    st.lists(st.integers(0, 5), max_size=6),
    st.sampled_from(["relative", "absolute"]),
)
def test_moves_depend_on_the_directions_alone_not_on_their_lengths(
    seed: int, factor: float, zeros: list[int], scale: str
) -> None:
    generator = torch_stream(seed, "test")
    table, direction = (torch.randn(6, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    direction[zeros] = 0
    amr = AMR(AMR.Config(epsilon_scale=scale), {}, generator)  # type: ignore[arg-type]
    moved = amr._moved(table, direction, PARTS)
    torch.testing.assert_close(moved, amr._moved(table, direction * factor, PARTS), rtol=1e-9, atol=1e-12)
    assert torch.equal(moved[zeros], table[zeros])
    assert bool(torch.isfinite(moved).all())


def test_random_directions_are_normal_draws_cut_at_two_deviations(
    build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("vbpr")
    model.features = torch.zeros(11, 4000, dtype=torch.float64)
    amr = objective_for("amr", build("vbpr"), adversary="random")
    assert isinstance(amr, AMR)
    places = {"features": {"image": slice(0, 3000), "text": slice(3000, 4000)}}
    model.feature_tables = lambda: places  # type: ignore[method-assign]
    model.projection = torch.nn.Linear(4000, 4, dtype=torch.float64)
    draws = seeded(amr._clean_pass, model, batch)[1]["features"]
    assert draws.abs().max().item() <= 2 and draws.abs().max().item() > 1.99
    assert draws.mean().item() == pytest.approx(0, abs=0.02)
    assert draws.var().item() == pytest.approx(0.774, abs=0.02)  # of a normal distribution cut at ±2
    other = seeded(amr._clean_pass, model, batch, seed=6)[1]["features"]
    assert not torch.equal(draws, other)


@pytest.mark.parametrize(("name", "adversary"), ADVERSARIES)
def test_it_writes_to_no_weight_and_no_buffer(
    name: str, adversary: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    dense = {place: value for place, value in held.items() if value.layout == torch.strided}
    before = {place: value.detach().clone() for place, value in dense.items()}
    seeded(objective_for("amr", model, epsilon=5.0, adversary=adversary), model, batch).total.backward()
    now = dict(model.named_parameters()) | dict(model.named_buffers())
    assert all(now[place] is value for place, value in held.items())
    assert all(torch.equal(now[place], value) for place, value in before.items())
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in model.buffers())


@pytest.mark.parametrize("name", TRAINABLE_TABLES)
def test_trainable_features_learn_from_both_passes(
    name: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    losses = seeded(objective_for("amr", model, epsilon=0.5), model, batch)
    tables = list(feature_values(model).values())
    assert all(isinstance(table, torch.nn.Parameter) for table in tables)
    adversarial = torch.autograd.grad(losses.parts["adversarial"], tables, retain_graph=True)
    clean = torch.autograd.grad(losses.total - losses.parts["adversarial"], tables, retain_graph=True)
    for part, other, total in zip(adversarial, clean, torch.autograd.grad(losses.total, tables), strict=True):
        assert bool(part.any())
        torch.testing.assert_close(part + other, total)


@pytest.mark.parametrize(("name", "adversary"), ADVERSARIES)
def test_the_warm_up_is_plain_training_bit_for_bit(
    name: str, adversary: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    amr = objective_for("amr", model, warmup_epochs=2, adversary=adversary)
    plain = seeded(objective_for("plain", model), model, batch)
    for epoch in (1, 2):
        amr.start_epoch(epoch)
        losses = seeded(amr, model, batch)
        assert losses.parts.keys() == plain.parts.keys() and torch.equal(losses.total, plain.total)
        assert amr.gradient_evaluations(epoch) == 1
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found, expected = (torch.autograd.grad(value.total, parameters, allow_unused=True) for value in (losses, plain))
    assert all(a is b or torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    amr.start_epoch(3)
    assert "adversarial" in seeded(amr, model, batch).parts and amr.gradient_evaluations(3) == 2


def test_a_batch_leaves_to_its_model_what_the_clean_pass_left(
    build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("vbpr")
    loss = model.loss
    model.loss = lambda *at: replace(loss(*at), memory={"seen": at[0].items.detach()})  # type: ignore[method-assign]
    left = seeded(objective_for("amr", model, epsilon=1.0), model, batch).memory
    assert torch.equal(left["seen"], model.extract(model.fuse(batch)).items)


def test_without_a_warm_up_the_adversary_is_there_from_the_start(
    build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("vbpr")
    amr = objective_for("amr", model)
    assert "adversarial" in amr(model, batch).parts and amr.gradient_evaluations(1) == 2


@pytest.mark.parametrize("adversary", ["gradient", "random"])
def test_it_can_be_measured_where_gradients_are_off(
    adversary: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("vbpr")
    amr = objective_for("amr", model, adversary=adversary)
    with torch.no_grad():
        value = seeded(amr, model, batch).total
    torch.testing.assert_close(value.detach(), seeded(amr, model, batch).total.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in MULTIMODAL])
def test_a_model_without_features_is_refused(name: str, build: Build, objective_for: Make, batch: Batch) -> None:
    model = build(name)
    amr = objective_for("amr", model)
    sentence = f"objective amr needs a model that uses modality features, but {type(model).__name__} has none"
    for refused in (lambda: amr.check(model), lambda: amr(model, batch)):
        with pytest.raises(ModelError, match=sentence):
            refused()


@pytest.mark.parametrize("name", MULTIMODAL)
def test_one_with_features_is_not(name: str, build: Build, objective_for: Make) -> None:
    objective_for("amr", build(name)).check(build(name))
