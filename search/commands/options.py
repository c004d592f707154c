"""Options that several commands share."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from rich.console import Console

if TYPE_CHECKING:
    from search.store import Store

DEFAULT_STORE = "recsweep-store"

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help=f"The result store. Default: $RECSWEEP_STORE, else ./{DEFAULT_STORE}.", metavar="DIR"),
]
AddressOption = Annotated[str | None, typer.Option("--address", help="Join the Ray cluster at this address.")]
InsecureOption = Annotated[
    bool, typer.Option("--insecure-cluster", help="Use a cluster on a network even where it lets anyone in.")
]
SubmitOption = Annotated[
    str | None,
    typer.Option("--submit", help="The sweep runs as a job of the cluster with this Jobs API address.", metavar="URL"),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show Ray's own output.")]
SweepArgument = Annotated[str | None, typer.Argument(help="Name of a sweep in the store; default: the latest one.")]


class Joining(TypedDict):
    """How a command reaches its cluster, as the functions of the package take it."""

    address: str | None
    insecure: bool
    verbose: bool


def open_store(given: str | None, *, from_spec: str | None = None, create: bool = False) -> "Store":
    """The store of a command: `--store`, else the sweep file's, else $RECSWEEP_STORE, else ./recsweep-store.

    Raises:
        StoreError: it is missing, or cannot be written where it must be.
    """
    # Not before a command needs it: with PyArrow comes pandas, most of what starting the program takes.
    from search.store import Store

    return Store(store_place(given, from_spec=from_spec), create=create)


def store_place(given: str | None, *, from_spec: str | None = None) -> str:
    """Where a command's store is, as `open_store` finds it."""
    return given or from_spec or os.environ.get("RECSWEEP_STORE") or DEFAULT_STORE


def console() -> Console:
    """A console as wide as the terminal, or wide enough for tables where the output is a pipe or a file."""
    return Console() if sys.stdout.isatty() else Console(width=160)
