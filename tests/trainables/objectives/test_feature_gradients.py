"""The gradient of every multimodal model's loss in its features, which the hand-written backward passes must give."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.models.bm3 import BM3
from trainables.objectives.amr import feature_gradients, feature_values, loss_at, unregularised
from trainables.types import Batch

MULTIMODAL = [name for name, model in MODELS.items() if model.uses_features]
STEP = 1e-6


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes BM3 remember the targets of its first loss, through which no gradient flows; the call starts them over.

    Differences of the loss would see them move with the features, derivatives do not.
    """
    original, kept = BM3._target, []
    replay: Iterator[Tensor] | None = None

    def target(self: BM3, representations: Tensor) -> Tensor:
        if replay is not None:
            return next(replay)
        kept.append(original(self, representations))
        return kept[-1]

    def again() -> None:
        nonlocal replay
        replay = iter(kept)

    monkeypatch.setattr(BM3, "_target", target)
    return again


@pytest.mark.parametrize(
    ("name", "numbers"),
    [*((name, {}) for name in MULTIMODAL), ("mmgcn", {"latent_size": 2}), ("freedom", {"dropout": 0.0})],
)
def test_features_get_the_gradient_that_central_differences_show(
    name: str,
    numbers: dict[str, Any],
    build: Callable[..., Recommender],
    batch: Batch,
    seeded: Callable[..., Any],
    targets: Callable[[], None],
) -> None:
    model = build(name, **numbers)
    _, gradients = seeded(feature_gradients, model, batch)
    values, places = feature_values(model), model.feature_tables()
    assert set(gradients) == set(values) and {m for columns in places.values() for m in columns} == {"image", "text"}
    generator = torch.Generator().manual_seed(1)
    for table, columns in places.items():
        for part in columns.values():
            direction = torch.zeros_like(values[table])
            direction[:, part] = torch.randn(direction[:, part].shape, generator=generator, dtype=torch.float64)
            ends = []
            for sign in (1, -1):
                targets()
                moved = {table: (values[table] + sign * STEP * direction).detach()}
                ends.append(unregularised(seeded(loss_at, model, batch, moved)).item())
            difference = (ends[0] - ends[1]) / (2 * STEP)
            assert abs(difference) > 1e-6  # the loss does depend on this modality
            assert (gradients[table] * direction).sum().item() == pytest.approx(difference, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", MULTIMODAL)
def test_every_number_but_features_stays_while_other_features_are_seen(
    name: str, build: Callable[..., Recommender], batch: Batch, seeded: Callable[..., Any]
) -> None:
    model = build(name)
    held = [*model.named_parameters(), *model.named_buffers()]
    dense = [(place, tensor) for place, tensor in held if tensor.layout == torch.strided]
    before = [tensor.detach().clone() for _, tensor in dense]
    own = seeded(loss_at, model, batch, {}).total
    other = seeded(
        loss_at, model, batch, {k: v.detach() + 0.5 * v.detach().sin() for k, v in feature_values(model).items()}
    ).total
    assert not torch.equal(own, other)
    now = dict(model.named_parameters()) | dict(model.named_buffers())
    assert all(now[place] is tensor for place, tensor in held)
    assert all(torch.equal(tensor, kept) for (_, tensor), kept in zip(dense, before, strict=True))
    assert torch.equal(seeded(loss_at, model, batch, {}).total, own)
