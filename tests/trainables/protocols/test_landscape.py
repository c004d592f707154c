"""The landscape protocol, held to losses and derivatives computed another way."""

import math

import numpy as np
import pytest
import torch

from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.evaluation.landscape import random_direction
from trainables.evaluation.sharpness import gradients
from trainables.models import MODELS
from trainables.protocols import LandscapeConfig, landscape
from trainables.protocols.landscape_protocol import fixed_batches, model_loss, weights
from trainables.protocols.training import at_best, train
from trainables.seeding import torch_stream
from trainables.vectors import global_norm

GRID_ALONE = {"ascent_rhos": [], "average_sigmas": [], "hessian": False}


def untimed(found):
    return [(m.subject, m.metric, m.level, m.draw, m.point, m.x, m.y, m.value) for m in found]


def values(found, subject, metric="value"):
    return [m.value for m in found if m.subject == subject and m.metric == metric]


def vbpr_loss_by_hand(params, features, batches, reg_weight):
    """VBPR's loss in NumPy, from the formula: mean softplus of the score gaps and un-squared norms over the batch."""
    content = np.hstack(list(features.values())) @ params["projection.weight"].T + params["projection.bias"]
    items = np.hstack([params["item_embedding"], content])
    losses = []
    for batch in batches:
        users, positives, negatives = (
            params["user_embedding"][batch.users.numpy()],
            items[batch.positives.numpy()],
            items[batch.negatives.numpy()[:, 0]],
        )
        gaps = (users * (positives - negatives)).sum(axis=1)
        norms = sum(np.sqrt((block**2).sum()) for block in (users, positives, negatives)) / len(users)
        losses.append(np.log1p(np.exp(-gaps)).mean() + reg_weight * norms)
    return float(np.mean(losses))


def test_the_grid_of_vbpr_by_hand(toy, configure):
    config = configure(model__reg_weight=0.05, update__name="sam", objective__name="dvib_c")
    found = landscape(config, toy, LandscapeConfig(points=3, batches=2, extent=0.5, **GRID_ALONE))
    trained = train(config, toy)
    single = at_best(trained, toy)
    batches = fixed_batches(single, 2)
    names = [name for name, _ in single.model.named_parameters()]
    centre = {name: trained.trainer.best_weights[name].numpy().astype(np.float64) for name in names}
    directions = []
    for index in range(2):
        generator = torch_stream(7, "landscape/direction", index)
        drawn = {name: torch.randn(centre[name].shape, generator=generator).numpy() for name in names}
        scaled = {
            name: 0 * part
            if part.ndim < 2
            else part
            * np.linalg.norm(centre[name], axis=1, keepdims=True)
            / np.linalg.norm(part, axis=1, keepdims=True)
            for name, part in drawn.items()
        }
        directions.append(scaled)
    assert [(m.point, m.x, m.y) for m in found] == [
        (3 * row + column, 0.5 * (column - 1), 0.5 * (row - 1)) for row in range(3) for column in range(3)
    ]
    for m in found:
        moved = {name: centre[name] + m.x * directions[0][name] + m.y * directions[1][name] for name in names}
        assert m.value == pytest.approx(vbpr_loss_by_hand(moved, toy.features, batches, 0.05), rel=1e-5)
        assert (m.subject, m.metric, m.split) == ("filter_norm", "loss", "train")


def test_a_paper_grid_moves_every_weight_by_a_normal_draw(toy, configure):
    config = configure("ngcf")
    settings = LandscapeConfig(modes=["paper"], dimensions=1, paper_points=3, paper_extent=2.0, **GRID_ALONE)
    found = landscape(config, toy, settings)
    trained = train(config, toy)
    single = at_best(trained, toy)
    named = dict(single.model.named_parameters())
    assert {param.ndim for param in named.values()} == {1, 2}
    loss = model_loss(single, fixed_batches(single, settings.batches))
    drawn = random_direction(list(named.values()), torch_stream(7, "landscape/direction", 0))
    for m in found:
        with torch.no_grad():
            for (name, param), part in zip(named.items(), drawn, strict=True):
                param.copy_(trained.trainer.best_weights[name] + m.x * part)
        assert m.value == pytest.approx(loss().item(), rel=1e-5) and m.y is None
    assert [m.x for m in found] == [-2.0, 0.0, 2.0]


