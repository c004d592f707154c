"""How much an arm's score hangs on its hyperparameters: spread, harm, and what tuning adds to its defaults."""

import numpy as np

from search.arms import Arm
from search.tuning_cost import FloatArray, Mode, harm_rate, turned

NEAR_WORST = 0.1


def sensitivity(arm: Arm, scores: FloatArray, base: float, mode: Mode) -> dict[str, object]:
    """Return the arm's columns of `Comparison.results` that say how much its score hangs on its hyperparameters.

    Args:
        scores: of all of its configurations, failed ones filled.
        base: the score that a configuration must reach to do no harm.
    """
    default = arm.default_score
    best = float(turned([turned(scores, mode).max()], mode)[0])
    return {
        "default_score": default,
        "default_regret": None if default is None else (best - default) * (1.0 if mode == "max" else -1.0),
        # A score that was cut short is a lower bound: neither harm nor spread is known.
        **(dict.fromkeys(_NEED_FULL_TRIALS) if arm.truncated else _harm(scores, base, mode) | spread(scores, mode)),
    }


_NEED_FULL_TRIALS = ("harm_rate", "harm_low", "harm_high", "deviation", "iqr", "p10")


def _harm(scores: FloatArray, base: float, mode: Mode) -> dict[str, object]:
    harm = harm_rate(scores, base, mode)
    return {"harm_rate": harm.rate, "harm_low": harm.low, "harm_high": harm.high}


def spread(scores: FloatArray, mode: Mode = "max") -> dict[str, object]:
    """Return the scores' sample standard deviation, interquartile range and P10, the score that nine in ten reach.

    Quantiles are interpolated linearly. The deviation of a single score is None.
    """
    low, high = np.quantile(scores, (0.25, 0.75)).tolist()
    return {
        "deviation": float(np.std(scores, ddof=1)) if scores.size > 1 else None,
        "iqr": high - low,
        "p10": float(turned([np.quantile(turned(scores, mode), NEAR_WORST)], mode)[0]),
    }
