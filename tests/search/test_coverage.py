"""By simulation: intervals and bands hold the truth about as often as they say, where the truth is known."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from search.tuning_cost import harm_rate, median_band

pytestmark = pytest.mark.slow

REPETITIONS = 1000
POINTS = 0.02
Quantile = Callable[[npt.ArrayLike], npt.NDArray[np.float64]]
DISTRIBUTIONS: dict[str, tuple[Quantile, tuple[float, float]]] = {
    "uniform": (stats.uniform.ppf, (0.0, 1.0)),
    "skewed": (stats.beta(8, 2).ppf, (0.0, 1.0)),
    "normal": (stats.norm.ppf, (-np.inf, np.inf)),
}


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [16, 64])
def test_the_band_holds_the_whole_median_curve_as_often_as_it_says(
    n: int, name: str, confidence: float, mode: str
) -> None:
    """For all k = 1..n at once. The median of the best of k has the quantile 0.5^(1/k), of losses 1 - 0.5^(1/k)."""
    quantile, support = DISTRIBUTIONS[name]
    levels = 0.5 ** (1 / np.arange(1, n + 1))
    truth = quantile(levels if mode == "max" else 1 - levels)
    rng, covered = np.random.default_rng(17 * n), 0
    for _ in range(REPETITIONS):
        band = median_band(quantile(rng.random(n)), confidence=confidence, support=support, mode=mode)  # type: ignore[arg-type]
        covered += bool(((band.lower <= truth) & (truth <= band.upper)).all())
    assert covered / REPETITIONS >= confidence - POINTS


@pytest.mark.parametrize("n", [16, 32, 64])
def test_wilsons_interval_holds_the_true_share_of_harm_as_often_as_it_says_on_average(n: int) -> None:
    """Exactly, by summing over all numbers of harmful ones. For single shares it is off by up to three points."""
    found = [harm_rate([0.0] * harmful + [1.0] * (n - harmful), 0.5) for harmful in range(n + 1)]
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    shares = np.linspace(0.1, 0.9, 161)
    chances = stats.binom.pmf(np.arange(n + 1), n, shares[:, None])
    coverage = (chances * ((low <= shares[:, None]) & (shares[:, None] <= high))).sum(axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert coverage.min() >= 0.95 - 0.03
