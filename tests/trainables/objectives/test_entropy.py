"""The entropy control: DVIB's entropy term alone."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.objectives.base import Objective
from trainables.types import Batch

Build = Callable[..., Recommender]
Make = Callable[..., Objective]
Seeded = Callable[..., Any]


@pytest.mark.parametrize("name", MODELS)
def test_it_is_dvib_with_the_entropy_term_and_no_perturbed_pass(
    name: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    control = seeded(objective_for("entropy", model, gamma_d=0.3, distill_rows=6), model, batch)
    dvib = objective_for("dvib_c", model, gamma_0=0.0, gamma_d=0.3, distill_rows=6, distill="entropy")
    twin = seeded(dvib, model, batch)
    assert torch.equal(control.parts["uniformity"], twin.parts["distillation"])
    torch.testing.assert_close(control.total, twin.total, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["lightgcn", "bm3", "freedom", "lgmrec"])
def test_without_weight_it_is_plain_training(
    name: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    control = seeded(objective_for("entropy", model, gamma_d=0.0), model, batch)
    plain = seeded(objective_for("plain", model), model, batch)
    torch.testing.assert_close(control.total, plain.total, rtol=1e-12, atol=1e-14)


def test_the_term_is_log_n_minus_the_mean_entropy_of_the_users_scores(
    build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("vbpr")
    losses = objective_for("entropy", model, gamma_d=0.5, distill_rows=0)(model, batch)
    scores = model.score(model.extract(model.fuse()), batch.users)
    entropies = torch.distributions.Categorical(logits=scores).entropy()
    expected = 0.5 * (math.log(11) - entropies.mean())
    assert expected.item() >= 0
    torch.testing.assert_close(losses.parts["uniformity"], expected)


def test_following_it_makes_scores_more_even(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("lightgcn")
    with torch.no_grad():
        model.get_parameter("user_embedding").mul_(5)
    control = objective_for("entropy", model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    values = []
    for _ in range(3):
        penalty = control(model, batch).parts["uniformity"]
        values.append(penalty.item())
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


def test_it_costs_one_forward_pass(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("lightgcn")
    passes = []
    extract = type(model).extract

    class Counted(type(model)):  # type: ignore[misc]
        def extract(self, fused: Any) -> Any:
            passes.append(1)
            return extract(self, fused)

    model.__class__ = Counted
    control = objective_for("entropy", model)
    control(model, batch)
    assert len(passes) == 1 and control.gradient_evaluations(1) == 1
