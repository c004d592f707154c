"""What a person sees while a sweep runs: one live table on a terminal, plain lines elsewhere."""

from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from search.history import ENDED
from search.recorder import TrialRecord
from search.spec import SweepSpec, studies
from search.wording import plural

FAILED = ("failed", "diverged", "lost")


class LiveView:
    """Shows the records of a running sweep; a context manager that leaves the last state on the screen."""

    def __init__(self, console: Console, spec: SweepSpec) -> None:
        self._console = console
        self._spec = spec
        self._planned = {study.cell: study.trials * len(spec.search.seeds) for study in studies(spec)}
        self._told: set[str] = set()
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> "LiveView":
        planned = sum(self._planned.values())
        size = f"{plural(planned, 'trial')} in {plural(len(self._planned), 'cell')}"
        self._console.print(f"{self._spec.name}: {size}; checking data and configurations, starting Ray")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Prints a sentence, above the table where there is one."""
        self._console.print(f"{self._spec.name}: {sentence}", highlight=False, markup=False, soft_wrap=True)

    def update(self, records: Mapping[str, TrialRecord]) -> None:
        """Shows the given state."""
        if self._live:
            # Not before: its thread would be in the way of the fork in which configurations are checked.
            self._live.start()
            self._live.update(self._table(records))
            return
        for identity, record in records.items():
            if record.past is not None and record.status in ENDED:
                self._told.add(identity)
            elif record.past is None and record.status != "running" and identity not in self._told:
                self._told.add(identity)
                self._console.print(self._line(record, len(self._told)), highlight=False, markup=False, soft_wrap=True)

    def _line(self, record: TrialRecord, number: int) -> str:
        best = record.result.get("best_score")
        score = "no score" if best is None else f"{self._spec.goal.metric} {best:.4f}"
        epochs = plural(record.result.get("epoch", 0), "epoch")
        head = f"[{number}/{sum(self._planned.values())}] {record.name} {record.status}: {score}, {epochs}"
        reason = str(record.result.get("error") or "").split("\n")[0]
        return f"{head}; {reason}" if reason else head

    def _table(self, records: Mapping[str, TrialRecord]) -> Table:
        table = Table("cell", title=self._spec.name)
        for heading in ("planned", "running", "finished", "pruned", "failed", f"best {self._spec.goal.metric}"):
            table.add_column(heading, justify="right")
        for cell, planned in self._planned.items():
            members = [record for record in records.values() if record.study.cell == cell]
            counts = Counter(record.status for record in members)
            failed = sum(counts[status] for status in FAILED)
            scored = [record for record in members if record.status not in FAILED]
            scores = [best for record in scored if (best := record.result.get("best_score")) is not None]
            best = (max if self._spec.goal.mode == "max" else min)(scores, default=None)
            numbers = (planned, counts["running"], counts["finished"], counts["pruned"], failed)
            table.add_row(cell, *map(str, numbers), "-" if best is None else f"{best:.4f}")
        return table
