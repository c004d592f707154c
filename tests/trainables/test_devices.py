"""What is done elsewhere than on a CPU gives the same losses and gradients; tried on a CPU that says it is none."""

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.conftest import toy_bundle
from trainables import devices
from trainables.layers.contrastive import contrast_with_all, in_batch_infonce
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES, amr
from trainables.types import Batch

MODULES = (
    "devices",
    "layers.features",
    "layers.touched_rows",
    "layers.user_attention",
    "objectives.amr",
    "objectives.distillation",
)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Every module believes that its tensors are not on a CPU."""
    with mock.patch.multiple("trainables.devices", finds_rows=lambda values: False):
        patches = [mock.patch(f"trainables.{name}.finds_rows", lambda values: False) for name in MODULES[1:]]
        for patch in patches:
            patch.start()
        yield
        for patch in patches:
            patch.stop()


def _batch() -> Batch:
    users, items = torch.tensor([0, 3, 3, 5, 0, 8, 3]), torch.tensor([1, 2, 2, 4, 1, 9, 0])
    return Batch(users, items, torch.tensor([[5], [6], [5], [7], [2], [10], [3]]))


def _loss_and_gradients(model_name: str, objective_name: str) -> list[Tensor]:
    bundle, generator = toy_bundle(), torch.Generator().manual_seed(3)
    model = MODELS[model_name](MODELS[model_name].Config(), bundle, generator).double()  # type: ignore[call-arg, arg-type]
    if not model.uses_negatives:
        batch = Batch(_batch().users, _batch().positives, torch.empty(7, 0, dtype=torch.int64))
    else:
        batch = _batch()
    widths = {name: h.shape[1] for name, h in model.eval().fuse().items()}
    objective = OBJECTIVES[objective_name](OBJECTIVES[objective_name].Config(), widths, generator).double()
    torch.manual_seed(0)
    losses = objective(model, batch)
    losses.total.backward()
    weights = [*model.parameters(), *objective.parameters()]
    return [losses.total.detach(), *(torch.zeros_like(w) if w.grad is None else w.grad for w in weights)]


CASES = [(model, objective) for model in MODELS for objective in ("plain", "dvib_c", "entropy")]
CASES += [(model, "amr") for model in ("vbpr", "bm3", "freedom", "slmrec", "lgmrec")]


@pytest.mark.parametrize(("model", "objective"), CASES)
def test_the_loss_and_its_gradients_are_those_of_the_way_for_a_cpu(
    model: str, objective: str, request: pytest.FixtureRequest
) -> None:
    here = _loss_and_gradients(model, objective)
    request.getfixturevalue("elsewhere")
    there = _loss_and_gradients(model, objective)
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_infonce_of_repeated_rows_is_that_of_distinct_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in (6, 5))
    chosen = torch.tensor([0, 3, 3, 5, 0, 1]), torch.tensor([1, 2, 2, 4, 1, 2])
    found = []
    for repeated in (False, True):
        tables = [table.clone().requires_grad_() for table in (users, items)]
        if repeated:
            places = torch.arange(6)
            loss = in_batch_infonce(tables[0][chosen[0]], tables[1][chosen[1]], (places, places), 0.3)
        else:
            (left, to_left), (right, to_right) = map(devices.distinct_and_places, chosen)
            loss = in_batch_infonce(tables[0][left], tables[1][right], (to_left, to_right), 0.3)
        found.append([loss, *torch.autograd.grad(loss, tables)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_contrast_with_all_of_repeated_rows_is_that_of_distinct_ones(request: pytest.FixtureRequest) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    chosen = torch.tensor([0, 3, 3, 5, 0, 1])

    def found() -> list[Tensor]:
        loss = contrast_with_all(left, right, chosen, 0.3)
        return [loss, *torch.autograd.grad(loss, [left, right])]

    here = found()
    request.getfixturevalue("elsewhere")
    for one, other in zip(here, found(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_block_takes_a_whole_table_elsewhere(elsewhere: None) -> None:
    assert devices.block_rows(torch.zeros(1), 2048, 64) == 2**20
    assert devices.block_rows(torch.zeros(1), 2048, 2**30) == 1


def test_the_random_adversary_draws_from_the_same_truncated_normal(request: pytest.FixtureRequest) -> None:
    levels, table = torch.linspace(0.01, 0.99, 50), torch.empty(400, 500)
    torch.manual_seed(0)
    here = amr._normal(table).flatten()
    request.getfixturevalue("elsewhere")
    there = amr._normal(table).flatten()
    assert there.min() >= -2 and there.max() <= 2
    places = (levels * len(here)).long()
    torch.testing.assert_close(here.sort().values[places], there.sort().values[places], rtol=0, atol=0.02)
