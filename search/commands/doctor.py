"""The command `doctor`: checks a machine or a cluster, and says how to mend what is wrong."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from search.commands.options import DEFAULT_STORE, StoreOption, console

if TYPE_CHECKING:
    from search.doctor import Check

COLOURS = {"ok": "green", "warning": "yellow", "bad": "bold red"}


def doctor(
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster (host:port or auto); default: this machine alone.")
    ] = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure-cluster", help="Join a cluster on a network that lets in anyone.")
    ] = False,
) -> int:
    """Check versions, authentication, storage, disk, GPU, threads and clocks, here and on every node of a cluster."""
    from search.doctor import examine

    root = store or os.environ.get("RECSWEEP_STORE") or (DEFAULT_STORE if Path(DEFAULT_STORE).is_dir() else None)
    found = examine(address, root, insecure=insecure)
    well = all(check.state != "bad" for check in found)
    if as_json:
        print(json.dumps({"ok": well, "checks": [_as_data(check) for check in found]}, indent=2))
    else:
        console().print(_as_table(found))
    return 0 if well else 2


def _as_data(check: "Check") -> dict[str, object]:
    own = {"name": check.name, "state": check.state, "text": check.text, "remedy": check.remedy}
    return own | {"findings": [asdict(finding) for finding in check.findings]}


def _as_table(found: Sequence["Check"]) -> Table:
    table = Table("check", "state", "what was found", "how to mend it")
    for check in found:
        state = f"[{COLOURS[check.state]}]{check.state}[/]"
        table.add_row(check.name, state, escape(check.text), escape(check.remedy))
    return table
