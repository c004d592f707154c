"""What a sweep searched: the range of each parameter of each cell, as far as this version of recsweep can read it."""

from collections.abc import Mapping

from search.errors import SpecError
from search.report.frames import SweepFrames
from search.spec import parse, studies
from spaces.params import Parameter

Spaces = Mapping[str, Mapping[str, Parameter]]


def searched(frames: SweepFrames) -> dict[str, dict[str, Parameter]]:
    """Return the parameters with more than one value by cell, from the stored specification.

    Empty where another version of recsweep wrote a specification that this one does not take.
    """
    try:
        cells = studies(parse(frames.spec, f"sweep {frames.name}"))
    except SpecError:
        return {}
    return {cell.cell: {name: cell.space.parameters[name] for name in cell.space.tuned()} for cell in cells}
