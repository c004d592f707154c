"""A section of the sweep's report as data: what it says, draws and tabulates, for the page and for report.md alike."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search.report.chart import Chart, Panels
from search.report.tables import Table


@dataclass(frozen=True)
class Section:
    """One section; all text is plain.

    Attributes:
        identity: the heading's id, unique in the page.
        sentences: what a reader must know, one paragraph each.
        findings: what the numbers say, as a list; may be empty.
        commands: what a command tells beyond the section, and the command.
        panels: the figures; every number in them stands in one of `tables` too.
    """

    identity: str
    heading: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    panels: Sequence[Panels] = ()
    findings: Sequence[str] = ()
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def charts(self) -> list[Chart]:
        """The charts of all figures."""
        return [chart for each in self.panels for chart in each.charts]


def query(view: str, sweep: str) -> str:
    """Return the command that lists a sweep's rows of a view of the store."""
    name = sweep.replace("'", "''")
    statement = f"select * from {view} where sweep = '{name}'"
    # In double quotes a shell takes everything but these four as it stands, and so it is easier to read.
    plain = not set('"$`\\') & set(statement)
    return f'recsweep query "{statement}"' if plain else f"recsweep query {shlex.quote(statement)}"
