"""Where a sweep's ranges come from: `paper` (exactly the published grids) or `extended` (ranges that contain them).

A parameter belongs to the group that its name begins with, whichever row gives its range. The published grids of some
models include the learning rate. Their rows name it, and where the group `optimizer` is tuned, that range takes the
place of the optimizer's own, whether `model` is tuned or not; where it is not tuned, the learning rate keeps its
default. All were published for Adam: with another optimizer, to which they mean nothing, its own row alone counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from spaces.errors import SpaceError
from spaces.models import MODELS
from spaces.nearest import did_you_mean
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.params import Parameter
from spaces.row import Row
from spaces.space import SearchSpace
from spaces.updates import UPDATES

Entry = TypeVar("Entry")
Group: TypeAlias = Literal["model", "objective", "update", "optimizer"]

PUBLISHED_OPTIMIZER = "adam"
"""What every grid in a model's row was published for."""

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

PRESET_SUMMARIES: dict[str, str] = {
    "paper": "exactly the published grids; each row of `recsweep show spaces` says what it holds",
    "extended": "ranges that contain them, on logarithmic scales where a hyperparameter spans orders of magnitude",
}
"""One line a preset, for `recsweep show presets`."""


def preset_space(
    preset: str, *, model: str, objective: str, update: str, optimizer: str, tune: Sequence[Group]
) -> SearchSpace:
    """Return the preset's space of one cell, over the groups in `tune` only; the others keep their defaults.

    Raises:
        SpaceError: the preset or one of the four names is unknown.
    """
    names: Mapping[Group, str] = {"model": model, "objective": objective, "update": update, "optimizer": optimizer}
    space_of = _known("preset", preset, PRESETS)
    spaces = {group: space_of(_known(group, names[group], registry)) for group, registry in REGISTRIES.items()}
    parameters: dict[str, Parameter] = {}
    for group in REGISTRIES:
        if group in tune:
            parameters |= _of_group(spaces[group], group)
    if "optimizer" in tune and optimizer == PUBLISHED_OPTIMIZER:
        parameters |= _of_group(spaces["model"], "optimizer")
    return SearchSpace(parameters)


def find_row(group: Group, name: str) -> Row:
    """Return the row of that name.

    Raises:
        SpaceError: there is none.
    """
    return _known(group, name, REGISTRIES[group])


def _of_group(space: SearchSpace, group: Group) -> dict[str, Parameter]:
    return {key: parameter for key, parameter in space.parameters.items() if key.startswith(f"{group}.")}


def _known(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    if name not in registry:
        raise SpaceError(f"{kind} must be one of {', '.join(registry)}, but got {name!r}{did_you_mean(name, registry)}")
    return registry[name]
