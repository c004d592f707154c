"""The noise on H: mean and variance of its kinds, how it is scaled, and the priors of its size."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from trainables.objectives.noise import eq13, kl_std, noise_draws, perturbed
from trainables.seeding import torch_stream

MANY = (400, 500)
RATE = 0.3


def draw(kind: str, dropout: float = RATE) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return noise_draws(kind, torch.zeros(MANY, dtype=torch.float64), dropout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mean", "variance", "low", "high"),
    [
        ("gaussian", 0, 1, -math.inf, math.inf),
        ("uniform", 0, 1, -math.sqrt(3), math.sqrt(3)),
        ("uniform01", 0.5, 1 / 12, 0, 1),
        ("dropout", 0, RATE / (1 - RATE), -1, RATE / (1 - RATE)),
    ],
)
def test_a_kind_has_its_mean_variance_and_bounds(
    kind: str, mean: float, variance: float, low: float, high: float
) -> None:
    draws = draw(kind)
    error = math.sqrt(variance / draws.numel())
    assert draws.mean().item() == pytest.approx(mean, abs=4 * error)
    assert draws.var().item() == pytest.approx(variance, rel=0.02)
    assert low <= draws.min().item() and draws.max().item() <= high + 1e-12
    rows = draws[:200] - mean, draws[200:] - mean
    assert abs((rows[0] * rows[1]).mean().item()) < 4 * variance / math.sqrt(rows[0].numel())  # entries independent


def test_dropout_noise_turns_h_into_h_with_dropout() -> None:
    h = torch.randn(MANY, generator=torch_stream(0, "h"), dtype=torch.float64)
    result = perturbed("dropout", h, 1.0, draw("dropout"))
    kept = result != 0
    torch.testing.assert_close(result[kept], h[kept] / (1 - RATE))
    assert kept.double().mean().item() == pytest.approx(1 - RATE, abs=0.01)
    assert torch.equal(perturbed("dropout", h, 1.0, draw("dropout", 0.0)), h)


def test_dropout_noise_is_scaled_row_by_row() -> None:
    h, scale = torch.ones(MANY, dtype=torch.float64), torch.linspace(0, 1, MANY[0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(perturbed("dropout", h, scale, draw("dropout")) - h, scale * draw("dropout"))


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "uniform01"])
def test_the_other_kinds_are_added_whatever_h_is(kind: str) -> None:
    h = torch.randn(MANY, generator=torch_stream(0, "h"), dtype=torch.float64)
    assert torch.equal(perturbed(kind, h, 0.25, draw(kind)), h + 0.25 * draw(kind))  # type: ignore[arg-type]
    assert torch.equal(perturbed(kind, h, 0.0, draw(kind)), h)  # type: ignore[arg-type]


def hidden_and_logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch_stream(0, "prior")
    return (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((20, 6), (20, 1)))  # type: ignore[return-value]


@pytest.mark.parametrize("prior_std", [0.3, 0.5, 1.0])
def test_kl_std_is_the_mean_kl_divergence_of_the_entries_from_the_prior(prior_std: float) -> None:
    h, logits = hidden_and_logits()
    noise = Normal(h, torch.sigmoid(logits).expand_as(h))
    expected = kl_divergence(noise, Normal(torch.zeros_like(h), prior_std)).mean()
    torch.testing.assert_close(kl_std(h, logits, prior_std), expected, rtol=1e-12, atol=1e-12)


def test_eq13_is_the_printed_formula_and_its_weights_count() -> None:
    h, logits = hidden_and_logits()
    ratio = torch.sigmoid(logits) / 0.5
    length, distance = (h * h).sum(1).mean(), (ratio - ratio.log() - 1).mean()
    torch.testing.assert_close(eq13(h, logits, 0.5, 1.0, 1.0), length + distance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(eq13(h, logits, 0.5, 0.7, 3.0), 0.7 * length + 3 * distance, rtol=1e-12, atol=1e-12)


def test_kl_std_is_eq13_of_variances_with_weights_of_its_own() -> None:
    """strategies.md §6.2: φ -> φ², a -> a², α0 = 1/(2a²), β0 = 1/2, and a mean over entries instead of rows."""
    h, logits = hidden_and_logits()
    variance, prior = torch.sigmoid(logits) ** 2, 0.5**2
    logit_of_variance = variance.log() - torch.log1p(-variance)
    of_variances = eq13(h / math.sqrt(h.shape[1]), logit_of_variance, prior, 1 / (2 * prior), 0.5)
    torch.testing.assert_close(kl_std(h, logits, 0.5), of_variances, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [-3e4, -200.0, 200.0, 3e4])
def test_priors_are_finite_for_noise_levels_that_round_to_zero_or_one(size: float) -> None:
    h = torch.ones(2, 3)
    for form in (lambda logits: kl_std(h, logits, 0.5), lambda logits: eq13(h, logits, 0.5, 1.0, 1.0)):
        logits = torch.full((2, 1), size, requires_grad=True)
        value = form(logits)
        value.backward()
        assert torch.isfinite(value) and logits.grad is not None and bool(torch.isfinite(logits.grad).all())
