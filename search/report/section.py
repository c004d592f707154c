"""A section of the sweep's report as data: what it says, draws and tabulates, for the page and for report.md alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.report.chart import Chart, Panels
from search.report.tables import Table


@dataclass(frozen=True)
class Section:
    """One section; all text is plain.

    Attributes:
        identity: the heading's id, unique in the page.
        sentences: what a reader must know, one paragraph each.
        findings: what the numbers say, as a list; may be empty.
        panels: the figures; every number in them stands in one of `tables` too.
    """

    identity: str
    heading: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    panels: Sequence[Panels] = ()
    findings: Sequence[str] = ()

    @property
    def charts(self) -> list[Chart]:
        """The charts of all figures."""
        return [chart for each in self.panels for chart in each.charts]
