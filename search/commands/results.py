"""Commands that read the store: query, best, report, compare, convergence."""

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.table import Table

from search.commands.options import StoreOption, SweepArgument, console, open_store
from search.errors import QueryError, SearchError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from search.comparison import Cost
    from search.report.frames import SweepFrames

REPORTS = "reports"
"""The folder in which reports lie, one folder per sweep, where the command names none."""

FORMATS = ("table", "csv", "json", "jsonl", "markdown", "parquet")


def query(
    sql: Annotated[str | None, typer.Argument(help="One SELECT, the name of a query (--list), or - for stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the SELECT from a file.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Bind $NAME in the SELECT.", metavar="NAME=VALUE")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="List views and columns, with units.")] = False,
    form: Annotated[str | None, typer.Option("--format", help=", ".join(FORMATS))] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file.")] = None,
    timeout: Annotated[float, typer.Option(help="Most seconds for the SQL.")] = 60.0,
    memory: Annotated[str, typer.Option(help="Most memory for the SQL.", metavar="SIZE")] = "2GB",
    store: StoreOption = None,
) -> int:
    """Ask the store in SQL: a table on a terminal, CSV in a pipe."""
    import pyarrow as pa

    from search import query as engine
    from search.schema import describe

    if schema:
        return _write(describe(), form, output)
    if listing:
        queries = engine.named_queries().values()
        rows = [{"name": each.name, "description": each.description} for each in queries]
        return _write(pa.Table.from_pylist(rows), form, output)
    results = open_store(store)
    text, params = _statement(sql, file), engine.parse_parameters(param or ())
    sweep = None
    if named := engine.named_query(text):
        asked = params.get("sweep")
        sweep = results.resolve(None if asked is None else str(asked))
        text, params = named.sql, {**params, "sweep": sweep}
    found = engine.run_query(results, text, params, sweep=sweep, timeout_s=timeout, memory_limit=memory)
    return _write(found, form, output)


