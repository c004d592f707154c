"""What confirmations show, against second computations and by simulation."""

import html
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from search import Store, confirmed
from search.confirmation.terminal import print_confirmed
from search.report import write_report
from search.report.confirmed import Confirmed, mean_interval, needed_seeds

DESCENT, SAM, BSAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam", "bsam"))
SEEDS = (1, 2, 3, 4, 5)
BASE = (0.30, 0.31, 0.29, 0.30, 0.30)


@pytest.fixture
def sweep(new_sweep: Callable[..., Any]) -> Any:
    return new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam", "bsam"]})


def confirm(writer: Any, trial: str, test: Mapping[int, float | None], lead: float = 0.01) -> None:
    """Writes what a trial's configuration came to by seed; on validation it is better by `lead`."""
    for seed, value in test.items():
        on_valid = None if value is None else value + lead
        common = {"sweep": writer.name, "trial": trial, "seed": seed, "metric": "recall@20", "candidates": 8}
        test_row = common | {"split": "test", "value": value, "unsealed": writer.clock}
        rows = [common | {"split": "valid", "value": on_valid}, test_row]
        writer.add("confirmations", [*rows, test_row | {"metric": "ndcg@20", "value": 9.0}])


def by_seed(*values: float | None) -> dict[int, float | None]:
    return dict(zip(SEEDS, values, strict=False))


def shown(found: Confirmed) -> str:
    screen = Console(width=240, record=True, quiet=False, file=None)
    with screen.capture() as captured:
        print_confirmed(screen, found)
    return captured.get()


def test_means_intervals_and_the_optimism_of_the_search(sweep: Any) -> None:
    trial = sweep.trial(SAM, 0.35)
    confirm(sweep, trial, by_seed(*BASE))
    found = confirmed(sweep.store, sweep.name)
    (each,) = found.configurations
    assert (each.task, each.cell, each.arm, each.trial) == ("lfm2k/vbpr", SAM, "sam", trial)
    assert (each.seeds, each.failed, each.candidates, each.highest, each.highest_seed) == (5, 0, 8, 0.31, 2)
    assert each.test == pytest.approx(0.30) and each.valid == pytest.approx(0.31)
    assert each.optimism == pytest.approx(0.35 - 0.31)
    low, high = stats.t.interval(0.95, 4, loc=0.30, scale=stats.sem(BASE))
    assert (each.low, each.high, each.deviation) == pytest.approx((low, high, np.std(BASE, ddof=1)))
    assert found.notes == ("lfm2k/vbpr: the base arm descent was not confirmed, so no arm can be compared with it.",)
    assert found.unsealed["lfm2k"] == 1


def test_arms_are_held_against_the_base_arm_seed_by_seed(sweep: Any) -> None:
    values = {DESCENT: BASE, SAM: (0.33, 0.338, 0.32, 0.331, 0.329), BSAM: (0.304, 0.309, 0.293, 0.302, 0.2995)}
    for cell, test in values.items():
        confirm(sweep, sweep.trial(cell, 0.3), by_seed(*test))
    found = confirmed(sweep.store, sweep.name)
    pairs = {pair.arm: pair for pair in found.pairs}
    assert set(pairs) == {"sam", "bsam"}
    for arm, cell in (("sam", SAM), ("bsam", BSAM)):
        pair, differences = pairs[arm], np.subtract(values[cell], BASE)
        assert pair.p_value == pytest.approx(stats.ttest_rel(values[cell], BASE).pvalue)
        assert pair.p_signed_ranks == pytest.approx(stats.wilcoxon(differences[differences != 0]).pvalue)
        assert pair.difference == pytest.approx(differences.mean())
        assert pair.relative == pytest.approx(differences.mean() / 0.30)
        assert pair.effect == pytest.approx(differences.mean() / differences.std(ddof=1))
        assert pair.needed == needed_seeds(float(differences.std(ddof=1)), 0.01 * 0.30)
    assert pairs["sam"].p_holm == pytest.approx(2 * pairs["sam"].p_value)
    assert pairs["bsam"].p_holm == pytest.approx(pairs["bsam"].p_value)
    assert pairs["sam"].better is True and "sam is better than descent on test" in pairs["sam"].sentence
    assert pairs["bsam"].better is None and pairs["bsam"].underpowered
    assert 0.05 < pairs["bsam"].p_holm < 0.3, "near enough to the level to tell where it lies"
    assert "cannot be told apart" in pairs["bsam"].sentence
    assert "Underpowered: a difference of 1%" in pairs["bsam"].sentence
    text = shown(found)
    assert "sam is better" in text and "opened for 3 configurations" in text and "nobody should do" in text


