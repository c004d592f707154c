"""Runs one command line in a process that was forked for it; `runpy.run_path` is given what it needs as globals."""

import atexit
import importlib.util
import os
import sys
from pathlib import Path


def main(arguments: list[str], folder: Path, place: Path, variables: dict[str, str]) -> None:
    """Becomes a session of its own in the folder, with its output in files, and ends as the command does."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(variables)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    spec = importlib.util.spec_from_file_location("sitecustomize", folder / "site/sitecustomize.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    from search.cli import run
    from search.commands import supervised

    supervised.apart = True

    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    code = run(arguments)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if "arguments" in globals():
    main(arguments, folder, place, variables)  # type: ignore[name-defined]
