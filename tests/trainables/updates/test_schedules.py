"""Radius, draws, diagnostics, clipping: what surrounds the two passes."""

import math

import pytest
import torch
from embedding_problem import PAIRS, SINGLES, Problem, flat, make, same

from trainables.types import Closure, Losses, Moment
from trainables.updates.ascent import AscentConfig
from trainables.updates.base import Stepper


def test_the_radius_follows_its_schedule() -> None:
    assert [AscentConfig(rho=0.4).radius(e) for e in (1, 50)] == [0.4, 0.4]
    assert [AscentConfig(rho=0.4, rho_schedule="inv_sqrt").radius(e) for e in (1, 4, 16)] == [0.4, 0.2, 0.1]
    linear = AscentConfig(rho=0.4, rho_schedule="linear", rho_schedule_epochs=4)
    assert [linear.radius(e) for e in (1, 2, 3, 5, 9)] == pytest.approx([0.4, 0.3, 0.2, 0.0, 0.0])
    warm = AscentConfig(rho=0.4, rho_warmup_epochs=3)
    assert [warm.radius(e) for e in (1, 2, 3, 4, 5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


@pytest.mark.parametrize("name", ["sam", "bsam_plus"])
def test_the_step_uses_the_epoch_s_radius(name: str) -> None:
    group = PAIRS[0] if name.endswith("plus") else SINGLES[0]
    results = []
    for epoch, numbers in ((4, {"rho": 0.4, "rho_schedule": "inv_sqrt"}), (1, {"rho": 0.2})):
        problem = Problem()
        make(name, **numbers)([problem.batch(k) for k in group], problem.stepper(), Moment(epoch, 0))
        results.append([weight.detach() for weight in problem.weights])
    assert same(*results)


@pytest.mark.parametrize(("name", "default"), [("sam", "same"), ("bsam", "same"), ("mirror_gradient", "fresh")])
def test_the_second_pass_draws_as_it_is_told(name: str, default: str) -> None:
    for draws in ("same", "fresh"):
        calls: list[bool] = []
        weight = torch.ones(2, requires_grad=True)

        def closure(*, fresh: bool = False, calls: list[bool] = calls, weight: torch.Tensor = weight) -> Losses:
            calls.append(fresh)
            return Losses.of(loss=(weight**2).sum())

        make(name, draws=draws)([closure], Stepper([weight], torch.optim.SGD([weight], lr=0.1)), Moment(1, 0))
        assert calls == [False, draws == "fresh"]
    assert make(name).config.draws == default


def test_a_mixed_step_draws_afresh_for_the_perturbed_batch_alone() -> None:
    for draws in ("same", "fresh"):
        problem, calls = Problem(), []

        def watched(k: int, problem: Problem = problem, calls: list[tuple[int, bool]] = calls) -> Closure:
            inner = problem.batch(k)

            def closure(*, fresh: bool = False) -> Losses:
                calls.append((k, fresh))
                return inner(fresh=fresh)

            return closure

        make("bsam_plus", draws=draws)([watched(0), watched(1)], problem.stepper(), Moment(1, 0))
        assert calls == [(0, False), (1, False), (0, draws == "fresh")]


def test_diagnostics_change_no_weight() -> None:
    results = [Problem().trained(make("bsam", diagnose_every=every), SINGLES) for every in (0, 1, 16)]
    assert same(results[0], results[1]) and same(results[0], results[2])
    update = make("bsam", diagnose_every=0)
    Problem().trained(update, SINGLES)
    assert update.diagnostics() == {}


def test_diagnostics_are_what_they_say() -> None:
    problem, update = Problem(torch.float64), make("bsam", rho=0.2, diagnose_every=1)
    stepper, found = problem.stepper(), {"cosine": [], "inactive": [], "rise": [], "coefficient": []}
    average = 0.0
    for step in range(3):
        gradient = flat(problem.gradient(step), problem.weights)
        average = 0.6 * average + 0.4 * gradient
        share = (gradient - average).abs().sum() / (gradient.abs().sum() + average.abs().sum())
        way = gradient - share * average
        offset = 0.2 * way / way.norm()
        idle = torch.ones(8, 3, dtype=torch.bool)
        idle[[step, step + 1, step + 2]] = False
        found["coefficient"].append(float(share))
        found["cosine"].append(float(torch.cosine_similarity(offset, gradient, dim=0)))
        found["inactive"].append(float((offset[:24].reshape(8, 3)[idle] ** 2).sum() / 0.2**2))
        before = float(problem.batch(step)().total.detach())
        parts = offset.split([w.numel() for w in problem.weights])
        kept = [w.detach().clone() for w in problem.weights]
        with torch.no_grad():
            for weight, part in zip(problem.weights, parts, strict=True):
                weight.add_(part.reshape(weight.shape))
            found["rise"].append(float(problem.batch(step)().total.detach()) - before)
            for weight, value in zip(problem.weights, kept, strict=True):
                weight.copy_(value)
        update([problem.batch(step)], stepper, Moment(1, step))
    expected = {name: sum(values) / 3 for name, values in found.items()} | {"unperturbed": 0.0}
    assert update.diagnostics() == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert update.diagnostics() == {}


def test_the_final_gradient_alone_is_clipped() -> None:
    """A radius does not change when gradients are clipped, and what is clipped is the mixture."""
    for name, groups in (("sam", SINGLES[:2]), ("sam_plus", PAIRS[:1])):
        problem, free = Problem(torch.float64), Problem(torch.float64)
        stepper = Stepper(problem.weights, torch.optim.SGD(problem.weights, lr=1.0), clip_norm=0.01)
        other = Stepper(free.weights, torch.optim.SGD(free.weights, lr=1.0))
        before = flat(problem.weights, problem.weights)
        make(name, rho=0.3)([problem.batch(k) for k in groups[0]], stepper, Moment(1, 0))
        make(name, rho=0.3)([free.batch(k) for k in groups[0]], other, Moment(1, 0))
        moved, unclipped = (flat(p.weights, p.weights) - before for p in (problem, free))
        assert float(moved.norm()) == pytest.approx(0.01, rel=1e-4)
        torch.testing.assert_close(moved / moved.norm(), unclipped / unclipped.norm(), rtol=1e-9, atol=1e-12)


def test_weight_decay_is_no_part_of_the_direction() -> None:
    seen = []
    for decay in (0.0, 0.5):
        problem = Problem()
        stepper = problem.stepper("sgd", weight_decay=decay)
        stepper.gradients(problem.batch(0)().total)
        seen.append(make("bsam").offsets(stepper.take(), 0.0, stepper, Moment(1, 0))[0])
    assert seen[0] is not None and torch.equal(seen[0], seen[1])


def test_mirror_gradient_is_clipped_in_its_second_half_only() -> None:
    problem = Problem(torch.float64)
    stepper = Stepper(problem.weights, torch.optim.SGD(problem.weights, lr=1.0), clip_norm=1e-6)
    before = flat(problem.weights, problem.weights)
    gradient = flat(problem.gradient(0), problem.weights)
    make("mirror_gradient", alpha2_ratio=0.5)([problem.batch(0)], stepper, Moment(1, 0))
    gap = flat(problem.weights, problem.weights) - (before - gradient)
    assert float(gap.norm()) == pytest.approx(1e-6, rel=1e-3)
    assert math.isclose(
        float(gradient.norm()), float((before - flat(problem.weights, problem.weights)).norm()), rel_tol=0.1
    )