def test_less_is_better_where_the_goal_says_so(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep(
        axes={"model": ["vbpr"], "update": ["descent", "sam"]}, goal={"metric": "recall@20", "mode": "min"}
    )
    confirm(sweep, sweep.trial(DESCENT, 0.30), by_seed(*BASE))
    confirm(sweep, sweep.trial(SAM, 0.20), by_seed(0.20, 0.21, 0.19, 0.20, 0.20))
    found = confirmed(sweep.store, sweep.name)
    (pair,) = found.pairs
    assert pair.difference < 0 and pair.better is True and "sam is better" in pair.sentence
    by_arm = {each.arm: each for each in found.configurations}
    assert by_arm["sam"].highest == 0.19 and by_arm["sam"].optimism == pytest.approx(0.21 - 0.20)


def test_a_choice_on_test_is_the_highest_of_all_that_was_retrained(sweep: Any) -> None:
    first, second = sweep.trial(SAM, 0.5), sweep.trial(SAM, 0.4, point={"update.rho": 0.9})
    confirm(sweep, first, by_seed(0.30, 0.31, 0.29))
    confirm(sweep, second, by_seed(0.28, 0.35, 0.27))
    (claim,) = confirmed(sweep.store, sweep.name).claims
    assert (claim.claimed, claim.claimed_trial, claim.claimed_seed, claim.of) == (0.35, second, 2, 6)
    assert (claim.honest_trial, claim.honest) == (first, pytest.approx(0.30))
    assert "+0.0500" in claim.sentence


def test_of_several_configurations_the_searchs_first_stands_for_its_arm(sweep: Any) -> None:
    confirm(sweep, sweep.trial(DESCENT, 0.3), by_seed(*BASE))
    confirm(sweep, sweep.trial(SAM, 0.5), by_seed(0.30, 0.31, 0.29, 0.30, 0.31))
    confirm(sweep, sweep.trial(SAM, 0.4, point={"update.rho": 0.9}), by_seed(0.9, 0.9, 0.9, 0.9, 0.9))
    (pair,) = confirmed(sweep.store, sweep.name).pairs
    assert pair.difference == pytest.approx(0.002)


def test_diverged_retrainings_are_counted_and_named(sweep: Any) -> None:
    confirm(sweep, sweep.trial(DESCENT, 0.3), by_seed(*BASE))
    trial = sweep.trial(SAM, 0.35)
    confirm(sweep, trial, by_seed(0.31, None, 0.30, 0.32, None))
    found = confirmed(sweep.store, sweep.name)
    each = next(each for each in found.configurations if each.arm == "sam")
    assert (each.seeds, each.failed) == (3, 2)
    assert found.pairs[0].seeds == 3
    assert found.notes == (f"{trial} diverged with 2 fresh seeds, which its means leave out.",)


def test_one_seed_says_nothing_about_a_difference(sweep: Any) -> None:
    confirm(sweep, sweep.trial(DESCENT, 0.3), {1: 0.30})
    confirm(sweep, sweep.trial(SAM, 0.3), {1: 0.40})
    found = confirmed(sweep.store, sweep.name)
    (pair,) = found.pairs
    assert pair.better is None and math.isnan(pair.p_value) and pair.underpowered
    assert "fewer than two seeds" in pair.sentence and shown(found)


def test_seeds_that_only_one_of_two_has_are_left_out(sweep: Any) -> None:
    confirm(sweep, sweep.trial(DESCENT, 0.3), {1: 0.30, 2: 0.31})
    confirm(sweep, sweep.trial(SAM, 0.3), {2: 0.32, 3: 0.9})
    (pair,) = confirmed(sweep.store, sweep.name).pairs
    assert pair.seeds == 1 and pair.difference == pytest.approx(0.01)


def test_a_confirmed_trial_that_the_store_has_lost_is_named(sweep: Any) -> None:
    confirm(sweep, sweep.trial(SAM, 0.3), by_seed(*BASE))
    confirm(sweep, "vbpr-bsam-00000000", by_seed(*BASE))
    found = confirmed(sweep.store, sweep.name)
    assert [each.arm for each in found.configurations] == ["sam"]
    assert "vbpr-bsam-00000000 was confirmed, but the store has lost what it was." in found.notes


def test_equal_results_are_no_difference_and_no_error(sweep: Any) -> None:
    for cell in (DESCENT, SAM):
        confirm(sweep, sweep.trial(cell, 0.3), by_seed(*BASE))
    (pair,) = confirmed(sweep.store, sweep.name).pairs
    assert (pair.difference, pair.effect, pair.p_value, pair.better) == (0.0, 0.0, 1.0, None)


def test_without_confirmations_there_is_nothing_to_say(sweep: Any) -> None:
    sweep.trial(SAM, 0.3)
    found = confirmed(sweep.store, sweep.name)
    assert (found.configurations, found.pairs, found.claims, found.notes) == ((), (), (), ())
    assert shown(found) == ""


def test_the_report_has_the_tests_and_what_a_choice_on_test_would_have_claimed(sweep: Any, tmp_path: Path) -> None:
    confirm(sweep, sweep.trial(DESCENT, 0.3), by_seed(*BASE))
    confirm(sweep, sweep.trial(SAM, 0.35), by_seed(0.33, 0.338, 0.32, 0.331, 0.329))
    page = write_report(sweep.store, sweep.name, tmp_path)
    found = confirmed(sweep.store, sweep.name)
    for text in (page.read_text(), (tmp_path / "report.md").read_text()):
        assert "sam is better than descent on test" in text and "+0.0296" in text
        assert html.escape(found.claims[0].sentence) in text and "nobody should do" in text


def test_the_needed_seeds_have_the_power_that_they_promise() -> None:
    """Of normal differences; one seed less does not have it."""
    rng = np.random.default_rng(1)
    for deviation in (1.0, 2.0):
        n = int(needed_seeds(deviation, 0.8))
        powers = []
        for seeds in (n - 1, n):
            drawn = rng.normal(0.8, deviation, size=(40_000, seeds))
            powers.append((stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean())
        assert powers[0] < 0.805 and 0.795 < powers[1] < 0.85
    assert needed_seeds(0.0, 1.0) == 2 and needed_seeds(1.0, 0.0) == math.inf


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    ends = np.array([mean_interval(values)[2:] for values in rng.normal(0.3, 0.01, size=(4_000, 5))])
    covered = ((ends[:, 0] < 0.3) & (ends[:, 1] > 0.3)).mean()
    assert 0.935 < covered < 0.965


def test_what_is_read_needs_no_more_than_a_store(sweep: Any) -> None:
    confirm(sweep, sweep.trial(SAM, 0.3), by_seed(*BASE))
    assert isinstance(sweep.store, Store) and confirmed(Store(sweep.store.root), sweep.name).configurations