def _statement(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise QueryError("query takes one SELECT: as an argument, in a file (-f), or from stdin (-)")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise QueryError(f"{file} must be a readable text file, but: {error}") from None
    if sql != "-":
        return str(sql)
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise QueryError(f"stdin must be UTF-8 text, but: {error}") from None


def _write(table: "pa.Table", form: str | None, output: Path | None) -> int:
    from search.query_output import write_result

    chosen = form or ("table" if output is None and sys.stdout.isatty() else "csv")
    if chosen not in FORMATS:
        raise QueryError(f"--format must be one of {', '.join(FORMATS)}, but got {chosen!r}")
    if output is None:
        write_result(table, chosen, sys.stdout.buffer)
        return 0
    whole = io.BytesIO()  # what the place holds stays where the format lacks a type of the result
    write_result(table, chosen, whole)
    try:
        output.write_bytes(whole.getbuffer())
    except OSError as error:
        raise QueryError(f"--output {output} must be writable, but: {error.strerror}") from None
    return 0


def best(
    sweep: SweepArgument = None,
    form: Annotated[str, typer.Option("--format", help="table, yaml or json")] = "table",
    store: StoreOption = None,
) -> int:
    """Show the best configuration of every cell, chosen on the validation split."""
    from search.report.best import best_configurations
    from search.report.frames import read_frames

    if form not in _BEST_FORMATS:
        raise SearchError(f"--format must be table, yaml or json, but got {form!r}")
    results = open_store(store)
    frames = read_frames(results, results.resolve(sweep))
    found = best_configurations(frames)
    _BEST_FORMATS[form](frames, found[found["trial"].notna()])
    return 0


def _best_table(frames: "SweepFrames", found: "pd.DataFrame") -> None:
    from search.report.best import describe_values, tuned_values

    table = Table("cell", "trial", f"validation {frames.metric}", "seeds", "configuration", "chosen from")
    for _, row in found.iterrows():
        values = describe_values(tuned_values(frames, row["trial"]))
        table.add_row(
            row["cell"], row["trial"], f"{row['score']:.4f}", str(len(row["seeds"])), values, str(row["candidates"])
        )
    console().print(table)


def _best_json(frames: "SweepFrames", found: "pd.DataFrame") -> None:
    rows = [
        {
            "cell": row["cell"],
            "trial": row["trial"],
            "metric": frames.metric,
            "score": row["score"],
            "seeds": list(row["seeds"]),
            "candidates": int(row["candidates"]),
            "config": json.loads(row["config_json"]),
        }
        for _, row in found.iterrows()
    ]
    print(json.dumps(rows, indent=2))


def _best_yaml(frames: "SweepFrames", found: "pd.DataFrame") -> None:
    """One document a cell; each is a sweep of its own that runs the best configuration again."""
    from search.report.best import best_sweep

    documents = [best_sweep(frames, row) for _, row in found.iterrows()]
    print(yaml.safe_dump_all(documents, sort_keys=False), end="")


_BEST_FORMATS = {"table": _best_table, "json": _best_json, "yaml": _best_yaml}


def report(
    sweep: SweepArgument = None,
    index: Annotated[bool, typer.Option("--index", help="Write a page over all sweeps of the store instead.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder. Default: reports/SWEEP; of the index: reports.")
    ] = None,
    store: StoreOption = None,
) -> int:
    """Write the sweep's HTML report, best.yaml and report.md; or with --index a page that leads to all reports."""
    from search.report import write_index, write_report

    if index and sweep is not None:
        raise SearchError(f"report takes a sweep or --index, but got both {sweep!r} and --index")
    results = open_store(store)
    if index:
        print(f"Index of the sweeps: {write_index(results, output or Path(REPORTS))}")
        return 0
    name = results.resolve(sweep)
    page = write_report(results, name, output or Path(REPORTS) / name)
    print(f"Report of {name}: {page}")
    return 0


def compare(
    sweeps: Annotated[list[str] | None, typer.Argument(help="Sweeps in the store; default: the latest one.")] = None,
    arms: Annotated[list[str] | None, typer.Option("--arms", help="Arms to compare; default: all.")] = None,
    cost: Annotated[str, typer.Option(help="Budgets in gradient_evaluations, device_seconds or trials.")] = (
        "gradient_evaluations"
    ),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder. Default: reports/SWEEP.")] = None,
    store: StoreOption = None,
) -> int:
    """Compare the tuning cost of training strategies at equal budget, with what can and cannot be told apart."""
    from search.comparison import compare as make_comparison
    from search.report import write_comparison
    from search.report.terminal import print_comparison

    results = open_store(store)
    names = [results.resolve(name) for name in sweeps] if sweeps else [results.resolve(None)]
    comparison = make_comparison(results, names, arms or (), cost=_cost(cost))
    print_comparison(comparison, console())
    page = write_comparison(comparison, output or Path(REPORTS) / "-".join(names))
    print(f"Comparison: {page}, every number as CSV in {page.parent / 'comparison'}")
    return 0


def _cost(name: str) -> "Cost":
    from search.comparison import COST_UNITS

    known: dict[str, Cost] = {cost: cost for cost in COST_UNITS}
    if name not in known:
        raise SearchError(f"--cost must be one of {', '.join(known)}, but got {name!r}")
    return known[name]


def convergence(
    sweeps: Annotated[list[str] | None, typer.Argument(help="Sweeps in the store; default: the latest one.")] = None,
    arms: Annotated[list[str] | None, typer.Option("--arms", help="Arms to draw; default: all.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder. Default: reports/SWEEP.")] = None,
    store: StoreOption = None,
) -> int:
    """Draw the best score so far of each arm against epochs, gradient evaluations and seconds of training."""
    from search.convergence_curves import convergence as make_convergence
    from search.report import write_convergence
    from search.report.terminal import print_convergence

    results = open_store(store)
    names = [results.resolve(name) for name in sweeps] if sweeps else [results.resolve(None)]
    found = make_convergence(results, names, arms or ())
    print_convergence(found, console())
    page = write_convergence(found, output or Path(REPORTS) / "-".join(names))
    print(f"Convergence: {page}")
    return 0
