"""The command `show`: what can be swept, from the registries of spaces, and manifests of clusters to sweep it on."""

from typing import Annotated

import typer
from rich.table import Column, Table

from search.cluster.manifests import MANIFESTS, manifest
from search.commands.options import console
from search.errors import SearchError
from search.spec import builtin_sweeps
from spaces.models import MODELS
from spaces.nearest import did_you_mean
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.presets import PRESET_SUMMARIES, PRESETS
from spaces.row import Row
from spaces.settings import SETTINGS
from spaces.updates import UPDATES

REGISTRIES: dict[str, dict[str, Row]] = {
    "models": MODELS,
    "objectives": OBJECTIVES,
    "updates": UPDATES,
    "optimizers": OPTIMIZERS,
}
TOPICS = (*REGISTRIES, "spaces", "presets", "sweeps")


def show(topic: Annotated[str, typer.Argument(help=", ".join((*TOPICS, *MANIFESTS)))]) -> int:
    """Show what can be swept, with defaults, ranges and sources, or a file that starts a cluster to sweep it on."""
    screen = console()
    if topic in REGISTRIES:
        screen.print(_entries(topic, REGISTRIES[topic]))
    elif topic == "spaces":
        for name, registry in REGISTRIES.items():
            screen.print(_ranges(name, registry))
    elif topic == "presets":
        screen.print(_presets())
        screen.print(_settings())
    elif topic == "sweeps":
        for name in builtin_sweeps():
            screen.print(name)
    elif topic in MANIFESTS:
        # Not through the screen, which would wrap long lines.
        typer.echo(manifest(topic), nl=False)
    else:
        known = (*TOPICS, *MANIFESTS)
        raise SearchError(
            f"show must be given one of {', '.join(known)}, but got {topic!r}{did_you_mean(topic, known)}"
        )
    return 0


def _entries(topic: str, registry: dict[str, Row]) -> Table:
    table = Table("name", "what it is", "defaults", "source", title=topic)
    for name, row in registry.items():
        defaults = "\n".join(f"{key}={value}" for key, value in row.defaults.items()) or "-"
        table.add_row(name, row.summary, defaults, row.source)
    return table


def _presets() -> Table:
    table = Table("name", "what it is", title="presets: ranges, as `space.preset`")
    for name in PRESETS:
        table.add_row(name, PRESET_SUMMARIES[name])
    return table


def _settings() -> Table:
    columns = (Column("values", no_wrap=True), Column("source", overflow="fold"))
    table = Table("name", "for", "what it is", *columns, title="settings: fixed values, as `space.settings`")
    for name, settings in SETTINGS.items():
        values = "\n".join(f"{key}={value}" for key, value in settings.values.items())
        table.add_row(name, "\n".join(settings.entries), settings.summary, values, settings.source)
    return table


def _ranges(topic: str, registry: dict[str, Row]) -> Table:
    table = Table("parameter", "of", "paper", "extended", title=topic)
    for name, row in registry.items():
        for key in {**row.paper.parameters, **row.extended.parameters}:
            known = [space.parameters.get(key) for space in (row.paper, row.extended)]
            cells = ["-" if parameter is None else parameter.describe() for parameter in known]
            table.add_row(key, name, *cells)
    return table
