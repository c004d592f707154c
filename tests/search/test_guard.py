"""Orders to a running sweep: who gives them, whom they concern, and that they stay."""

from search.budgets import Budget
from search.guard import Guard
from search.sections import BudgetSection


def guard(clock: float = 0.0, **limits: object) -> Guard:
    return Guard(Budget(BudgetSection(**limits), ["a", "b"], clock=lambda: clock))  # type: ignore[arg-type]


def test_without_a_budget_nothing_stands_against_any_trial() -> None:
    free = Guard()
    free.begin("a", "t")
    free.charge("a", "t", 10**9, 1e9)
    free.look_at_budget()
    assert free.against("a") is free.against("a", "t") is free.over(1e9) is free.kind is free.reason is None
    assert not free.at_once and free.refused == free.ended == {}


def test_the_first_order_counts_and_stays() -> None:
    stopped = Guard()
    stopped.stop("stop", "first")
    stopped.stop("broken", "second")
    assert (stopped.kind, stopped.reason, stopped.at_once) == ("stop", "first", False)
    assert stopped.against("a") == stopped.against("b", "t") == "first"


def test_a_later_order_can_make_haste() -> None:
    stopped = Guard()
    stopped.stop("stop", "first")
    stopped.stop("broken", "second", at_once=True)
    stopped.stop("stop", "third")
    assert (stopped.kind, stopped.reason, stopped.at_once) == ("stop", "first", True)


def test_a_budget_that_is_spent_ends_the_sweep_with_its_sentence() -> None:
    spent = guard(device_hours=1)
    spent.charge("a", "t", 1, 3599.0)
    assert spent.kind is None and spent.against("a", "t") is None
    spent.charge("b", "u", 1, 1.0)
    assert spent.kind == "budget" and spent.reason is not None
    assert spent.reason.startswith("budget.device_hours: ") and spent.against("a", "t") == spent.reason


def test_time_that_passes_without_a_result_is_seen_where_one_looks() -> None:
    now = [0.0]
    waiting = Guard(Budget(BudgetSection(wall_hours=1), ["a"], clock=lambda: now[0]))
    now[0] = 3601.0
    assert waiting.kind is None
    waiting.look_at_budget()
    assert waiting.kind == "budget" and str(waiting.reason).startswith("budget.wall_hours: ")


def test_a_cells_share_that_is_spent_closes_this_cell_alone() -> None:
    spent = guard(amount=100)
    spent.charge("a", "t", 100, 1.0)
    reason = spent.against("a", "t")
    assert reason is not None and reason.startswith("budget.amount: a ")
    assert spent.against("a") == reason and spent.refused == {"a": reason}
    assert spent.against("b") is None and spent.kind is None


def test_a_limit_of_trials_lets_those_that_began_go_on() -> None:
    spent = guard(amount=1, unit="trials")
    spent.begin("a", "t")
    assert spent.against("a", "t") is None and spent.refused == {}
    assert spent.against("a") is not None and spent.against("a", "other") is not None


def test_a_trial_that_takes_too_long_is_told_so() -> None:
    assert guard(trial_minutes=1).over(59.9) is None
    assert str(guard(trial_minutes=1).over(60.0)).startswith("budget.trial_minutes: ")