def test_sharpness_against_other_computations(toy, configure):
    config = configure("lightgcn", train__batch_size=36)
    settings = LandscapeConfig(
        modes=[], batches=1, average_draws=3, average_sigmas=[0.05], hessian_tolerance=1e-5, hessian_iterations=500
    )
    found = landscape(config, toy, settings)
    double = at_best(train(config, toy), toy, dtype=torch.float64)
    params = weights(double)
    loss = model_loss(double, fixed_batches(double, 1))
    gradient = gradients(loss, params)
    base = [p.detach().clone() for p in params]

    def at(offset):
        with torch.no_grad():
            for param, value, part in zip(params, base, offset, strict=True):
                param.copy_(value + part)
        return loss().item()

    for m in (m for m in found if m.subject == "ascent_sharpness"):
        ascended = at([part * m.severity / global_norm(gradient) for part in gradient])
        rise = ascended - at([0 * part for part in gradient])
        assert m.value == pytest.approx(rise, rel=1e-9) and m.value > 0
    for m in (m for m in found if m.subject == "average_sharpness"):
        drawn = random_direction(params, torch_stream(7, "landscape/average", m.draw))
        offset = [0.05 * part * p.norm(dim=1, keepdim=True) for part, p in zip(drawn, base, strict=True)]
        rise = (at(offset) + at([-part for part in offset])) / 2 - at([0 * part for part in offset])
        assert m.value == pytest.approx(rise, rel=1e-6)
    at([0 * part for part in base])
    top = np.linalg.eigvalsh(dense_hessian(loss, params)).max()
    assert values(found, "hessian_eigenvalue") == [pytest.approx(top, rel=1e-3)]
    assert values(found, "hessian_eigenvalue", "residual")[0] < 0.05 * top
    levels = {(m.subject, m.level, m.severity) for m in found}
    assert levels == {
        ("ascent_sharpness", "0.05", 0.05),
        ("ascent_sharpness", "0.1", 0.1),
        ("average_sharpness", "0.05", 0.05),
        ("hessian_eigenvalue", "", None),
    }


def dense_hessian(loss, params, step=1e-5):
    """Column by column from differences of gradients along the axes."""
    columns = []
    for param in params:
        flat = param.detach().view(-1)
        for index in range(len(flat)):
            sides = []
            for sign in (step, -2 * step):
                flat[index] += sign
                sides.append(torch.cat([g.reshape(-1) for g in gradients(loss, params)]))
            flat[index] += step
            columns.append((sides[0] - sides[1]) / (2 * step))
    matrix = torch.stack(columns).numpy()
    return (matrix + matrix.T) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_landscape_whose_loss_hangs_on_the_weights_alone(name, toy, configure):
    config = configure(name, train__max_epochs=1)
    trained = train(config, toy)
    state = torch.get_rng_state()
    for dtype in (torch.float32, torch.float64):
        trainer = at_best(trained, toy, dtype=dtype)
        loss = model_loss(trainer, fixed_batches(trainer, 2))
        first = loss().item()
        torch.rand(3)
        assert loss().item() == first and math.isfinite(first)
        parts = [model_loss(trainer, [batch])().item() for batch in fixed_batches(trainer, 2)]
        assert first == pytest.approx(sum(parts) / 2, rel=1e-5)
    torch.set_rng_state(state)
    settings = LandscapeConfig(dimensions=1, points=3, batches=1, average_draws=1, hessian_iterations=4)
    found = landscape(config, toy, settings)
    assert torch.equal(state, torch.get_rng_state())
    assert all(math.isfinite(m.value) for m in found)
    assert len({m.value for m in found if m.metric == "loss"}) == 3
    assert {m.split for m in found} == {"train"} and {m.gradient_evaluations for m in found} == {3}


