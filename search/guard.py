"""Whether a running sweep goes on: what searcher, scheduler and recorder ask, and what budgets and people decide."""

from search.budgets import Budget


class Guard:
    """Orders to stop, and the budget that gives them. Once given they stay; of two the first one counts.

    Attributes:
        kind: why the whole sweep ends, a kind of event: "stop", "budget", "broken" or "interrupt"; None while it goes
            on.
        reason: the same as a sentence.
        refused: cells that have spent what they may, with the sentence that says so.
        ended: how trials that were ended by order are to be recorded, by name: status and reason.
        at_once: whether running trials end now and not at their next checkpoint.
        budget: what was spent and may be; None for no limits.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.kind: str | None = None
        self.reason: str | None = None
        self.refused: dict[str, str] = {}
        self.ended: dict[str, tuple[str, str]] = {}
        self.at_once = False
        self.budget = budget

    def stop(self, kind: str, reason: str, *, at_once: bool = False) -> None:
        """Ends the sweep: no trial begins any more, and those that run end at their next checkpoint, or at once."""
        if self.kind is None:
            self.kind, self.reason = kind, reason
        self.at_once = self.at_once or at_once

    def begin(self, cell: str, trial: str) -> None:
        """Takes note of a trial that is handed out."""
        if self.budget is not None:
            self.budget.begin(cell, trial)

    def charge(self, cell: str, trial: str, gradient_evaluations: int, device_seconds: float) -> None:
        """Takes note of what a trial has cost so far; that may end the sweep."""
        if self.budget is not None:
            self.budget.charge(cell, trial, gradient_evaluations, device_seconds)
            self.look_at_budget()

    def look_at_budget(self) -> None:
        """Ends the sweep where its budget is spent."""
        if self.budget is not None and (reason := self.budget.exhausted()) is not None:
            self.stop("budget", reason)

    def against(self, cell: str, trial: str | None = None) -> str | None:
        """Why no trial of the cell may begin, or with `trial` why this one may not go on; None where it may."""
        if self.reason is not None or self.budget is None:
            return self.reason
        if (reason := self.budget.exhausted_cell(cell, trial)) is not None:
            self.refused[cell] = reason
        return reason

    def over(self, seconds: float) -> str | None:
        """Why a trial that took so many seconds ends with what it has; None where it goes on."""
        return None if self.budget is None else self.budget.trial_over(seconds)
