"""SQL over the result store, locked down: one SELECT that sees the store's views and nothing else.

Two walls, either of which keeps the machine's files out. DuckDB parses the statement, and its tree may hold only
queries, our views and functions that make rows from nothing; its type says too little: `WITH x AS (COPY ... TO ...)
SELECT` has the type SELECT. And it runs in an in-memory database without file access, extensions or Python variables,
whose settings are locked and which holds no more than the views that the statement names.
"""

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa

from search.errors import QueryError
from search.parts import Snapshot
from search.query_views import Clock, raised, scanned
from search.schema import VIEWS, nearest
from search.store import Store

# What a query's tree may be made of. COPY, INSERT, UPDATE and DELETE inside WITH are nodes of other names.
_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_ROW_FUNCTIONS = {"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"}
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class NamedQuery:
    """A query that ships with recsweep; its parameter is `$sweep`."""

    name: str
    description: str
    sql: str


def named_queries() -> Mapping[str, NamedQuery]:
    """The queries under `search/queries` by name; a file's first line, a comment, is its description."""
    files = sorted(resources.files("search").joinpath("queries").iterdir(), key=lambda each: each.name)
    texts = {each.name: each.read_text(encoding="utf-8") for each in files if each.name.endswith(".sql")}
    return {
        (name := file.removesuffix(".sql")): NamedQuery(name, sql.splitlines()[0].removeprefix("--").strip(), sql)
        for file, sql in texts.items()
    }


def named_query(text: str) -> NamedQuery | None:
    """The query of that name; None for a text of more than one word, which is SQL.

    Raises:
        QueryError: there is no query of that name.
    """
    name, known = text.strip(), named_queries()
    if name not in known and re.fullmatch(r"[\w-]+", name):
        raise QueryError(f"there is no named query `{name}`{nearest(name, known)}")
    return known.get(name)


def parse_parameters(pairs: Sequence[str]) -> dict[str, object]:
    """The values of `--param name=value`: a number where it reads as one, the text itself where it does not.

    A value in double quotes stays text: `name="2024"`.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise QueryError(f"a parameter must be written name=value, but got {pair!r}")
        if name in values:
            raise QueryError(f"the parameter `{name}` is given twice")
        values[name] = _value(text)
    return values


def _value(text: str) -> object:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return float(text) if set(text) & set(".eE") else int(text)
    return text


def run_query(
    store: Store,
    sql: str,
    params: Mapping[str, object] | None = None,
    *,
    sweep: str | None = None,
    timeout_s: float = 60.0,
    memory_limit: str = "2GB",
) -> pa.Table:
    """The whole result of one SELECT over the store's views; QueryError in one sentence when it is refused or fails.

    `params` are bound to `$name` as they are. With `sweep` the views have the rows of that one alone, which is quicker.
    Sums of integers come as int64. Of a view that the statement names, only the columns are read that it needs and,
    where it says so plainly, the row groups. The time limit is on the SQL, not on reading the store; the memory limit
    holds for the engine's work and, apart from it, for the result.
    """
    with _reported(), _engine(memory_limit) as engine:
        statement = _one_select(engine, sql)
        _check_parameters(statement.named_parameters, params or {})
        views = _views(engine, sql)
        engine.execute("SET lock_configuration = true")

        def answer(snapshot: Snapshot) -> pa.Table:
            clock = Clock()
            for view in views:
                engine.register(view, scanned(snapshot, view, sweep, clock))
            with _interrupted_after(engine, timeout_s, clock), raised(snapshot):
                return _result(engine, engine.sql(sql, params=dict(params or {})))

        return store.read(answer)


@contextmanager
def _engine(memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A fresh in-memory DuckDB that reaches no file, no extension, no network, no disk and no Python variable."""
    settings: dict[str, Any] = {
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "temp_directory": "",
        "memory_limit": memory_limit,
        "threads": str(min(4, os.cpu_count() or 1)),
    }
    with duckdb.connect(":memory:", config=settings) as engine:
        engine.execute("SET TimeZone = 'UTC'")
        yield engine


