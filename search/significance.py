"""Whether arms can be told apart: permutations inside tasks, signed ranks over tasks, Holm's correction, mean ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from search.tuning_cost import FloatArray, expected_best_weights

LEVEL = 0.05
TASKS_FOR_SIGNED_RANKS = 6
TASKS_FOR_MEAN_RANKS = 3

# Relabelled trials held in memory at a time: some 1,000 x (n_a + n_b) numbers.
_CHUNK = 1000


@dataclass(frozen=True)
class Duel:
    """Two arms on one task: scores turned so that larger is better, and the trials that the common budget buys each.

    `scale` is what a difference is divided by before tasks are averaged: 1 for one task, |base score| for several.
    """

    first: FloatArray
    second: FloatArray
    first_trials: int
    second_trials: int
    scale: float = 1.0

    @property
    def weights(self) -> tuple[FloatArray, FloatArray]:
        """The weights of the ascending scores in each arm's expected best."""
        return (
            expected_best_weights(self.first.size, self.first_trials) / self.scale,
            expected_best_weights(self.second.size, self.second_trials) / self.scale,
        )

    @property
    def difference(self) -> float:
        """Expected best of the first arm minus that of the second, in units of `scale`."""
        first, second = self.weights
        return float(first @ np.sort(self.first) - second @ np.sort(self.second))


def permutation_p_value(duels: Sequence[Duel], rng: np.random.Generator, permutations: int = 10_000) -> float:
    """Return the two-sided p-value of the mean difference when the scores of each task are dealt out anew to its arms.

    The null hypothesis is that an arm's name says nothing about its scores; each arm keeps its number of trials and
    what the budget buys it. A cheaper arm gains even so: where the null's mean favours the loser, it is moved to 0, and
    where it favours the winner it stays, so that neither cost alone nor a head start makes a winner.
    """
    observed = float(np.mean([duel.difference for duel in duels]))
    winner = 1.0 if observed >= 0 else -1.0
    sizes = [min(_CHUNK, permutations - done) for done in range(0, permutations, _CHUNK)]
    null = winner * np.concatenate([np.mean([_redealt(duel, size, rng) for duel in duels], axis=0) for size in sizes])
    null = null - min(float(null.mean()), 0.0)
    slack = 1e-12 * max(1.0, abs(observed))
    return min(1.0, 2 * (1 + int((null >= abs(observed) - slack).sum())) / (permutations + 1))


def _redealt(duel: Duel, size: int, rng: np.random.Generator) -> FloatArray:
    pool = np.concatenate([duel.first, duel.second])
    dealt = rng.permuted(np.tile(pool, (size, 1)), axis=1)
    first, second = np.sort(dealt[:, : duel.first.size], axis=1), np.sort(dealt[:, duel.first.size :], axis=1)
    first_weights, second_weights = duel.weights
    return np.asarray(first @ first_weights - second @ second_weights)


def signed_rank_p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test over tasks; 1 where no task differs."""
    values = np.asarray(differences, dtype=np.float64)
    if not values.any():
        return 1.0
    return float(stats.wilcoxon(values[values != 0]).pvalue)


def holm(p_values: Sequence[float]) -> FloatArray:
    """Return Holm's step-down adjusted p-values, in the order given; none is larger than 1."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(values.size, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    result = np.empty_like(values)
    result[order] = adjusted
    return result


@dataclass(frozen=True)
class MeanRanks:
    """Friedman's test of whether any arm is better than another over tasks, for at least two of each.

    Attributes:
        ranks: the mean rank of each arm over tasks, 1 is best; equal scores share their ranks. [arms]
        chi_square: Friedman's statistic, corrected for ties; 0 where no task tells its arms apart.
        f: Iman and Davenport's form of it (Communications in Statistics 1980); infinite where all tasks agree.
        p_value: by dealing out the ranks of each task anew. The tables of both statistics mislead for few tasks.
    """

    ranks: FloatArray
    chi_square: float
    f: float
    p_value: float


def mean_ranks(scores: FloatArray, rng: np.random.Generator, permutations: int = 10_000) -> MeanRanks:
    """Return the arms' mean ranks over tasks with Friedman's test.

    Args:
        scores: turned so that larger is better. [tasks, arms]
    """
    tasks, arms = scores.shape
    ranks = stats.rankdata(-scores, axis=1)
    # Ties make ranks vary less than the numbers from 1 to the number of arms do.
    spread = float(((ranks - (arms + 1) / 2) ** 2).sum()) / (tasks * (arms - 1))
    excess = _excess(ranks)
    chi_square = tasks * excess / spread if spread else 0.0
    rest = tasks * (arms - 1) - chi_square
    dealt = rng.permuted(np.tile(ranks, (permutations, 1, 1)), axis=2)
    as_far = int((_excess(dealt) >= excess - 1e-9).sum())
    return MeanRanks(
        ranks=ranks.mean(axis=0),
        chi_square=chi_square,
        f=(tasks - 1) * chi_square / rest if rest > 1e-9 else math.inf,
        p_value=(1 + as_far) / (permutations + 1),
    )


def _excess(ranks: FloatArray) -> FloatArray:
    """Return how far the mean ranks lie from being equal: the sum of squares over arms. [..., tasks, arms]"""
    means = ranks.mean(axis=-2)
    return np.asarray(((means - (ranks.shape[-1] + 1) / 2) ** 2).sum(axis=-1))
