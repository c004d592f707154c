"""The sections of a sweep's report that are there only where the store has what they show."""

from search.convergence_curves import converge
from search.report.convergence_page import convergence_section
from search.report.frames import SweepFrames
from search.report.generalisation_section import generalisation_section
from search.report.landscape_section import landscape_section
from search.report.robustness_section import robustness_section
from search.report.section import Section


def convergence_sections(frames: SweepFrames) -> list[Section]:
    """Return the section on convergence, or none while no trial has finished with its curve."""
    found = converge((frames.name,), frames.trials, frames.curves)
    return [convergence_section(found)] if len(found.runs) else []


def protocol_sections(frames: SweepFrames) -> list[Section]:
    """Return the sections of the protocols that were run on the sweep's best configurations, in the paper's order."""
    found = (robustness_section(frames), generalisation_section(frames), landscape_section(frames))
    return [section for section in found if section is not None]
