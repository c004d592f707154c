"""PED-ANOVA: which hyperparameters decide whether a configuration is among the best, with bootstrap intervals.

The method is that of Watanabe, Bansal and Hutter (IJCAI 2023), with the grids and densities of Optuna's
`PedAnovaImportanceEvaluator`, which gives the same shares. It is written anew for arrays: hundreds of resamples of
every cell of a sweep take a second here and minutes there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from search.tuning_cost import FloatArray
from spaces.params import Choice, Fixed, Int, Parameter

IntArray: TypeAlias = npt.NDArray[np.int64]

RESAMPLES = 200
CONFIDENCE = 0.95
STEPS = 50
"""Points of the grid that a range is laid out on."""

TENTH_FROM, LEAST = 50, 16
"""Configurations from which on the best tenth are at least five, and from which on the best 30 % are."""

_SMALLEST_BANDWIDTH = 0.5 / 1.64  # 90 % of a kernel then stays in its own grid point
_FLOOR = 1e-12


@dataclass(frozen=True)
class Importances:
    """The share of each parameter in what tells the best configurations from all; shares sum to 1.

    Attributes:
        low, high: ends of the bootstrap interval of each share, by percentiles, widened to hold the share itself.
        configurations: how many there were, `best` of which count as the best, those up to the quantile `quantile`.
        over_grid: whether the best are held against the whole space instead of against all configurations.
    """

    names: tuple[str, ...]
    shares: FloatArray
    low: FloatArray
    high: FloatArray
    configurations: int
    best: int
    quantile: float
    over_grid: bool


def target_quantile(configurations: int) -> float | None:
    """Return which share of the configurations counts as the best: at least five; None where that is no small share."""
    if configurations >= TENTH_FROM:
        return 0.1
    return 0.3 if configurations >= LEAST else None


def importances(
    parameters: Mapping[str, Parameter],
    values: Mapping[str, Sequence[object]],
    losses: FloatArray,
    rng: np.random.Generator,
    *,
    over_grid: bool = False,
) -> Importances | None:
    """Return the shares of the parameters with their intervals, or None where there are too few configurations.

    Args:
        parameters: what was searched, at least one parameter, none of them fixed.
        values: per parameter its value in each configuration.
        losses: finite; the smaller, the better. [n]
        over_grid: for spaces of which every point was tried: what is common there is common in the space, exactly.
    """
    n = len(losses)
    quantile = target_quantile(n)
    if quantile is None:
        return None
    # The first row are the configurations as they are, each once.
    draws = np.vstack([np.ones((1, n), np.int64), rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)])
    best = draws * best_mask(losses, draws, quantile)
    raw = np.stack(
        [
            _divergences(parameter, np.asarray(places(parameter, values[name])), best, None if over_grid else draws)
            for name, parameter in parameters.items()
        ],
        axis=1,
    )  # [1 + RESAMPLES, parameters]
    total = raw.sum(axis=1, keepdims=True)
    shares = np.divide(raw, total, out=np.full_like(raw, 1 / raw.shape[1]), where=total > 0)
    ends = np.quantile(shares[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    # Drawing a configuration twice makes densities narrower, so the share of a parameter without influence, which is
    # next to nothing, can lie below all its resamples.
    low, high = np.minimum(ends[0], shares[0]), np.maximum(ends[1], shares[0])
    return Importances(tuple(parameters), shares[0], low, high, n, int(best[0].sum()), quantile, over_grid)


def holds(parameter: Parameter, value: object) -> bool:
    """Return whether a value from the store lies on the parameter's grid."""
    if isinstance(parameter, Choice | Fixed):
        return any(_same(each, value) for each in parameter.grid())
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def best_mask(losses: FloatArray, draws: IntArray, quantile: float) -> npt.NDArray[np.bool_]:
    """Return which configurations are among the best of each draw, ties included. [draws, n]

    Args:
        draws: how often each configuration is in the draw. [draws, n]
    """
    order = np.argsort(losses, kind="stable")
    needed = np.ceil(quantile * draws.sum(axis=1)).astype(np.int64)
    reached = np.cumsum(draws[:, order], axis=1) >= needed[:, None]
    cutoffs = losses[order][np.argmax(reached, axis=1)]
    mask: npt.NDArray[np.bool_] = losses[None, :] <= cutoffs[:, None]
    return mask


