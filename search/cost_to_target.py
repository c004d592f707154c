"""What coming to a target score costs: in expectation, with an interval, and in bootstrap draws.

Notation as in `search.tuning_cost`: n trials, independent draws or a whole grid, of which M reach the target.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.tuning_cost import FloatArray, Mode, checked_costs, turned


@dataclass(frozen=True)
class ToTarget:
    """What reaching a target score costs in expectation: None where no trial reached it (censored)."""

    target: float
    hits: int
    candidates: int
    trials: float | None
    cost: float | None

    @property
    def censored(self) -> bool:
        """Whether no trial reached the target, so that only `more than all that was spent` is known."""
        return self.hits == 0


def trials_to_target(candidates: int, hits: int) -> float | None:
    """Return the expected trials up to the first hit, drawn without replacement: (n+1)/(M+1); None without a hit."""
    return (candidates + 1) / (hits + 1) if hits else None


def cost_to_target(scores: npt.ArrayLike, costs: npt.ArrayLike, target: float, mode: Mode = "max") -> ToTarget:
    """Return the expected trials and cost until a score at least as good as `target`, in random order, exactly.

    ((n+1)/(M+1) - 1) misses at their mean cost come before one hit at the hits' mean cost.
    """
    values, prices = turned(scores, mode), checked_costs(costs)
    reached = values >= turned([target], mode)[0]
    n, hits = values.size, int(reached.sum())
    trials = trials_to_target(n, hits)
    if trials is None:
        return ToTarget(target, hits, n, None, None)
    miss_cost = float(prices[~reached].mean()) if hits < n else 0.0
    return ToTarget(target, hits, n, trials, (trials - 1) * miss_cost + float(prices[reached].mean()))


def cost_interval(
    scores: npt.ArrayLike,
    costs: npt.ArrayLike,
    target: float,
    *,
    confidence: float = 0.8,
    mode: Mode = "max",
) -> tuple[float, float]:
    """Return an interval of the expected cost to `target` of any number of further draws, at least at `confidence`.

    Clopper and Pearson's interval of the share p of configurations that reach the target (Biometrika 1934), carried
    over to (1/p - 1) misses and one hit at their mean costs, which are taken as they are. It holds for few hits, where
    a bootstrap does not: without a hit its lower end is what the misses show, and its upper end is infinite.
    """
    values, prices = turned(scores, mode), checked_costs(costs)
    reached = values >= turned([target], mode)[0]
    n, hits = values.size, int(reached.sum())
    hit_cost = float(prices[reached].mean() if hits else prices.mean())
    miss_cost = float(prices[~reached].mean() if hits < n else prices.mean())
    share = stats.binomtest(hits, n).proportion_ci(confidence, method="exact")
    low, high = ((1 / p - 1) * miss_cost + hit_cost if p > 0 else math.inf for p in (share.high, share.low))
    return float(low), float(high)


def redrawn_costs_to_target(
    scores: npt.ArrayLike,
    costs: npt.ArrayLike,
    target: float,
    *,
    rng: np.random.Generator,
    draws: int = 1000,
    mode: Mode = "max",
) -> FloatArray:
    """Return the expected cost until the target of `draws` bootstrap samples of the trials, as [draws].

    Each is that of `cost_to_target`, infinite where no trial of the sample reached the target. Their spread says how
    much the estimate hangs on which trials were drawn.
    """
    values, prices = turned(scores, mode), checked_costs(costs)
    n = values.size
    chosen = rng.integers(0, n, size=(draws, n))
    reached, spent = (values >= turned([target], mode)[0])[chosen], prices[chosen]
    hits = reached.sum(axis=1)
    misses = n - hits
    hit_cost = np.where(reached, spent, 0.0).sum(axis=1) / np.maximum(hits, 1)
    miss_cost = np.where(reached, 0.0, spent).sum(axis=1) / np.maximum(misses, 1)
    expected = ((n + 1) / (hits + 1) - 1) * miss_cost + hit_cost
    return np.where(hits > 0, expected, math.inf)
