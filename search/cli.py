"""The entry point `recsweep`: gathers the commands, and turns a mistake into one sentence and an exit code."""

import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Annotated, TextIO

import typer
from typer.exceptions import TyperException

from search.commands import data, doctor, export, protocols, results, running, show, supervised, sweeps
from search.errors import DamagedPart, SearchError
from spaces.errors import SpaceError
from trainables.errors import TrainableError

WRONG_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    name="recsweep",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recsweep {version('recsweep')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hyperparameter sweeps of multimodal recommenders: launch them, query the results, see what tuning costs."""


for command in (
    sweeps.launch,
    sweeps.resume,
    sweeps.plan,
    sweeps.status,
    running.stop,
    running.logs,
    results.query,
    results.best,
    results.report,
    results.compare,
    results.convergence,
    protocols.robustness,
    protocols.generalise,
    protocols.landscape,
    protocols.confirm,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(export.app, name="export")
app.command()(show.show)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits: 0 done, 2 wrong input, 3 some trials failed, 4 stopped by budget, 5 broken off by
    its surroundings, 130 interrupted."""
    supervised.apart = True
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit code; a mistake is one sentence on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DamagedPart)
        warnings.showwarning = partial(_warn, set())
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(args=list(arguments), prog_name="recsweep", standalone_mode=False)
    except (SearchError, SpaceError, TrainableError) as error:
        return _complain(" ".join(str(error).split("\n")))
    except TyperException as error:
        # An unknown command or option; typer has a text ready for most.
        return _complain(_usage(error))
    except (BrokenPipeError, SystemExit) as end:
        # The reader of a pipe (`| head`) has seen enough. Typer makes that an exit with code 1.
        if isinstance(end, SystemExit) and not isinstance(end.__context__, BrokenPipeError):
            raise
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A place that the user named for a report or a data set; stores and inputs have sentences of their own.
        if error.filename is None:
            raise
        return _complain(f"{error.filename} cannot be used: the system says {error.strerror!r}")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _usage(error: TyperException) -> str:
    """Typer's text for a person, and where to look; one without a text means that nothing was given but had to be."""
    message = getattr(error, "format_message", lambda: str(error))() or "a command is missing"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "recsweep"
    text = message if message.endswith("?") else f"{message.rstrip('.')};"
    return f"{text} {path} --help says what there is"


_showwarning = warnings.showwarning


def _warn(
    said: set[str],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Ours are sentences for people, each said once; those of libraries stay as they are."""
    if not issubclass(category, DamagedPart):
        _showwarning(message, category, filename, lineno, file, line)
    elif str(message) not in said:
        said.add(str(message))
        print(f"recsweep: {message}", file=sys.stderr)


def _complain(sentence: str) -> int:
    print(f"recsweep: {sentence}", file=sys.stderr)
    return WRONG_INPUT


if __name__ == "__main__":
    main()