def places(parameter: Parameter, values: Sequence[object]) -> list[int]:
    """Return each value's point on the parameter's grid, from 0; halfway between two points counts as the lower."""
    if isinstance(parameter, Choice | Fixed):
        listed = parameter.grid()
        return [next(at for at, each in enumerate(listed) if _same(each, value)) for value in values]
    size = grid_size(parameter)
    numbers = np.array([float(value) for value in values if isinstance(value, int | float)])
    low, high = float(parameter.low), float(parameter.high)
    if parameter.log:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    found = np.ceil((numbers - low) / ((high - low) / (size - 1)) - 0.5)
    return [int(each) for each in np.clip(found, 0, size - 1)]


def grid_size(parameter: Parameter) -> int:
    """Return how many points the parameter's grid has."""
    if isinstance(parameter, Choice | Fixed):
        return len(parameter.grid())
    if not isinstance(parameter, Int):
        return STEPS
    count = parameter.high - parameter.low + 1
    return min(math.ceil(math.log2(count)) + 1 if parameter.log else count, STEPS)


def _same(listed: object, value: object) -> bool:
    # The store gives numbers back as floats and all else as text.
    if isinstance(listed, int | float) and not isinstance(listed, bool):
        return isinstance(value, int | float) and float(listed) == float(value)
    return str(listed) == str(value)


def _divergences(parameter: Parameter, at: IntArray, best: IntArray, everyone: IntArray | None) -> FloatArray:
    """Pearson's divergence of the best ones' density from everyone's (None: the whole space's), per draw. [draws]"""
    size = grid_size(parameter)
    density = category_density if isinstance(parameter, Choice | Fixed) else number_density
    points = np.eye(size, dtype=np.int64)[at]  # [n, size]
    top = density(best @ points) + _FLOOR
    rest = np.full_like(top, 1 / size) if everyone is None else density(everyone @ points) + _FLOOR
    result: FloatArray = (rest * (top / rest - 1) ** 2).sum(axis=1)
    return result


def category_density(counts: IntArray) -> FloatArray:
    """Return the smoothed shares of categories that were seen so often. [draws, categories]"""
    total, size = counts.sum(axis=1, keepdims=True), counts.shape[1]
    kernels = (counts > 0).sum(axis=1, keepdims=True) + 1
    # A kernel has 1 on its own category and 1 / kernels on each; the prior's is flat.
    own, flat = 1 / (1 + size / kernels), 1 / (kernels + size)
    weights = counts / (total + 1)
    result: FloatArray = weights * own + (total / (total + 1)) * flat + 1 / (total + 1) / size
    return result


def number_density(counts: IntArray) -> FloatArray:
    """Return the density of numbers that were seen so often at each point of a grid, by Scott's rule. [draws, size]"""
    total, size = counts.sum(axis=1, keepdims=True), counts.shape[1]
    at = np.arange(size)
    bandwidth = _bandwidth(counts)[:, None]
    offsets = np.arange(-(size - 1), size)
    mass = ndtr((offsets + 0.5) / bandwidth) - ndtr((offsets - 0.5) / bandwidth)
    inside = ndtr((size - 0.5 - at) / bandwidth) - ndtr((-0.5 - at) / bandwidth)
    weights = counts / (total + 1) / inside
    kernels = mass[:, at[:, None] - at[None, :] + size - 1]  # [draws, point, kernel]
    middle = (size - 1) / 2
    prior = ndtr((at + 0.5 - middle) / size) - ndtr((at - 0.5 - middle) / size)
    result: FloatArray = np.einsum("bpk,bk->bp", kernels, weights) + prior / prior.sum() / (total + 1)
    return result


def _bandwidth(counts: IntArray) -> FloatArray:
    """Scott's rule over a grid's points: 1.059 times the smaller of deviation and IQR / 1.34, times n^(-1/5)."""
    total, at = counts.sum(axis=1), np.arange(counts.shape[1])
    mean = counts @ at / total
    variance = (counts * (at[None, :] - mean[:, None]) ** 2).sum(axis=1) / np.maximum(1, total - 1)
    reached = np.cumsum(counts, axis=1)
    first = np.argmax(reached >= np.maximum(total // 4, 1)[:, None], axis=1)
    third = np.argmax(reached > (total * 3 // 4)[:, None], axis=1)
    spread = np.minimum((third - first) / 1.34, np.sqrt(variance))
    result: FloatArray = np.maximum(1.059 * spread * total**-0.2, _SMALLEST_BANDWIDTH)
    return result
