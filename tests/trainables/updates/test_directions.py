"""The readings of BSAM's distance and Friendly SAM's average, against the formulas on flat float64 vectors."""

from typing import Any

import pytest
import torch
from embedding_problem import SINGLES, Problem, flat, make, same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.types import Moment
from trainables.updates.directions import DistanceDirection, FriendlyDirection, MovingAverage

SCALE_FREE = ("l1_relative", "neg_ema", "constant", "projection", "cosine")
SCALED = ("l1", "l1_tensor", "l1_row", "l1_mean", "loss_gap", "loss_vs_ema")
L1_READINGS = ("l1_relative", "l1", "l1_tensor", "l1_row", "l1_mean")
SIZES, DECAY = [(4, 3), (5,)], 0.6


def vectors(steps: int, seed: int = 0) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(size, generator=generator, dtype=torch.float64) for size in SIZES] for _ in range(steps)]


def distance_direction(distance: str, decay: float = DECAY, **changes: Any) -> DistanceDirection:
    settings = {"constant": 1.0, "bias_correction": False, "mask_inactive_rows": False} | changes
    return DistanceDirection(decay, distance, **settings)


def expected(distance: str, steps: list[list[Tensor]], losses: list[float]) -> Tensor:
    """v of the last step, each reading written out."""
    average = torch.zeros(17, dtype=torch.float64)
    loss_average = losses[0]
    for index, (step, loss) in enumerate(zip(steps, losses, strict=True)):
        g = torch.cat([part.flatten() for part in step])
        average = DECAY * average + (1 - DECAY) * g
        loss_average = loss if index == 0 else DECAY * loss_average + (1 - DECAY) * loss
    gap = (g - average).abs()
    by_row = torch.cat([gap[:12].reshape(4, 3).sum(1, keepdim=True).expand(4, 3).flatten(), gap[12:].sum().expand(5)])
    by_tensor = torch.cat([gap[:12].sum().expand(12), gap[12:].sum().expand(5)])
    if distance == "neg_ema":
        return -average
    coefficients = {
        "l1": gap.sum(),
        "l1_relative": gap.sum() / (g.abs().sum() + average.abs().sum()),
        "l1_mean": gap.sum() / 17,
        "l1_tensor": by_tensor,
        "l1_row": by_row,
        "loss_gap": abs(losses[-1] - loss_average),
        "loss_vs_ema": (losses[-1] - average).abs().sum(),
        "constant": 1.0,
        "projection": (g @ average) / (average @ average),
        "cosine": (g @ average) / (average.norm() * g.norm()),
    }
    return g - coefficients[distance] * average


