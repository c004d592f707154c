"""PED-ANOVA: the shares are Optuna's, and say what made the scores; the intervals say how sure that is."""

from collections.abc import Mapping

import numpy as np
import optuna
import pytest
from optuna import distributions
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from search.importance import best_mask, holds, importances, places, target_quantile
from search.tuning_cost import FloatArray
from spaces.params import Choice, Float, Int, Parameter

SPACE: Mapping[str, Parameter] = {
    "rate": Float(low=1e-5, high=1e-1, log=True),
    "margin": Float(low=-1.0, high=2.0),
    "layers": Int(low=1, high=7),
    "width": Int(low=2, high=300, log=True),
    "size": Choice(values=(1, 2, 4, 8)),
    "kind": Choice(values=("x", "y", True)),
    "steps": Int(low=1, high=400),
}
OPTUNAS = {
    "rate": distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "margin": distributions.FloatDistribution(-1.0, 2.0),
    "layers": distributions.IntDistribution(1, 7),
    "width": distributions.IntDistribution(2, 300, log=True),
    "size": distributions.CategoricalDistribution((1, 2, 4, 8)),
    "kind": distributions.CategoricalDistribution(("x", "y", True)),
    "steps": distributions.IntDistribution(1, 400),
}


def points(n: int, rng: np.random.Generator) -> dict[str, list[object]]:
    """Return n points of the space, drawn evenly."""
    return {
        "rate": np.exp(rng.uniform(np.log(1e-5), np.log(1e-1), n)).tolist(),
        "margin": rng.uniform(-1, 2, n).tolist(),
        "layers": rng.integers(1, 8, n).tolist(),
        "width": rng.integers(2, 301, n).tolist(),
        "size": [(1, 2, 4, 8)[at] for at in rng.integers(0, 4, n)],
        "kind": [("x", "y", True)[at] for at in rng.integers(0, 3, n)],
        "steps": rng.integers(1, 401, n).tolist(),
    }


def by_rate(values: Mapping[str, list[object]]) -> FloatArray:
    """Return losses that only the rate decides."""
    return (np.log10(np.array(values["rate"], dtype=np.float64)) + 3) ** 2


@pytest.mark.parametrize("over_grid", [False, True])
@pytest.mark.parametrize(("seed", "n"), [*enumerate((16, 23, 49, 50, 77, 120))])
def test_the_shares_are_those_of_optunas_evaluator(seed: int, n: int, over_grid: bool) -> None:
    rng = np.random.default_rng(seed)
    values = points(n, rng)
    # One decimal only, so that there are ties at the border of the best.
    losses = np.round(by_rate(values) + 0.2 * np.array(values["layers"]) + 0.3 * rng.normal(size=n), 1)
    study = optuna.create_study()
    for at in range(n):
        params = {name: values[name][at] for name in SPACE}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=OPTUNAS, value=float(losses[at])))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=target_quantile(n) or 0.0, evaluate_on_local=not over_grid)
    expected = get_param_importances(study, evaluator=evaluator)
    found = importances(SPACE, values, losses, rng, over_grid=over_grid)
    assert found is not None
    assert dict(zip(found.names, found.shares.tolist(), strict=True)) == pytest.approx(expected, rel=1e-9)


def test_a_parameter_that_alone_decides_gets_nearly_all_and_stands_apart() -> None:
    rng = np.random.default_rng(3)
    values = points(150, rng)
    found = importances(SPACE, values, by_rate(values), rng)
    assert found is not None and found.names[0] == "rate"
    assert found.shares[0] > 0.8 and found.shares.sum() == pytest.approx(1)
    assert found.low[0] > found.high[1:].max()


def test_shuffled_scores_leave_no_parameter_apart_from_the_others() -> None:
    rng = np.random.default_rng(4)
    values = points(150, rng)
    found = importances(SPACE, values, rng.permutation(by_rate(values)), rng)
    assert found is not None
    assert found.low.max() < found.high.min()


# With most of these seeds some share lies below the percentiles of its resamples, with 4 and 17 one lies above.
@pytest.mark.parametrize(("seed", "noise"), [(0, 0.1), (1, 0.1), (2, 0.1), (3, 0.1), (4, 0.0), (17, 0.0)])
def test_an_interval_holds_its_share(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    values = points(100, rng)
    losses = by_rate(values) + noise * rng.normal(size=100) if noise else by_rate(values)
    found = importances(SPACE, values, losses, rng)
    assert found is not None
    assert (found.low <= found.shares).all() and (found.shares <= found.high).all()
    assert (found.low < found.high).all() and (found.low >= 0).all() and (found.high <= 1).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    values = points(60, np.random.default_rng(0))
    first, second = (importances(SPACE, values, by_rate(values), np.random.default_rng(1)) for _ in range(2))
    assert first is not None and second is not None
    assert first.low.tolist() == second.low.tolist() and first.high.tolist() == second.high.tolist()


def test_the_best_are_never_fewer_than_five_and_below_that_there_is_no_share() -> None:
    rng = np.random.default_rng(5)
    for n, best in ((16, 5), (49, 15), (50, 5), (90, 9)):
        values = points(n, rng)
        found = importances(SPACE, values, by_rate(values), rng)
        assert found is not None and (found.best, found.configurations) == (best, n)
    assert importances(SPACE, points(15, rng), np.arange(15.0), rng) is None


def test_the_best_of_a_draw_are_those_of_the_list_that_the_draw_stands_for() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        n = int(rng.integers(16, 60))
        losses = rng.integers(0, 12, n).astype(np.float64)
        draw = rng.multinomial(n, np.full(n, 1 / n))
        listed = sorted(loss for loss, times in zip(losses, draw, strict=True) for _ in range(times))
        cutoff = listed[int(np.ceil(0.3 * n)) - 1]
        assert best_mask(losses, draw[None, :], 0.3)[0].tolist() == (losses <= cutoff).tolist()


def test_values_from_the_store_are_found_again_in_their_lists() -> None:
    # The store holds numbers as floats and everything else as text.
    assert places(Choice(values=(1, 2, 4)), [4.0, 1.0]) == [2, 0]
    assert places(Choice(values=("x", True)), ["True", "x"]) == [1, 0]
    assert holds(Choice(values=(1, 2)), 2.0) and not holds(Choice(values=(1, 2)), 3.0)
    assert holds(Float(low=0.0, high=1.0), 0.5) and not holds(Float(low=0.0, high=1.0), float("nan"))
