"""The balls of the SAM family: closed forms and invariances."""

import math

import pytest
import torch
from embedding_problem import Problem, flat
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.types import Moment
from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import DistanceDirection
from trainables.updates.metrics import Adaptive, Euclidean, Fisher

NAMES = ["table", "fc.weight", "bias"]


def case(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, 3), (2, 3), (3,)]
    params, gradients = (
        [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes] for _ in range(2)
    )
    return params, gradients


def offsets(metric: Euclidean | Adaptive | Fisher, params: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    way, length = metric(list(gradients), gradients, params, NAMES)
    return [part / length for part in way if part is not None]


@given(rho=st.floats(0.01, 2), seed=st.integers(0, 50))
def test_fisher_sam_stays_on_the_border_of_its_ball(rho: float, seed: int) -> None:
    """εᵀF⁻¹⁻¹ε = ρ²: with the regularised inverse 1/(1 + ηf), F is 1 + ηf."""
    params, gradients = case(seed)
    found = offsets(Fisher(2.5, relative=False, l2_norm=False), params, gradients)
    size = sum(float(((1 + 2.5 * g**2) * (rho * e) ** 2).sum()) for e, g in zip(found, gradients, strict=True))
    assert size == pytest.approx(rho**2, rel=1e-9)


def test_fisher_sam_has_a_plain_length_where_told() -> None:
    params, gradients = case()
    found = offsets(Fisher(2.5, relative=False, l2_norm=True), params, gradients)
    assert math.sqrt(sum(float((e**2).sum()) for e in found)) == pytest.approx(1)


def test_fisher_sam_without_eta_is_sam() -> None:
    params, gradients = case()
    for l2_norm in (True, False):
        found = offsets(Fisher(0.0, relative=False, l2_norm=l2_norm), params, gradients)
        plain = offsets(Euclidean(), params, gradients)
        assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, plain, strict=True))


@given(scale=st.floats(1e-6, 1e3))
def test_the_relative_fisher_information_does_not_feel_the_loss_s_scale(scale: float) -> None:
    params, gradients = case()
    gradients[0][1] = 0.0
    for relative, agrees in ((True, True), (False, 0.99 < scale < 1.01)):
        metric = Fisher(1.0, relative=relative, l2_norm=False)
        plain = flat(offsets(metric, params, gradients), params)
        other = flat(offsets(metric, params, [scale * g for g in gradients]), params)
        close = bool(torch.cosine_similarity(plain, other, dim=0) > 1 - 1e-10)
        assert close or not agrees
    mean = sum(float((g**2).sum()) for g in gradients) / sum(int(g.count_nonzero()) for g in gradients)
    expected = [g / (1 + g**2 / mean) for g in gradients]
    found = Fisher(1.0, relative=True, l2_norm=False)(list(gradients), gradients, params, NAMES)[0]
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, expected, strict=True) if a is not None)


@given(factor=st.floats(0.01, 100))
def test_asam_does_not_feel_a_rescaled_matrix(factor: float) -> None:
    """w → k·w with g → g/k leaves ε/w as it was, for η = 0, matrix by matrix."""
    params, gradients = case()
    metric = Adaptive(0.0, "all")
    plain = offsets(metric, params, gradients)
    scaled = offsets(metric, [factor * params[0], *params[1:]], [gradients[0] / factor, *gradients[1:]])
    for before, after, w, k in zip(plain, scaled, params, (factor, 1.0, 1.0), strict=True):
        torch.testing.assert_close(after / (k * w), before / w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("adaptive_on", "adapts"),
    [("all", (1, 1, 1)), ("matrices", (1, 1, 0)), ("name_contains_weight", (0, 1, 0))],
)
def test_asam_adapts_to_the_chosen_tensors(adaptive_on: str, adapts: tuple[int, ...]) -> None:
    params, gradients = case()
    way, length = Adaptive(0.1, adaptive_on)(list(gradients), gradients, params, NAMES)
    sizes = [w.abs() + 0.1 if on else torch.ones_like(w) for w, on in zip(params, adapts, strict=True)]
    for found, size, g in zip(way, sizes, gradients, strict=True):
        assert found is not None
        torch.testing.assert_close(found, size**2 * g, rtol=1e-12, atol=1e-14)
    expected = math.sqrt(sum(float(((s * g) ** 2).sum()) for s, g in zip(sizes, gradients, strict=True)))
    assert length == pytest.approx(expected, rel=1e-12)


def test_a_direction_of_one_member_goes_with_the_metric_of_another() -> None:
    """BSAM's direction in ASAM's ball: both parts are free to be combined."""
    problem = Problem(torch.float64)
    direction = DistanceDirection(0.6, "l1_relative", constant=1.0, bias_correction=False, mask_inactive_rows=False)
    update = Ascent(AscentConfig(rho=0.3), direction, Adaptive(0.01, "all"))
    stepper = problem.stepper()
    stepper.gradients(problem.batch(0)().total)
    found = update.offsets(stepper.take(), 0.0, stepper, Moment(1, 0))
    pairs = [(e, w) for e, w in zip(found, problem.weights, strict=True) if e is not None]
    size = sum(float((e / (w.detach().abs() + 0.01)).square().sum()) for e, w in pairs)
    assert math.sqrt(size) == pytest.approx(0.3, rel=1e-9)
