"""What counts as spent, when a limit is reached, and what is said about it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.budgets import Budget, Spent
from search.sections import BudgetSection

SAM, BSAM = "toy/vbpr/plain/sam/adam", "toy/vbpr/plain/bsam/adam"


class Clock:
    """Seconds that the test sets; it starts at an odd time, as monotonic clocks do."""

    def __init__(self) -> None:
        self.now = 12345.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(clock: Clock | None = None, **limits: Any) -> Budget:
    return Budget(BudgetSection(**limits), (SAM, BSAM), clock or Clock())


def test_without_limits_nothing_ends(clock: Clock) -> None:
    spent = budget(clock)
    spent.charge(SAM, "t", 10**12, 1e12)
    clock.now += 1e12
    assert spent.exhausted() is spent.exhausted_cell(SAM) is spent.trial_over(1e12) is None


def test_every_trial_adds_to_its_cell_and_to_the_sweep() -> None:
    spent = budget()
    spent.charge(SAM, "a", 10, 1.5)
    spent.charge(SAM, "b", 20, 2.5)
    spent.charge(BSAM, "a", 5, 4.0)
    assert spent.spent(SAM) == Spent(2, 30, 4.0)
    assert spent.spent(BSAM) == Spent(1, 5, 4.0)
    assert spent.spent() == Spent(3, 35, 8.0)


def test_charges_are_cumulative_and_work_lost_with_a_worker_is_not_counted() -> None:
    spent = budget()
    spent.begin(SAM, "a")
    totals = []
    # Two epochs, a lost worker, the second epoch again with another luck of the clock, then a third one.
    for passes, seconds in ((10, 1.0), (20, 2.0), (10, 1.25), (20, 2.5), (30, 3.5)):
        spent.charge(SAM, "a", passes, seconds)
        totals.append((spent.spent().gradient_evaluations, spent.spent().device_seconds))
    assert totals == [(10, 1.0), (20, 2.0), (20, 2.0), (20, 2.5), (30, 3.5)]


def test_a_trial_counts_once_however_often_it_begins() -> None:
    spent = budget()
    for _ in range(3):
        spent.begin(SAM, "a")
    spent.charge(SAM, "a", 1, 1.0)
    spent.begin(SAM, "b")
    assert spent.spent(SAM).trials == 2


def test_what_earlier_drivers_spent_counts_and_a_resumed_trial_goes_on_from_it() -> None:
    spent = budget(device_hours=1)
    spent.restore(SAM, "ended", 100, 1800.0)
    spent.restore(SAM, "resumed", 50, 900.0)
    assert spent.spent(SAM) == Spent(2, 150, 2700.0)
    spent.begin(SAM, "resumed")
    spent.charge(SAM, "resumed", 40, 700.0)  # its checkpoint was an epoch older
    assert spent.spent(SAM) == Spent(2, 150, 2700.0) and spent.exhausted() is None
    spent.charge(SAM, "resumed", 90, 1800.0)
    assert spent.spent(SAM) == Spent(2, 190, 3600.0) and spent.exhausted() is not None


@pytest.mark.parametrize(
    ("limits", "below", "at", "sentence"),
    [
        (
            {"device_hours": 2},
            (1, 7199.99),
            (1, 7200.0),
            "budget.device_hours: 2 device-hours are spent, and 2 is the limit",
        ),
        (
            {"device_hours": 0.001},
            (1, 3.5),
            (1, 5.4),
            "budget.device_hours: 0.0015 device-hours are spent, and 0.001 is the limit",
        ),
        (
            {"per": "sweep", "amount": 1_000_000},
            (999_999, 0.0),
            (1_000_000, 0.0),
            "budget.amount: the sweep has spent 1,000,000 gradient evaluations, and 1,000,000 is the limit",
        ),
        (
            {"per": "sweep", "unit": "device_seconds", "amount": 60},
            (1, 59.9),
            (1, 61.234),
            "budget.amount: the sweep has spent 61.23 device-seconds, and 60 is the limit",
        ),
    ],
)
def test_the_sweep_ends_at_its_limit(
    limits: dict[str, Any], below: tuple[int, float], at: tuple[int, float], sentence: str
) -> None:
    spent = budget(**limits)
    spent.charge(SAM, "a", *below)
    assert spent.exhausted() is None
    spent.charge(SAM, "a", *at)
    assert spent.exhausted() == sentence
    assert spent.exhausted_cell(SAM) is None


def test_the_wall_time_counts_from_the_start_of_this_driver(clock: Clock) -> None:
    spent = budget(clock, wall_hours=1.5)
    spent.restore(SAM, "a", 10, 1e6)
    clock.now += 5399.5
    assert spent.exhausted() is None
    clock.now += 0.5
    assert spent.exhausted() == "budget.wall_hours: the sweep has run for 1.50 h, and 1.5 is the limit"


@pytest.mark.parametrize(
    ("unit", "below", "at", "said"),
    [
        ("gradient_evaluations", (99, 1e9), (100, 1e9), "100 gradient evaluations"),
        ("device_seconds", (10**9, 99.5), (10**9, 100.5), "100.50 device-seconds"),
    ],
)
def test_a_study_ends_at_its_own_limit(unit: str, below: tuple[int, float], at: tuple[int, float], said: str) -> None:
    spent = budget(unit=unit, amount=100)
    spent.charge(BSAM, "other", *below)
    spent.charge(SAM, "a", *below)
    assert spent.exhausted_cell(SAM) is None
    spent.charge(SAM, "a", *at)
    sentence = f"budget.amount: {SAM} has spent {said}, and 100 is the limit"
    assert spent.exhausted_cell(SAM) == spent.exhausted_cell(SAM, "a") == sentence
    assert spent.exhausted_cell(BSAM) is spent.exhausted() is None


@pytest.mark.parametrize(("per", "others"), [("study", None), ("sweep", "the sweep")])
def test_a_limit_of_trials_lets_those_that_began_go_on(per: str, others: str | None) -> None:
    spent = budget(per=per, unit="trials", amount=2)
    spent.begin(SAM, "a")
    assert spent.exhausted_cell(SAM) is None
    spent.begin(SAM, "b")
    sentence = "budget.amount: {} has spent 2 trials, and 2 is the limit"
    assert spent.exhausted_cell(SAM) == sentence.format(others or SAM)
    assert spent.exhausted_cell(SAM, "c") == sentence.format(others or SAM)
    assert spent.exhausted_cell(SAM, "a") is spent.exhausted_cell(SAM, "b") is spent.exhausted() is None
    assert spent.exhausted_cell(BSAM) == (others and sentence.format(others))


def test_a_trial_ends_at_its_own_minutes() -> None:
    limited = budget(trial_minutes=1.5)
    assert limited.trial_over(89.9) is None
    assert limited.trial_over(90) == "budget.trial_minutes: the trial has taken 1.50 min, and 1.5 is the limit"


def test_the_report_gives_every_amount_and_the_limits_that_there_are(clock: Clock) -> None:
    plain = budget(clock)
    plain.charge(SAM, "a", 82_528, 4428.0)
    clock.now += 2700
    assert plain.report() == "Spent: 1.23 device-hours, 82,528 gradient evaluations in 1 trial, 0.75 h"


@pytest.mark.parametrize(
    ("limits", "report"),
    [
        (
            {"device_hours": 2, "wall_hours": 1},
            "Spent: 1.23 device-hours of 2, 1,500 gradient evaluations in 2 trials, 0 h of 1",
        ),
        ({"amount": 1000}, "Spent: 1.23 device-hours, 1,500 gradient evaluations of 1,000 a study in 2 trials, 0 h"),
        (
            {"per": "sweep", "unit": "trials", "amount": 12345678},
            "Spent: 1.23 device-hours, 1,500 gradient evaluations in 2 trials of 12,345,678, 0 h",
        ),
        (
            {"per": "sweep", "unit": "device_seconds", "amount": 5000},
            "Spent: 1.23 device-hours (4,428 device-seconds of 5,000), 1,500 gradient evaluations in 2 trials, 0 h",
        ),
    ],
)
def test_the_report_names_the_limits(limits: dict[str, Any], report: str) -> None:
    spent = budget(**limits)
    spent.charge(SAM, "a", 1000, 4000.0)
    spent.charge(BSAM, "b", 500, 428.0)
    assert spent.report() == report


CHARGES = st.lists(
    st.tuples(
        st.sampled_from((SAM, BSAM)),
        st.sampled_from("abc"),
        st.sampled_from(("restore", "begin", "charge")),
        st.integers(0, 1000),
        st.integers(0, 1000),  # whole seconds add up exactly
    )
)


@given(CHARGES)
def test_what_is_spent_is_the_sum_of_every_trials_highest_cost_whatever_the_order(
    charges: list[tuple[str, str, str, int, int]],
) -> None:
    spent = budget()
    highest: dict[tuple[str, str], tuple[int, int]] = {}
    for cell, trial, event, passes, seconds in charges:
        known = highest.get((cell, trial), (0, 0))
        if event == "begin":
            spent.begin(cell, trial)
            highest[cell, trial] = known
        else:
            getattr(spent, event)(cell, trial, passes, float(seconds))
            highest[cell, trial] = max(known[0], passes), max(known[1], seconds)
    for cell in (SAM, BSAM, None):
        costs = [cost for (owner, _), cost in highest.items() if cell in (None, owner)]
        assert spent.spent(cell) == Spent(len(costs), sum(cost[0] for cost in costs), sum(cost[1] for cost in costs))


@given(CHARGES, st.integers(1, 2000), st.sampled_from(("study", "sweep")))
def test_a_limit_is_reached_exactly_when_as_much_is_spent_and_stays_so(
    charges: list[tuple[str, str, str, int, int]], amount: int, per: str
) -> None:
    spent = budget(per=per, amount=amount)
    reached = False
    for cell, trial, _, passes, seconds in charges:
        spent.charge(cell, trial, passes, float(seconds))
        over = (spent.spent(SAM) if per == "study" else spent.spent()).gradient_evaluations >= amount
        said = spent.exhausted_cell(SAM) if per == "study" else spent.exhausted()
        assert (said is not None) == over and over >= reached
        reached = over