def _one_select(engine: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    sql.encode()  # a shell's argument may hold bytes that are no text, which DuckDB would not name
    statements = engine.extract_statements(sql)
    kinds = [_kind(each) for each in statements]
    if kinds == ["MULTI"]:
        raise QueryError("a query must be one SELECT statement: PIVOT needs its columns listed, as in ON name IN (...)")
    if kinds != ["SELECT"]:
        raise QueryError(f"a query must be one SELECT statement, but got {', '.join(kinds) or 'none'}")
    return statements[0]


def _kind(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name).replace("_", " ")
    except ValueError:
        return "one that only DuckDB itself knows"  # UPDATE EXTENSIONS, of which its Python package has no name


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree, without recursion, which deep expressions would exhaust."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _views(engine: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The store's views that the statement names; QueryError for anything else that it would read or do."""
    (text,) = engine.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0]
    nodes = list(_nodes(json.loads(text)))
    own = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    views = set()
    for node in nodes:
        kind = str(node.get("type", ""))
        if node.get("error") is True:
            raise QueryError(f"a query must be one SELECT statement: {node['error_message']}")
        if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise QueryError(f"a query only reads, but this one holds {kind.partition('_')[0]} inside WITH")
        if kind == "SHOW_REF" and not node.get("query"):
            raise QueryError("SHOW is no query of the store: `recsweep query --schema` lists its views and columns")
        if kind == "TABLE_FUNCTION" and (name := node["function"].get("function_name", "")) not in _ROW_FUNCTIONS:
            raise QueryError(f"a query reads only the store's views, but this one calls `{name}`")
        if kind == "BASE_TABLE":
            views.add(_named(node, own))
    return views & VIEWS.keys()


def _named(node: Mapping[str, Any], own: set[str]) -> str:
    name = ".".join(filter(None, (node.get("catalog_name"), node.get("schema_name"), node["table_name"]))).lower()
    if name not in VIEWS and name not in own:
        raise QueryError(f"the result store has no view `{name}`{nearest(name, VIEWS)}")
    return name


def _check_parameters(needed: set[str], given: Mapping[str, object]) -> None:
    if missing := sorted(needed - given.keys()):
        raise QueryError(f"the query's parameter ${missing[0]} needs a value, as --param sweep=quickstart gives $sweep")
    if extra := sorted(given.keys() - needed):
        raise QueryError(f"the query has no parameter ${extra[0]}{nearest(extra[0], needed)}")


@contextmanager
def _interrupted_after(engine: duckdb.DuckDBPyConnection, timeout_s: float, reading: Clock) -> Iterator[None]:
    """Interrupts the engine once it has had the time, reading apart.

    It does so again until the engine stops, as an interrupt between two calls is lost.
    """
    done = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        wait_s = timeout_s
        while not done.wait(wait_s):
            left_s = timeout_s + reading.seconds() - (time.monotonic() - started)
            if left_s <= 0:
                engine.interrupt()
            wait_s = max(0.05, left_s)

    watcher = threading.Thread(target=watch, name="query-timeout", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryError(f"the query was stopped after its time limit of {timeout_s:g} s") from error
    finally:
        done.set()
        watcher.join()


def _result(engine: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """The rows, batch by batch: DuckDB's memory limit does not cover what has left it, so that is counted here."""
    settings = "SELECT m, parse_formatted_bytes(m) FROM (SELECT current_setting('memory_limit') AS m)"
    shown, limit = engine.execute(settings).fetchall()[0]
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > limit:
            raise QueryError(f"the query's result is larger than its memory limit of {shown}")
    result = pa.Table.from_batches(batches, reader.schema)
    return _with_integer_sums(result).rename_columns(_distinct(result.column_names))


def _with_integer_sums(result: pa.Table) -> pa.Table:
    """The same numbers, but sums of integers as int64 where they fit: DuckDB gives 128 bits, a Decimal in Python."""
    for at, field in enumerate(result.schema):
        if pa.types.is_decimal(field.type) and field.type.precision == 38 and field.type.scale == 0:
            with suppress(pa.ArrowInvalid):
                result = result.set_column(at, field.name, result.column(at).cast(pa.int64()))
    return result


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with a number behind it, so that no format loses a column."""
    distinct: dict[str, None] = {}
    for name in names:
        others = (f"{name}_{number}" for number in itertools.count(1))
        distinct[next(each for each in itertools.chain([name], others) if each not in distinct)] = None
    return list(distinct)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, RecursionError, UnicodeError) as error:
        raise QueryError(f"the query cannot be run: {_sentence(str(error))}") from error


def _sentence(message: str) -> str:
    """DuckDB's message without its class, its advice and the quoted line, but with the names that it proposes."""
    first, *rest = message.splitlines() or [""]
    said = first.partition(" Error: ")[2] or first
    hints = [line[0].lower() + line[1:] for line in rest if line.startswith(("Did you mean", "Candidate"))]
    place = [f"in line {line[5:].partition(':')[0]}" for line in rest if re.match(r"LINE [0-9]+:", line)]
    return "; ".join(part.rstrip("!.") for part in (said, *place[:1], *hints))
