"""What a sweep has spent against what it may spend: arithmetic on what the driver hears of its trials."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.sections import BudgetSection
from search.wording import plural

_UNITS = {"gradient_evaluations": "gradient evaluations", "device_seconds": "device-seconds", "trials": "trials"}


@dataclass(frozen=True)
class Spent:
    """A cost: trials that began, forward-backward passes, and shares of a device x seconds."""

    trials: int = 0
    gradient_evaluations: int = 0
    device_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.trials + other.trials,
            self.gradient_evaluations + other.gradient_evaluations,
            self.device_seconds + other.device_seconds,
        )


class Budget:
    """Adds up what trials cost and says, in a sentence, which limit is reached; spent = limit is reached.

    A trial's costs are cumulative and go on from its checkpoint: after a restart, in this driver or in a later one,
    they may go back, and the highest values count.
    """

    def __init__(
        self, section: BudgetSection, cells: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts with nothing spent; `clock` counts seconds, and wall time counts from here."""
        self._limits = section
        self._clock = clock
        self._started = clock()
        self._total = Spent()
        self._cells = dict.fromkeys(cells, Spent())
        self._trials: dict[tuple[str, str], tuple[int, float]] = {}

    def restore(self, cell: str, trial: str, gradient_evaluations: int, device_seconds: float) -> None:
        """Takes in what a trial cost under earlier drivers; its wall time does not count."""
        self.charge(cell, trial, gradient_evaluations, device_seconds)

    def begin(self, cell: str, trial: str) -> None:
        """Counts a trial, once however often it starts."""
        if (cell, trial) not in self._trials:
            self._trials[cell, trial] = (0, 0.0)
            self._add(cell, Spent(trials=1))

    def charge(self, cell: str, trial: str, gradient_evaluations: int, device_seconds: float) -> None:
        """Takes in what the trial has cost since its very first start."""
        self.begin(cell, trial)
        passes, seconds = self._trials[cell, trial]
        highest = max(passes, gradient_evaluations), max(seconds, device_seconds)
        self._trials[cell, trial] = highest
        self._add(cell, Spent(0, highest[0] - passes, highest[1] - seconds))

    def _add(self, cell: str, cost: Spent) -> None:
        self._cells[cell] += cost
        self._total += cost

    def exhausted(self) -> str | None:
        """Why the whole sweep must end: no trial begins, running ones stop at their next checkpoint. None: it need not.

        A limit of trials for the whole sweep is not among these, as trials that began go on: see `exhausted_cell`.
        """
        hours, wall = self._total.device_seconds / 3600, (self._clock() - self._started) / 3600
        if (limit := self._limits.device_hours) is not None and hours >= limit:
            return f"budget.device_hours: {_number(hours)} device-hours are spent, and {_limit(limit)} is the limit"
        if (limit := self._limits.wall_hours) is not None and wall >= limit:
            return f"budget.wall_hours: the sweep has run for {_number(wall)} h, and {_limit(limit)} is the limit"
        if self._limits.per == "sweep" and self._limits.unit != "trials":
            return self._over(self._total, "the sweep")
        return None

    def exhausted_cell(self, cell: str, trial: str | None = None) -> str | None:
        """Why no trial of the cell may begin, or with `trial` why this one may not go on; None where it may.

        A limit of trials ends none that began. What ends the whole sweep is left to `exhausted`.
        """
        by_trials = self._limits.unit == "trials"
        if by_trials and (cell, trial) in self._trials:
            return None
        if self._limits.per == "study":
            return self._over(self._cells[cell], cell)
        return self._over(self._total, "the sweep") if by_trials else None

    def _over(self, spent: Spent, whose: str) -> str | None:
        limit, unit = self._limits.amount, self._limits.unit
        amount: float = getattr(spent, unit)
        if limit is None or amount < limit:
            return None
        return f"budget.amount: {whose} has spent {_number(amount)} {_UNITS[unit]}, and {_limit(limit)} is the limit"

    def trial_over(self, seconds: float) -> str | None:
        """Why a trial that has taken so long must end with what it has reached; None where it may go on."""
        limit = self._limits.trial_minutes
        if limit is None or seconds < 60 * limit:
            return None
        return (
            f"budget.trial_minutes: the trial has taken {_number(seconds / 60)} min, and {_limit(limit)} is the limit"
        )

    def spent(self, cell: str | None = None) -> Spent:
        """What a cell has spent, or for None the whole sweep, with what earlier drivers spent."""
        return self._total if cell is None else self._cells[cell]

    def report(self) -> str:
        """One sentence of what was spent, each amount with its limit where it has one."""
        limits, spent = self._limits, self._total
        hours = f"{_number(spent.device_seconds / 3600)} device-hours{_of(limits.device_hours)}"
        passes = f"{spent.gradient_evaluations:,} gradient evaluations{self._of_amount('gradient_evaluations')}"
        trials = f"{plural(spent.trials, 'trial')}{self._of_amount('trials')}"
        wall = f"{_number((self._clock() - self._started) / 3600)} h{_of(limits.wall_hours)}"
        if limits.unit == "device_seconds":
            seconds = f"{_number(spent.device_seconds)} device-seconds{self._of_amount('device_seconds')}"
            hours = f"{hours} ({seconds})"
        return f"Spent: {hours}, {passes} in {trials}, {wall}"

    def _of_amount(self, unit: str) -> str:
        if self._limits.unit != unit:
            return ""
        return _of(self._limits.amount, " a study" if self._limits.per == "study" else "")


def _of(limit: float | None, whose: str = "") -> str:
    return "" if limit is None else f" of {_limit(limit)}{whose}"


def _limit(limit: float) -> str:
    return f"{limit:,.12g}"


def _number(amount: float) -> str:
    """Two decimals, two digits of what is less than 1, and none of a whole number."""
    if amount == int(amount):
        return f"{amount:,.0f}"
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"