@pytest.mark.parametrize("name", ["freedom", "selfcf", "ngcf", "layergcn", "lgmrec"])
def test_dropout_is_off(name, toy, configure):
    trained = train(configure(name, train__max_epochs=1), toy)
    trainer = at_best(trained, toy)
    batches = fixed_batches(trainer, 2)
    with torch.random.fork_rng():
        losses = []
        for _ in range(2):
            torch.rand(7)
            model = trainer.model.eval()
            hidden = model.extract(model.fuse())
            losses.append(sum(model.loss(hidden, batch).total.item() for batch in batches) / 2)
    assert losses[0] == losses[1] == pytest.approx(model_loss(trainer, batches)().item(), rel=1e-6)


def test_strategies_of_one_seed_see_the_same_batches_and_directions(toy, configure):
    trainers = [
        at_best(train(config, toy), toy)
        for config in (
            configure(),
            configure(update__name="sam"),
            configure(objective__name="dvib_a"),
            configure(seed=8),
        )
    ]
    batches = [fixed_batches(trainer, 2) for trainer in trainers]
    known = set(zip(toy.train.users.tolist(), toy.train.items.tolist(), strict=True))
    for batch in batches[0]:
        users = batch.users.tolist()
        assert set(zip(users, batch.positives.tolist(), strict=True)) <= known and len(users) == 13
        assert known.isdisjoint(zip(users, batch.negatives[:, 0].tolist(), strict=True))
    flat = [[torch.cat([b.users, b.positives, b.negatives[:, 0]]).tolist() for b in each] for each in batches]
    assert flat[0] == flat[1] == flat[2] != flat[3]
    assert [p.shape for p in weights(trainers[0])] == [p.shape for p in weights(trainers[2])]


def test_the_protocol_is_a_function_of_its_arguments(toy, configure):
    settings = LandscapeConfig(modes=["filter_norm", "paper"], points=3, paper_points=2, average_draws=2)
    first, again, other = (untimed(landscape(configure(seed=seed), toy, settings)) for seed in (7, 7, 8))
    assert first == again != other
    assert [row[0] for row in first].count("filter_norm") == 9 and [row[0] for row in first].count("paper") == 4
    assert len({row[-1] for row in first if row[0] == "average_sharpness"}) == 2


def test_what_left_the_numbers_is_nan(toy, configure):
    settings = LandscapeConfig(modes=["paper"], dimensions=1, paper_extent=1e30, **GRID_ALONE)
    assert all(math.isnan(m.value) for m in landscape(configure(), toy, settings))
    settings = LandscapeConfig(average_sigmas=[0.1, 0.2])
    config = configure(optimizer__name="sgd", optimizer__learning_rate=1e30)
    found = landscape(config, toy, settings)
    assert [(m.subject, m.metric, m.level) for m in found] == [
        ("filter_norm", "loss", ""),
        ("ascent_sharpness", "value", "0.05"),
        ("ascent_sharpness", "value", "0.1"),
        ("average_sharpness", "value", "0.1"),
        ("average_sharpness", "value", "0.2"),
        ("hessian_eigenvalue", "value", ""),
    ]
    assert all(math.isnan(m.value) and m.gradient_evaluations > 0 for m in found)


@pytest.mark.slow
def test_real_data_have_a_landscape_with_its_lowest_losses_around_the_weights(shared, configure):
    data = load(DataConfig(name="lfm2k", root=str(shared / "data"), modalities=("text", "audio")))
    config = configure(train__batch_size=2048, model__embedding_size=16, optimizer__learning_rate=0.005)
    found = landscape(config, data, LandscapeConfig(points=5, batches=2, hessian_iterations=10))
    grid = {(m.x, m.y): m.value for m in found if m.metric == "loss"}
    assert len(grid) == 25 and all(math.isfinite(m.value) for m in found)
    corners = [grid[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    assert grid[0.0, 0.0] < min(corners)
    assert all(value > 0 for value in values(found, "ascent_sharpness"))
