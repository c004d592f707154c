"""Where a sweep's ranges come from: `paper` (exactly the published grids) or `extended` (ranges that contain them)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from spaces.errors import SpaceError
from spaces.models import MODELS
from spaces.nearest import did_you_mean
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.row import Row
from spaces.space import SearchSpace
from spaces.updates import UPDATES

Entry = TypeVar("Entry")
Group: TypeAlias = Literal["model", "objective", "update", "optimizer"]

# In the order in which a cell's name and its parameters are written.
REGISTRIES: dict[Group, dict[str, Row]] = {
    "model": MODELS,
    "objective": OBJECTIVES,
    "update": UPDATES,
    "optimizer": OPTIMIZERS,
}

PRESETS: dict[str, Callable[[Row], SearchSpace]] = {
    "paper": lambda row: row.paper,
    "extended": lambda row: row.extended,
}


def preset_space(
    preset: str, *, model: str, objective: str, update: str, optimizer: str, tune: Sequence[Group]
) -> SearchSpace:
    """Return the preset's space of one cell, over the groups in `tune` only; the others keep their defaults.

    Raises:
        SpaceError: the preset or one of the four names is unknown.
    """
    names: Mapping[Group, str] = {"model": model, "objective": objective, "update": update, "optimizer": optimizer}
    space_of = _known("preset", preset, PRESETS)
    space = SearchSpace()
    for group, registry in REGISTRIES.items():
        row = _known(group, names[group], registry)
        if group in tune:
            space = space.union(space_of(row))
    return space


def find_row(group: Group, name: str) -> Row:
    """Return the row of that name.

    Raises:
        SpaceError: there is none.
    """
    return _known(group, name, REGISTRIES[group])


def _known(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    if name not in registry:
        raise SpaceError(f"{kind} must be one of {', '.join(registry)}, but got {name!r}{did_you_mean(name, registry)}")
    return registry[name]
