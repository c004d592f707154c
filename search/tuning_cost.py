"""What finding a good configuration costs: estimators over the scores and costs of one arm's trials.

All of them take trials that are independent draws (random search) or a whole grid, and are exact for both. Notation:
n trials with scores v_1..v_n and costs c_1..c_n; k trials that a budget affords, k <= n (never extrapolated).
Inside, every score is turned so that larger is better.
"""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from opda.nonparametric import EmpiricalDistribution
from scipy import stats

from search.errors import ComparisonError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Mode: TypeAlias = Literal["max", "min"]

# Sums of the same costs in another order differ in their last bits; a budget that equals a sum still affords it.
_ROUNDING = 1e-9


def turned(scores: npt.ArrayLike, mode: Mode) -> FloatArray:
    """Return the scores as float64 [n] with larger = better; its own inverse.

    Raises ComparisonError where there is none or one is not finite: failed trials need a score first (`fill_failed`).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ComparisonError(f"at least one score is needed and all must be finite, but got {values.tolist()}")
    return values if mode == "max" else -values


def fill_failed(scores: npt.ArrayLike, worst: float) -> FloatArray:
    """Return the scores with every missing one (failed, diverged, never validated) counted as `worst`.

    An average cannot hold the -infinity that such a trial deserves, so the caller gives the worst score seen by any
    arm on the task (or the base score, where that is worse): failing never helps an arm, and costs all arms alike.
    """
    values = np.asarray(scores, dtype=np.float64)
    return np.where(np.isfinite(values), values, worst)


def expected_best_weights(n: int, k: int) -> FloatArray:
    """Return the weight of each ascending order statistic in the expected best of k out of n: C(i-1, k-1) / C(n, k).

    Computed from the top down, w_n = k/n and w_i = w_(i+1) (i-k+1)/i, so no binomial coefficient overflows.
    """
    if not 1 <= k <= n:
        raise ComparisonError(f"1 <= k <= n must hold for the expected best of k of n trials, but got {k=}, {n=}")
    weights = np.zeros(n)
    weights[n - 1] = k / n
    for i in range(n - 1, k - 1, -1):
        weights[i - 1] = weights[i] * (i - k + 1) / i
    return weights


def expected_best(scores: npt.ArrayLike, k: int, mode: Mode = "max") -> float:
    """Return the unbiased estimate of the best of k random trials (a U-statistic: Tang et al., ACL 2020).

    It is the mean of the best over all subsets of k; for a whole grid it is no estimate but the exact expectation.
    """
    values = np.sort(turned(scores, mode))
    return float(turned([expected_best_weights(values.size, k) @ values], mode)[0])


def expected_best_curve(scores: npt.ArrayLike, mode: Mode = "max") -> FloatArray:
    """Return `expected_best` for every k = 1..n as [n]; O(n^2), all k in one pass down the order statistics."""
    values = np.sort(turned(scores, mode))
    n = values.size
    ks = np.arange(1, n + 1)
    weights = ks / n
    curve = weights * values[-1]
    for i in range(n - 1, 0, -1):
        weights = weights * np.maximum(i - ks + 1, 0) / i
        curve = curve + weights * values[i - 1]
    return turned(curve, mode)


def expected_best_plugin(scores: npt.ArrayLike, k: int, mode: Mode = "max") -> float:
    """Return the plug-in estimate of the best of k (Dodge et al., EMNLP 2019): biased low, with less variance."""
    values = np.sort(turned(scores, mode))
    shares = np.arange(values.size + 1) / values.size
    return float(turned([np.diff(shares**k) @ values], mode)[0])


def expected_best_by_cost(
    scores: npt.ArrayLike,
    costs: npt.ArrayLike,
    budgets: npt.ArrayLike,
    *,
    before: float,
    rng: np.random.Generator,
    permutations: int = 1000,
    mode: Mode = "max",
) -> FloatArray:
    """Return the expected best score that each budget buys, [budgets], when the trials run in random order.

    `before` is the value while no trial has finished (the base score). Averages over `permutations` orders; over all n!
    where these are no more, and then it is exact. The same generator state gives the same numbers.
    """
    values, prices = turned(scores, mode), checked_costs(costs)
    floor = float(turned([before], mode)[0])
    orders = _orders(values.size, permutations, rng)
    spent = np.cumsum(prices[orders], axis=1)
    best = np.maximum.accumulate(values[orders], axis=1)
    best = np.concatenate([np.full((len(orders), 1), floor), best], axis=1)  # [orders, n + 1]
    rows = np.arange(len(orders))
    limits = np.asarray(budgets, dtype=np.float64) * (1 + _ROUNDING)
    return turned(np.array([best[rows, (spent <= limit).sum(axis=1)].mean() for limit in limits]), mode)


def checked_costs(costs: npt.ArrayLike) -> FloatArray:
    """Return the costs as float64 [n].

    Raises ComparisonError where one is negative or not finite.
    """
    prices = np.asarray(costs, dtype=np.float64)
    if not (np.isfinite(prices).all() and (prices >= 0).all()):
        raise ComparisonError(f"costs must be finite and at least 0, but got {prices.tolist()}")
    return prices


def _orders(n: int, permutations: int, rng: np.random.Generator) -> IntArray:
    if n <= 12 and math.factorial(n) <= permutations:
        return np.array(list(itertools.permutations(range(n))), dtype=np.int64)
    return rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)


@dataclass(frozen=True)
class Band:
    """The median best of k trials for k = 1..n, with a band that holds for all k at once; arrays of [n].

    `trusted` marks k <= n/3: beyond that the point estimate leans on a handful of trials. The band itself holds for
    every k; its upper end becomes the end of the score's range (or infinity) where n trials cannot bound it.
    """

    trials: IntArray
    median: FloatArray
    lower: FloatArray
    upper: FloatArray
    trusted: npt.NDArray[np.bool_]


def median_band(
    scores: npt.ArrayLike,
    *,
    confidence: float = 0.8,
    support: tuple[float, float] = (-math.inf, math.inf),
    mode: Mode = "max",
) -> Band:
    """Return the median tuning curve with its exact, simultaneous, distribution-free band (Lourie et al., NAACL 2024).

    `lower` and `upper` are the worse and the better end in value, so for mode "min" `upper` is the smaller loss turned
    back: lower <= median <= upper holds in value for both modes. `support` is the range a score can have.
    """
    values = np.sort(turned(scores, mode))
    n = values.size
    low, high = support if mode == "max" else (-support[1], -support[0])
    reachable = np.concatenate([[min(low, values[0])], values, [max(high, values[-1])]])
    curves = [_turned_ends(reachable[ranks + 1], mode) for ranks in _band_ranks(n, confidence)]
    worse, median, better = curves
    lower, upper = (worse, better) if mode == "max" else (better, worse)
    trials = np.arange(1, n + 1)
    return Band(trials, median, lower, upper, 3 * trials <= n)


def _turned_ends(values: FloatArray, mode: Mode) -> FloatArray:
    """Return values turned back like `turned`, where the ends of a band may be infinite."""
    return values if mode == "max" else -values


@functools.cache
def _band_ranks(n: int, confidence: float) -> tuple[IntArray, IntArray, IntArray]:
    """Return the ranks (from 0; -1 and n are the ends of the range) of lower end, median and upper end, each [n].

    A distribution-free band depends on the scores through their order only, so it is drawn on the ranks: without ties,
    which opda's exact bands exclude, and once for all arms of n trials. Tied scores make it wider than need be, never
    too narrow.
    """
    ranks = np.arange(n, dtype=np.float64)
    lower_cdf, _, upper_cdf = EmpiricalDistribution.confidence_bands(
        ranks, confidence, a=-1.0, b=float(n), method=_band_method(n), n_jobs=1, generator=np.random.default_rng(n)
    )
    ks = np.arange(1, n + 1)
    worse, better = (cdf.quantile_tuning_curve(ks, q=0.5).astype(np.int64) for cdf in (upper_cdf, lower_cdf))
    # The first rank i with (i/n)^k >= 1/2; opda's sums of 1/n miss it by one where i/n is exactly 1/2 (n = 20).
    median = np.ceil(n * 0.5 ** (1 / ks) * (1 - _ROUNDING)).astype(np.int64) - 1
    return worse, median, better


def _band_method(n: int) -> str:
    # Highest density is the tightest, but takes seconds from 64 trials on. DKW is loose and instant, and knows n = 1.
    if n < 2 or n > 256:
        return "dkw"
    return "ld_highest_density" if n <= 64 else "ld_equal_tailed"


@dataclass(frozen=True)
class HarmRate:
    """The share of configurations worse than the base, with its Wilson interval."""

    harmful: int
    candidates: int
    rate: float
    low: float
    high: float


def harm_rate(scores: npt.ArrayLike, base: float, mode: Mode = "max", confidence: float = 0.95) -> HarmRate:
    """Return how often a random configuration is strictly worse than `base` (Wilson interval at `confidence`)."""
    values = turned(scores, mode)
    harmful = int((values < turned([base], mode)[0]).sum())
    interval = stats.binomtest(harmful, values.size).proportion_ci(confidence, method="wilson")
    return HarmRate(harmful, values.size, harmful / values.size, float(interval.low), float(interval.high))


def area_under_regret(
    budgets: npt.ArrayLike, values: npt.ArrayLike, *, base: float, reference: float, start: float, end: float
) -> float | None:
    """Return the mean share of the known gain that is missing over budgets `start`..`end` on a log scale.

    Lower is better. `values` is the expected best at each ascending budget. None where there is no gain
    (reference == base) or no range.
    """
    if reference == base or not 0 < start < end:
        return None
    axis = np.linspace(math.log(start), math.log(end), 257)
    prices, curve = np.asarray(budgets, dtype=np.float64), np.asarray(values, dtype=np.float64)
    regret = (reference - np.interp(np.exp(axis), prices, curve)) / (reference - base)
    return float(np.trapezoid(regret, axis) / (axis[-1] - axis[0]))
