"""What a sweep's trials tell beside the best one, as sections: slices, importances, costs, timeline."""

import pandas as pd

from search.report.frames import SweepFrames
from search.report.importance_section import importance_section
from search.report.pareto_section import pareto_section
from search.report.searched import searched
from search.report.section import Section
from search.report.slices_section import slices_section
from search.report.timeline_section import timeline_section


def exploration_sections(frames: SweepFrames, best: pd.DataFrame) -> list[Section]:
    """Return the sections that have something to show, in the page's order.

    Args:
        best: what `best_configurations` returned for the sweep.
    """
    spaces = searched(frames)
    found = (
        slices_section(frames, best, spaces),
        importance_section(frames, spaces),
        pareto_section(frames),
        timeline_section(frames),
    )
    return [section for section in found if section is not None]
