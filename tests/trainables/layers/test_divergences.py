"""Divergences on logits: against torch.distributions, at their bounds, and the released code's stand-in for one."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from trainables.layers import divergences
from trainables.layers.divergences import jensen_shannon, kullback_leibler, released_divergence, uniformity_penalty

ALL = (jensen_shannon, kullback_leibler, released_divergence)


def logits(seed: int, spread: float, shape: tuple[int, int] = (4, 9)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = [spread * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    return drawn[0], drawn[1]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 30))
def test_js_is_zero_for_equals_symmetric_and_at_most_log_two(seed: int, spread: float) -> None:
    left, right = logits(seed, spread)
    assert float(jensen_shannon(left, left)) == 0
    assert float(jensen_shannon(left, right)) == pytest.approx(float(jensen_shannon(right, left)), abs=1e-12)
    assert 0 <= float(jensen_shannon(left, right)) <= math.log(2) + 1e-12


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 30))
def test_kl_js_and_the_uniformity_penalty_are_those_of_torch_distributions(seed: int, spread: float) -> None:
    left, right = logits(seed, spread)
    p, q, uniform = Categorical(logits=left), Categorical(logits=right), Categorical(logits=torch.zeros_like(left))
    mixture = Categorical(probs=(p.probs + q.probs) / 2)
    js = (kl_divergence(p, mixture) + kl_divergence(q, mixture)).mean() / 2
    torch.testing.assert_close(kullback_leibler(left, right), kl_divergence(p, q).mean(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(jensen_shannon(left, right), js, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(uniformity_penalty(left), kl_divergence(p, uniform).mean(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(uniformity_penalty(left), math.log(9) - p.entropy().mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("noise", "error"), [(1e-5, 1e-2), (1e-4, 1e-3), (1e-2, 1e-5)])
def test_js_keeps_the_smallest_divergences_in_float32(noise: float, error: float) -> None:
    """Of DVIB's published noise, where log p and log q agree in all but the last digits."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(64, 3000, generator=generator)
    right = left + noise * torch.randn(64, 3000, generator=generator)
    p, q = (F.softmax(side.double(), dim=-1) for side in (left, right))
    m = (p + q) / 2
    exact = 0.5 * (p * (p / m).log() + q * (q / m).log()).sum(-1).mean()
    assert float(jensen_shannon(left, right)) == pytest.approx(float(exact), rel=error)


def test_js_bears_any_gap() -> None:
    left = torch.tensor([[0.0, -500.0, 3e3, 0.0]], requires_grad=True)
    right = torch.tensor([[0.0, 3e3, -500.0, 0.0]], requires_grad=True)
    divergence = jensen_shannon(left, right)
    divergence.backward()
    assert float(divergence.detach()) == pytest.approx(math.log(2), rel=1e-5)
    assert all(bool(torch.isfinite(side.grad).all()) for side in (left, right) if side.grad is not None)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_js_has_the_gradient_of_its_definition_in_every_block(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergences, "_ENTRIES_AT_ONCE", 20)
    left, right = (side.requires_grad_() for side in logits(3, 1.5, (rows, 9)))
    assert torch.autograd.gradcheck(jensen_shannon, (left, right))
    assert torch.autograd.gradcheck(lambda one: jensen_shannon(one, right.detach()), (left,))
    assert torch.autograd.gradcheck(lambda other: jensen_shannon(left.detach(), other), (right,))


def test_kl_is_zero_for_equals_and_depends_on_the_order() -> None:
    left, right = logits(0, 2.0)
    assert float(kullback_leibler(left, left)) == 0
    assert abs(float(kullback_leibler(left, right)) - float(kullback_leibler(right, left))) > 1e-3


def test_the_uniformity_penalty_runs_from_uniform_rows_to_certain_ones() -> None:
    assert float(uniformity_penalty(torch.full((3, 7), 4.0, dtype=torch.float64))) == pytest.approx(0, abs=1e-15)
    certain = torch.eye(7, dtype=torch.float64) * 1e4
    assert float(uniformity_penalty(certain)) == pytest.approx(math.log(7), abs=1e-12)


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_any_size_give_finite_values_and_gradients(divergence: object, dtype: torch.dtype) -> None:
    left = torch.tensor([[0.0, 400.0, -3e4], [1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    right = torch.tensor([[200.0, 0.0, 3e4], [-1e4, 1e4, 1.0]], dtype=dtype, requires_grad=True)
    value = divergence(left, right)  # type: ignore[operator]
    (value + uniformity_penalty(left)).backward()
    assert torch.isfinite(value)
    assert all(side.grad is not None and bool(torch.isfinite(side.grad).all()) for side in (left, right))


@pytest.mark.parametrize("divergence", [*ALL, lambda left, _: uniformity_penalty(left)])
def test_gradients_are_right(divergence: object) -> None:
    left, right = (side.requires_grad_() for side in logits(3, 1.5))
    assert torch.autograd.gradcheck(divergence, (left, right))


def test_divergences_have_the_stored_values(shared: Path) -> None:
    stored = np.load(shared / "golden/dvib_official/js_divergence/vectors.npz")
    left, right = torch.from_numpy(stored["logits_a"]), torch.from_numpy(stored["logits_b"])
    values = {
        "true_js_mean": jensen_shannon(left, right),
        "true_kl_a_b_mean": kullback_leibler(left, right),
        "true_kl_b_a_mean": kullback_leibler(right, left),
        "released_js": released_divergence(left, right),
        "released_js_aa": released_divergence(left, left),
    }
    assert set(values) | {"logits_a", "logits_b"} == set(stored.files)
    for name, value in values.items():
        assert float(value) == pytest.approx(float(stored[name]), abs=1e-10), name


def test_the_released_term_is_the_uniformity_penalty_almost_entirely() -> None:
    """Its own claim in strategies.md §6.3: value log n - H(m), gradient along that of -H(p)."""
    left, _ = logits(1, 2.0, (20, 3000))
    left.requires_grad_()
    released, penalty = released_divergence(left, left), uniformity_penalty(left)
    assert released.item() == pytest.approx(penalty.item(), rel=1e-2)
    (by_released,), (by_penalty,) = torch.autograd.grad(released, left), torch.autograd.grad(penalty, left)
    assert float(torch.cosine_similarity(by_released.flatten(), by_penalty.flatten(), dim=0)) > 0.99
