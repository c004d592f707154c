"""What must hold for every model of the registry, and the mistakes that every model refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_reference import batch_of, build

from trainables.data.bundle import DataBundle, Interactions
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.seeding import numpy_stream

WITH_FEATURES = [name for name, model in MODELS.items() if model.uses_features]
MODALITIES = [("text",), ("image",), ("audio", "text"), ("audio", "image", "text")]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_second_computation(name: str) -> None:
    test = Path(__file__).with_name(f"test_{name}.py")
    assert test.exists() and "naive" in test.read_text()


@pytest.mark.parametrize("name", WITH_FEATURES)
@pytest.mark.parametrize("modalities", MODALITIES)
def test_any_number_of_modalities_will_do(
    name: str, modalities: tuple[str, ...], make_toy: Callable[..., DataBundle]
) -> None:
    data = make_toy(modalities=modalities)
    model = build(name, data)
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    model.loss(model.extract(model.fuse()), batch_of(data, model.uses_negatives)).total.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.eval().score(model.extract(model.fuse()), torch.arange(data.num_users))).all()


@pytest.mark.parametrize("name", MODELS)
def test_isolated_users_and_items_do_not_bring_nan(name: str, toy: DataBundle) -> None:
    kept = toy.train.users != 3
    data = replace(toy, train=Interactions(toy.train.users[kept], toy.train.items[kept]))
    assert 10 not in data.train.items and 3 not in data.train.users
    model = build(name, data)
    model.start_epoch(1, numpy_stream(0, "graph", 1))
    model.loss(model.extract(model.fuse()), batch_of(data, model.uses_negatives)).total.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.eval().score(model.extract(model.fuse()), torch.arange(data.num_users))).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_loss_sees_the_same_whether_all_rows_of_h_are_computed_or_those_of_the_batch(
    name: str, toy: DataBundle
) -> None:
    gradients = []
    for rows_of_batch in (True, False):
        model = build(name, toy)
        batch = batch_of(toy, model.uses_negatives)
        model.start_epoch(1, numpy_stream(0, "graph", 1))
        torch.manual_seed(5)
        losses = model.loss(model.extract(model.fuse(batch if rows_of_batch else None)), batch)
        losses.total.backward()
        gradients.append([losses.total.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for fast, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_drawn_at_random_in_evaluation_mode(name: str, toy: DataBundle) -> None:
    """Neither in the loss, which a landscape is made of, nor in the scores."""
    model, batch = build(name, toy).eval(), batch_of(toy, MODELS[name].uses_negatives)
    state = torch.get_rng_state()
    hidden = model.extract(model.fuse())
    first, _ = model.loss(hidden, batch).total, model.score(hidden, batch.users)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, model.loss(model.extract(model.fuse()), batch).total)


@pytest.mark.parametrize("name", MODELS)
def test_float32_agrees_with_float64(name: str, toy: DataBundle) -> None:
    scores = []
    for dtype in (torch.float32, torch.float64):
        model = build(name, toy).to(dtype).eval()
        scores.append(model.score(model.extract(model.fuse()), torch.arange(toy.num_users)).double())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_scorer_gives_every_part_of_the_users_what_score_gives_all_of_them(name: str, toy: DataBundle) -> None:
    model = build(name, toy).eval()
    assert type(model).score is Recommender.score
    hidden = model.extract(model.fuse())
    scorer, users = model.scorer(hidden), torch.arange(toy.num_users)
    parts = torch.cat([scorer(part) for part in users.split(3)])
    torch.testing.assert_close(parts, model.score(hidden, users), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.uses_negatives])
def test_a_batch_without_negatives_is_refused(name: str, toy: DataBundle) -> None:
    model = build(name, toy)
    with pytest.raises(ValueError, match="needs negatives, but the batch has none"):
        model.loss(model.extract(model.fuse()), batch_of(toy, with_negatives=False))


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_a_data_set_without_features_is_refused(name: str, make_toy: Callable[..., DataBundle]) -> None:
    with pytest.raises(ValueError, match=r"needs modality features, but data set 'toy' has no"):
        build(name, make_toy(modalities=()))


@pytest.mark.parametrize("name", MODELS)
def test_a_data_set_without_interactions_is_refused(name: str, toy: DataBundle) -> None:
    nothing = np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="must have training interactions, but data set 'toy' has none"):
        build(name, replace(toy, train=Interactions(nothing, nothing)))


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, model in MODELS.items() for field in model.Config.model_fields if "layers" in field],
)
def test_a_model_without_layers_is_refused(name: str, field: str) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        MODELS[name].Config.model_validate({field: 0})