@pytest.mark.parametrize("distance", [*SCALE_FREE, *SCALED])
def test_every_reading_follows_its_formula(distance: str) -> None:
    steps, losses = vectors(3), [0.7, 0.9, 0.4]
    direction = distance_direction(distance)
    for step, loss in zip(steps, losses, strict=True):
        found = direction([part.clone() for part in step], loss)
    torch.testing.assert_close(flat(found, steps[0]), expected(distance, steps, losses), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distance", [*L1_READINGS, "loss_gap"])
def test_bsam_without_memory_is_sam(distance: str) -> None:
    reference = Problem().trained(make("sam", rho=0.2), SINGLES)
    assert same(Problem().trained(make("bsam", rho=0.2, ema_decay=0, distance=distance), SINGLES), reference)


@pytest.mark.parametrize("distance", ["constant", "projection"])
def test_a_direction_that_cancels_out_is_none(distance: str) -> None:
    """Without memory m = g: nothing is left but rounding error, which must not be blown up to radius ρ."""
    plain = Problem().trained(make("descent"), SINGLES)
    assert same(Problem().trained(make("bsam", rho=0.2, ema_decay=0, distance=distance), SINGLES), plain)


def test_the_projection_perturbs_nothing_at_the_first_step() -> None:
    problem, update = Problem(), make("bsam", distance="projection", rho=0.2)
    problem.trained(update, SINGLES[:1])
    assert update.diagnostics() == {"unperturbed": 1.0}


@pytest.mark.parametrize("distance", SCALE_FREE)
def test_scale_free_readings_do_not_feel_the_loss_s_scale(distance: str) -> None:
    """The ways of the perturbation are the same for 1000 times the loss; strategies.md §5.3."""
    assert _cosine(distance, 1000.0) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("distance", SCALED)
def test_the_literal_readings_feel_it(distance: str) -> None:
    assert _cosine(distance, 1000.0) < 1 - 1e-6


def _cosine(distance: str, scale: float) -> float:
    found = []
    for factor in (1.0, scale):
        direction = distance_direction(distance)
        for step, loss in zip(vectors(3), [0.7, 0.9, 0.4], strict=True):
            result = direction([factor * part for part in step], factor * loss)
        found.append(flat(result, step))
    return float(torch.cosine_similarity(*found, dim=0))


def test_the_constant_one_is_friendly_sam_s_direction_for_equal_averages() -> None:
    """g - m_t = λ(g - m_{t-1}): BSAM's constant c = 1 and Friendly SAM with σ = 1 go the same way."""
    steps = vectors(4)
    constant, friendly = distance_direction("constant"), FriendlyDirection(1.0, DECAY, inclusive=False)
    start = vectors(1, seed=5)[0]
    for direction in (constant, friendly):
        direction.load_state_dict(
            {"averages": [part.clone() for part in start], "counts": [1, 1], "loss_average": None}
        )
    for step in steps:
        ways = [flat(direction([part.clone() for part in step], 0.0), step) for direction in (constant, friendly)]
        torch.testing.assert_close(ways[0], DECAY * ways[1], rtol=1e-12, atol=1e-12)


def test_friendly_sam_s_two_averages_give_one_way_for_sigma_one_only() -> None:
    for sigma, agrees in ((1.0, True), (0.5, False)):
        ways = []
        for inclusive in (False, True):
            direction = FriendlyDirection(sigma, DECAY, inclusive=inclusive)
            for step in vectors(3):
                found = direction([part.clone() for part in step], 0.0)
            ways.append(flat(found, step))
        assert bool(torch.cosine_similarity(*ways, dim=0) > 1 - 1e-12) is agrees


def test_friendly_sam_includes_the_current_gradient_where_told() -> None:
    direction, (first, second) = FriendlyDirection(0.5, DECAY, inclusive=True), vectors(2)
    direction([part.clone() for part in first], 0.0)
    found = flat(direction([part.clone() for part in second], 0.0), second)
    a, b = flat(first, first), flat(second, second)
    torch.testing.assert_close(found, b - 0.5 * (DECAY * a + (1 - DECAY) * b), rtol=1e-12, atol=1e-12)


@given(decay=st.floats(0, 0.95), steps=st.integers(1, 12))
def test_the_bias_correction_makes_a_weighted_mean(decay: float, steps: int) -> None:
    average = MovingAverage(decay, starts_at_gradient=False)
    for _ in range(steps):
        average.update([torch.full((2,), 3.0, dtype=torch.float64)])
    (value,) = average.unbiased()
    torch.testing.assert_close(value, torch.full((2,), 3.0, dtype=torch.float64))


def test_bsam_corrects_the_bias_of_its_average_where_told() -> None:
    steps = vectors(2)
    direction = distance_direction("constant", bias_correction=True)
    for step in steps:
        found = direction([part.clone() for part in step], 0.0)
    first, second = (flat(step, step) for step in steps)
    average = (1 - DECAY) * (DECAY * first + second) / (1 - DECAY**2)
    torch.testing.assert_close(flat(found, steps[0]), second - average, rtol=1e-12, atol=1e-12)


def test_the_average_of_the_losses_survives_a_checkpoint() -> None:
    steps, losses = vectors(3), [0.7, 0.9, 0.4]
    first, second = distance_direction("loss_gap"), distance_direction("loss_gap")
    for step, loss in zip(steps[:2], losses, strict=False):
        first([part.clone() for part in step], loss)
    second.load_state_dict(first.state_dict())
    found = flat(second([part.clone() for part in steps[2]], losses[2]), steps[0])
    torch.testing.assert_close(found, expected("loss_gap", steps, losses), rtol=1e-12, atol=1e-12)


def test_a_tensor_without_a_gradient_keeps_its_average_and_its_place() -> None:
    direction, (first, second) = distance_direction("l1_relative"), vectors(2)
    direction(list(first), 0.0)
    kept = [None if value is None else value.clone() for value in direction.average.values]
    found = direction([None, second[1]], 0.0)
    assert found[0] is None and torch.equal(direction.average.values[0], kept[0])
    assert not torch.equal(direction.average.values[1], kept[1]) and direction.average.counts == [1, 2]


def test_masked_rows_stay_where_they_are() -> None:
    (first, second), direction = vectors(2), distance_direction("l1_relative", mask_inactive_rows=True)
    direction(list(first), 0.0)
    second[0][[0, 2]] = 0.0
    found = direction(list(second), 0.0)
    assert found[0][[0, 2]].abs().sum() == 0 and found[0][[1, 3]].abs().min() > 0 and found[1].abs().min() > 0
    unmasked = distance_direction("l1_relative")
    unmasked(list(first), 0.0)
    assert unmasked(list(second), 0.0)[0][[0, 2]].abs().min() > 0


@pytest.mark.parametrize("name", ["friendly_sam", "bsam", "friendly_sam_plus", "bsam_plus"])
def test_the_memory_survives_a_checkpoint(name: str) -> None:
    width = 2 if name.endswith("plus") else 1
    groups = [list(range(k, k + width)) for k in range(0, 4 * width, width)]
    straight = Problem()
    whole = straight.trained(make(name, rho=0.3), groups)
    problem, first, second = Problem(), make(name, rho=0.3), make(name, rho=0.3)
    stepper = problem.stepper()
    for step, group in enumerate(groups):
        (first if step < 2 else second)([problem.batch(k) for k in group], stepper, Moment(1, step))
        if step == 1:
            second.load_state_dict(first.state_dict())
    assert same([weight.detach() for weight in problem.weights], whole)


@pytest.mark.parametrize("name", ["friendly_sam_plus", "bsam_plus"])
def test_a_mixed_average_sees_the_second_batch_only_where_told(name: str) -> None:
    for batches, count in (("first", 1), ("both", 2)):
        update = make(name, ema_batches=batches)
        Problem().trained(update, [[0, 1]])
        assert update.member.direction.average.counts == [count, count, 0, 0]
