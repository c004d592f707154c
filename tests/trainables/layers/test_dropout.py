"""Dropout from sixteen bits an entry: its share, its mean, its independence."""

import math

import pytest
import torch

from trainables.layers.dropout import dropout, dropout_factors

LIKE = torch.zeros((), dtype=torch.float64)


def factors(count: int, rate: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return dropout_factors((count,), rate, LIKE)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_is_one(rate: float) -> None:
    drawn = factors(400_000, rate)
    deviation = math.sqrt(rate * (1 - rate) / 400_000)
    assert abs(float((drawn == 0).double().mean()) - rate) < 5 * deviation + 2**-17
    assert abs(float(drawn.mean()) - 1) < 5 * deviation / (1 - rate)
    survivors = drawn[drawn != 0]
    torch.testing.assert_close(survivors, torch.full_like(survivors, 1 / (1 - rate)), rtol=1e-3, atol=0)


def test_the_mean_is_one_exactly_at_the_rate_that_is_drawn() -> None:
    """0.1 is no multiple of 2⁻¹⁶; the factor belongs to the nearest one, 6554 / 65536."""
    assert float(factors(1000, 0.1).max()) == 65536 / (65536 - 6554)


def test_each_of_a_words_four_entries_is_dropped_at_the_same_rate_and_on_its_own() -> None:
    zeros = (factors(400_000, 0.3) == 0).double().view(-1, 4)
    assert torch.allclose(zeros.mean(0), torch.full((4,), 0.3, dtype=torch.float64), atol=0.008)
    off_diagonal = torch.corrcoef(zeros.T) - torch.eye(4, dtype=torch.float64)
    assert float(off_diagonal.abs().max()) < 0.02


@pytest.mark.parametrize("count", [1, 3, 4, 5, 1001])
def test_any_number_of_entries_will_do(count: int) -> None:
    assert factors(count, 0.5).shape == (count,)


def test_draws_follow_the_seed() -> None:
    assert torch.equal(factors(100, 0.5, seed=1), factors(100, 0.5, seed=1))
    assert not torch.equal(factors(100, 0.5, seed=1), factors(100, 0.5, seed=2))


def test_the_highest_rates_stay_finite() -> None:
    """A rate that rounds to 1 leaves one entry in 65,536."""
    drawn = factors(100_000, 1 - 1e-7)
    assert torch.isfinite(drawn).all() and set(drawn.tolist()) <= {0.0, 65536.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        dropout_factors((3,), rate, LIKE)


def test_dropout_scales_what_it_keeps_and_its_gradient_alike() -> None:
    values = torch.randn(50, 6, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    result = dropout(values, 0.4)
    torch.manual_seed(3)
    expected = dropout_factors((50, 6), 0.4, values)
    torch.testing.assert_close(result, values * expected)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    torch.testing.assert_close(gradient, expected)


def test_rate_zero_draws_nothing() -> None:
    state = torch.get_rng_state()
    values = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert dropout(values, 0.0) is values and torch.equal(state, torch.get_rng_state())
