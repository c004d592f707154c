"""SQL over the store: right results, one SELECT and nothing else, and every output format without loss."""

import csv
import io
import itertools
import json
import math
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import QueryError
from search.query import _engine, named_queries, parse_parameters, run_query
from search.query_output import FORMATS, write_result
from search.schema import VIEWS
from search.store import DamagedPart, Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

# trial, cell's model and update, status, mode, best score, gradient evaluations, device seconds, error
TRIALS = [
    ("v-sam-1", "vbpr", "sam", "finished", 0.20, 100, 36.0, None),
    ("v-sam-2", "vbpr", "sam", "finished", 0.30, 100, 36.0, None),
    ("v-sam-3", "vbpr", "sam", "pruned", 0.30, 40, 18.0, None),
    ("v-sam-4", "vbpr", "sam", "diverged", 0.90, 20, 9.0, "loss is NaN in epoch 2"),
    ("v-descent-1", "vbpr", "descent", "finished", math.nan, 50, 18.0, None),
    ("v-descent-2", "vbpr", "descent", "failed", None, 0, 1.0, "MemoryError | out of memory\nline 2"),
    ("f-sam-1", "freedom", "sam", "running", None, 10, 3.6, None),
    ("f-sam-2", "freedom", "sam", "stopped", 0.10, 10, 3.6, None),
]


def row_of(spec: tuple[Any, ...], sweep: str = "quick", attempt: int = 1, mode: str = "max") -> dict[str, object]:
    name, model, update, status, score, passes, seconds, error = spec
    return {
        **{"sweep": sweep, "trial": name, "attempt": attempt, "cell": f"baby/{model}/plain/{update}/adam"},
        **{"dataset": "baby", "model": model, "objective": "plain", "update": update, "optimizer": "adam"},
        **{"seed": 999, "status": status, "config_json": "{}", "metric": "recall@20", "mode": mode},
        **{"best_score": score, "gradient_evaluations": passes, "device_seconds": seconds, "error": error},
        **{"epochs": 2, "started": NOW},
    }


def metric_rows(sweep: str = "quick") -> list[dict[str, object]]:
    return [
        {
            **{"sweep": sweep, "trial": name, "attempt": 1, "epoch": epoch, "split": split, "metric": metric},
            **{"value": score * epoch / 2, "gradient_evaluations": 50 * epoch, "train_seconds": 0.0},
            "device_seconds": 0.0,
        }
        for name, score in (("v-sam-1", 0.2), ("f-sam-2", 0.1))
        for epoch in (1, 2)
        for split, metric in (("valid", "recall@20"), ("valid", "ndcg@5"), ("train", "loss"))
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two sweeps: `quick`, and `other`, which shares its trial names and must never mix in."""
    store = Store(tmp_path_factory.mktemp("store"), create=True)
    store.append(
        "sweeps", [{"sweep": name, "digest": "d", "spec_json": "{}", "started": NOW} for name in ("quick", "other")]
    )
    store.append("trials", [row_of(spec) for spec in TRIALS])
    store.append("trials", [row_of(("v-sam-1", "vbpr", "sam", "lost", 0.1, 9, 9.0, "node died"), attempt=0)])
    store.append("trials", [row_of((*spec[:4], 0.99, *spec[5:]), sweep="other") for spec in TRIALS])
    store.append(
        "params",
        [
            {"sweep": sweep, "trial": spec[0], "name": name, "number": number, "text": text, "tuned": tuned}
            for sweep, spec in itertools.product(("quick", "other"), TRIALS)
            for name, number, text, tuned in (
                ("update.rho", 0.1, None, True),
                ("update.distance", None, "l1", True),
                ("model.embedding_size", 64.0, None, False),
            )
        ],
    )
    store.append("metrics", [*metric_rows(), *metric_rows("other")])
    return store


def rows(store: Store, sql: str, **params: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = run_query(store, sql, params).to_pylist()
    return found


def test_a_query_sees_each_trial_once_and_all_attempts_where_it_asks_for_them(store: Store) -> None:
    assert rows(store, "select count(*) as n from trials where sweep = 'quick'") == [{"n": len(TRIALS)}]
    assert rows(store, "select count(*) as n from trials_all where sweep = 'quick'") == [{"n": len(TRIALS) + 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "values (1)",
        "select 1;",
        "-- a comment\nselect 1",
        "with t as (select 1 as a), u as (select * from t) select a from u",
        "with trials as (select * from trials limit 1) select 1 from trials",
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 1) select * from r",
        "select 1 from TRIALS limit 1",
        "(select 1) union (select 1)",
        "from range(1)",
        "from RANGE(1)",
        "select unnest([1])",
        "select 1 from (pivot trials on status in ('finished') using count(*) group by sweep) limit 1",
        "select 1 where exists (from params where tuned)",
    ],
)
def test_every_shape_of_a_single_select_runs(store: Store, sql: str) -> None:
    assert run_query(store, sql).num_rows == 1


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_queried_and_described(store: Store, view: str) -> None:
    assert run_query(store, f"select * from {view}").num_rows == store.table(view).num_rows
    described = [row["column_name"] for row in rows(store, f"describe {view}")]
    assert described == store.table(view).column_names


def test_parameters_are_columns_of_the_wide_view_under_their_full_names(store: Store) -> None:
    found = rows(store, """select "update.rho", "update.distance" from trials_wide where trial = 'v-sam-1' limit 1""")

    assert found == [{"update.rho": 0.1, "update.distance": "l1"}]


def test_sums_of_integers_are_integers_and_times_stay_utc(store: Store) -> None:
    found = run_query(store, "select sum(gradient_evaluations) as passes, max(started) as at from trials")

    assert found.schema.types == [pa.int64(), pa.timestamp("us", tz="UTC")]
    assert found.to_pylist() == [{"passes": 2 * sum(spec[5] for spec in TRIALS), "at": NOW}]


def test_columns_of_the_same_name_are_told_apart(store: Store) -> None:
    assert run_query(store, "select 1 as a, 2 as a, 3 as a_1, 4 as a").column_names == ["a", "a_1", "a_1_1", "a_2"]


HOSTILE = [
    "explain analyze copy (select 1) to '{file}'",
    "explain copy trials to '{file}'",
    "explain analyze insert into trials select * from trials",
    "copy trials to 's3://bucket/trials.parquet'",
    "copy (select 1) to '/dev/stdout'",
    "copy (select 1) to program 'touch {file}'",
    "attach 'https://127.0.0.1:1/other.db' as other",
    "attach ':memory:' as other",
    "install 'https://127.0.0.1:1/thing.duckdb_extension'",
    "load '{file}'",
    "update extensions",
    "set file_search_path = '/etc'",
    "set global memory_limit = '1TB'",
    "pragma memory_limit = '1TB'",
    "pragma database_list",
    "set home_directory = '/etc'",
    "reset all",
    "create temp table t as select 1",
    "create or replace view trials as select 1",
    "create type mood as enum ('sad')",
    "create schema s",
    "truncate trials",
    "merge into trials using metrics on true when matched then delete",
    "comment on view trials is 'mine'",
    "deallocate p",
    "commit",
    "rollback",
    # Files, by every name that they go by.
    "select * from read_text('/etc/passwd')",
    "select * from '/etc/passwd'",
    "from read_csv('/etc/passwd', header = false)",
    "select * from read_text('file:///etc/passwd')",
    "select * from read_text('../../../../../../etc/passwd')",
    "select * from '../secret'",
    "select * from '..'",
    "select * from './*'",
    "select * from '/etc/*.conf'",
    "select * from '**/*.parquet'",
    "select * from glob('../**')",
    "select * from read_text(['{secret}', '/etc/passwd'])",
    "select * from read_text(chr(47) || 'etc/passwd')",
    "select * from read_text(e'\\x2fetc\\x2fpasswd')",
    "select * from read_text($$/etc/passwd$$)",
    "select * from 'http://127.0.0.1:1/trials.parquet'",
    "select * from 'https://127.0.0.1:1/trials.csv'",
    "select * from read_parquet('s3://bucket/*.parquet')",
    "select * from 's3://bucket/trials.parquet'",
    "select * from 'gs://bucket/trials.parquet'",
    "select * from read_csv('hf://datasets/x/y.csv')",
    "select * from read_duckdb('{secret}')",
    "select * from sqlite_scan('{secret}', 't')",
    "select * from postgres_scan('host=127.0.0.1', 'public', 't')",
    "select * from iceberg_scan('{secret}')",
    "select * from seq_scan('trials')",
    "select * from duckdb_logs()",
    "select * from duckdb_variables()",
    "select * from force_checkpoint()",
    "select * from pragma_database_list()",
    # Comments that hide a statement, and names in disguise.
    "/* select 1 */ copy (select 1) to '{file}'",
    "-- select 1\ncopy (select 1) to '{file}'",
    "select 1 /* ; */; copy (select 1) to '{file}'",
    "select 1 -- the end\n; attach '{file}'",
    "/* /* */ */ attach '{file}'",
    "select 1; /* nothing */; attach '{file}'; --",
    "select * from /**/ read_text /**/ ('{secret}')",
    "select * from \"read_text\"('{secret}')",
    "select * from READ_TEXT('{secret}')",
    "select * from main.read_text('{secret}')",
    "select * from system.main.read_text('{secret}')",
    "select * from u&\"\\0072ead_text\"('{secret}')",
    "copy\u00a0(select 1) to '{file}'",
    "\u200bcopy (select 1) to '{file}'",
    "\ufeffcopy (select 1) to '{file}'",
    "\uff43opy (select 1) to '{file}'",
    "select * from re\u0430d_text('{secret}')",
    "select 1\x00; copy (select 1) to '{file}'",
    # Queries inside queries, and every other place where a table may stand.
    "with trials as (from read_text('{secret}')) select * from trials",
    "with recursive r as (select 1 as a union all select 1 from read_text('{secret}')) from r",
    "with a as materialized (from '{secret}') select * from a",
    "with a as (with b as (copy (select 1) to '{file}') select 1) select * from a",
    "select * from (select * from (select * from '{secret}'))",
    "select (with x as (from '{secret}') select 1 from x)",
    "values ((select content from read_text('{secret}')))",
    'table "{secret}"',
    "describe '{secret}'",
    "describe select * from read_text('{secret}')",
    "summarize '{secret}'",
    "select * from (describe '{secret}')",
    "select * from (summarize '{secret}')",
    "pivot '{secret}' on a in (1) using count(*)",
    "unpivot '{secret}' on a, b",
    "select * from trials semi join '{secret}' using (trial)",
    "select * from trials positional join '{secret}'",
    "select * from trials natural join '{secret}'",
    "select * from trials asof join '{secret}' on true",
    "select * from trials where trial in (from '{secret}')",
    "select * from trials order by (select 1 from '{secret}')",
    "select * from trials limit (select 1 from '{secret}')",
    "select * from trials qualify (select true from '{secret}')",
    "select trial from trials group by all having exists (from '{secret}')",
    "select count(*) filter (exists (from '{secret}')) from trials",
    "select sum(1) over (order by (select 1 from '{secret}')) from trials",
    "select case when true then (select 1 from '{secret}') end",
    "select 1 except select 1 from '{secret}'",
    "select 1 from range((select count(*) from read_text('{secret}')))",
    "explain select 1",
    "explain analyze select 1",
    "select 1; select 2",
    "select 1; drop view trials",
    "",
    "-- nothing",
    "copy (select 1) to '{file}'",
    "copy trials to '{file}' (format parquet)",
    "copy trials from '{file}'",
    "with x as (copy (select 1) to '{file}') select 1",
    "with x as (copy (select 1) to '{file}') select * from x",
    "select * from (with x as (copy (select 1) to '{file}') select 1)",
    "with x as (insert into trials values (1) returning *) select * from x",
    "with x as (delete from trials returning *) select * from x",
    "with x as (update trials set seed = 1 returning *) select * from x",
    "export database '{file}'",
    "import database '{file}'",
    "attach '{file}'",
    "attach '{file}' as other; select 1",
    "detach memory",
    "use memory",
    "install httpfs",
    "load httpfs",
    "force install httpfs from community",
    "pragma version",
    "pragma table_info('trials')",
    "pragma enable_profiling",
    "set threads = 1",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set variable a = 1",
    "call duckdb_tables()",
    "call enable_logging()",
    "prepare p as select 1",
    "execute p",
    "create table t as select 1",
    "create view t as select 1",
    "create macro f(x) as x",
    "create secret (type s3)",
    "insert into trials select * from trials",
    "update trials set seed = 1",
    "delete from trials",
    "drop view trials",
    "alter view trials rename to t",
    "begin",
    "checkpoint",
    "vacuum",
    "analyze",
    "show tables",
    "show all tables",
    "select * from (show tables)",
    "pivot trials on status using count(*)",
    "select * from read_csv('{secret}')",
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from '{secret}'",
    "from '{secret}'",
    'from "{secret}"',
    "select (select content from read_text('{secret}'))",
    "with t as (from read_text('{secret}')) from t",
    'with "{secret}" as (select 1) select * from (select 1), main."{secret}"',
    "select 1 from trials, lateral (select * from read_text('{secret}'))",
    "select 1 from trials where exists (from read_text('{secret}'))",
    "select 1 union all select length(content) from read_text('{secret}')",
    "select list_transform([1], x -> (select count(*) from read_text('{secret}')))",
    "select * from glob('/*')",
    "select * from query('from read_text(''{secret}'')')",
    "select * from query_table('{secret}')",
    "select * from query_table(['trials'])",
    "select * from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "select getenv('HOME')",
    "select * from duckdb_secrets()",
    "select * from duckdb_settings()",
    "select * from duckdb_extensions()",
    "select * from which_secret('{secret}', 's3')",
    "select * from information_schema.tables",
    "select * from pg_catalog.pg_tables",
    "select * from sqlite_master",
    "select * from system.information_schema.tables",
    "select * from main.trials",
    "select * from secret_frame",
    "select * from pandas_scan(1)",
    "select * from arrow_scan(1, 2, 3)",
    "select * from pragma_table_info('trials')",
    "select * from checkpoint()",
    "select * from test_all_types()",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_anything_but_a_select_over_the_views_is_refused_and_touches_nothing(
    store: Store, tmp_path: Path, sql: str
) -> None:
    secret_frame = pa.table({"secret": [1]})
    (tmp_path / "secret").write_text("hidden-words\n")
    before = sorted(os.listdir(tmp_path))

    with pytest.raises(QueryError) as caught:
        run_query(store, sql.format(file=tmp_path / "file", secret=tmp_path / "secret"))

    assert sorted(os.listdir(tmp_path)) == before
    assert "hidden-words" not in str(caught.value) and "root:x" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert secret_frame.num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select current_setting('enable_external_access')",
        "select current_setting('python_enable_replacements')",
        "select current_setting('autoinstall_known_extensions')",
        "select current_setting('autoload_known_extensions')",
    ],
)
def test_the_engine_itself_has_no_way_out(store: Store, sql: str) -> None:
    assert [str(value).lower() for row in rows(store, sql) for value in row.values()] == ["false"]


@pytest.mark.parametrize("sql", HOSTILE)
def test_the_engine_keeps_files_out_even_of_a_statement_that_was_not_checked(tmp_path: Path, sql: str) -> None:
    secret_frame = pa.table({"secret": ["hidden-words"]})
    (tmp_path / "secret").write_text("hidden-words\n")
    said = ""

    with _engine("100MB") as engine:
        engine.register("trials", pa.table({"seed": [1]}))
        engine.execute("SET lock_configuration = true")
        settings = "select name, value from duckdb_settings() where name <> 'search_path'"  # USE names its own memory
        before = set(engine.execute(settings).fetchall())
        try:
            relation = engine.sql(sql.format(file=tmp_path / "file", secret=tmp_path / "secret"))
            said = repr(relation.fetchall()) if relation is not None else ""
        except duckdb.Error as error:
            said = str(error)
        with suppress(duckdb.Error):
            engine.execute("rollback")
        assert set(engine.execute(settings).fetchall()) == before

    assert "hidden-words" not in said and "root:x" not in said
    assert os.listdir(tmp_path) == ["secret"]
    assert secret_frame.num_rows == 1


def test_the_engines_settings_are_locked(store: Store) -> None:
    assert rows(store, "select current_setting('lock_configuration') as locked") == [{"locked": True}]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("selec 1", 'syntax error at or near "selec"; in line 1'),
        ("from trails", "the result store has no view `trails`; the nearest is `trials`"),
        ("select best_scor from trials", 'candidate bindings: "best_score"'),
        ("select trials.best_scor from trials", 'does not have a column named "best_scor"'),
        ("select\n\nselect 1", 'syntax error at or near "select"; in line 3'),
        ("select abss(1)", 'abss does not exist; did you mean "abs"'),
        ("explain select 1", "must be one SELECT statement, but got EXPLAIN"),
        ("select 1; set threads = 1", "but got SELECT, SET"),
        ("", "but got none"),
        ("with x as (copy (select 1) to 'f') select 1", "holds COPY inside WITH"),
        ("from read_csv('f')", "calls `read_csv`"),
        ("show tables", "`recsweep query --schema` lists"),
        ("pivot trials on status using count(*)", "PIVOT needs its columns listed"),
        ("select $sweep", "the query's parameter $sweep needs a value, as --param sweep=quickstart gives"),
        ("select ?", "the query's parameter $1 needs a value, as --param sweep=quickstart gives $sweep"),
        ("select error('ouch')", "the query cannot be run: ouch"),
        ("select cast(trial as int) from trials", "Could not convert string"),
        ("select " + "(" * 20_000 + "1" + ")" * 20_000, "depth"),
        ("select " + "not " * 900 + "true", "recursion"),
        ("select '\udcff'", "surrogates not allowed"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(store: Store, sql: str, sentence: str) -> None:
    with pytest.raises(QueryError) as caught:
        run_query(store, sql)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_bound_and_never_read_as_sql(store: Store) -> None:
    assert rows(store, "select $a as a, $b as b, $a as again", a="x' or 1=1 --", b=0.5) == [
        {"a": "x' or 1=1 --", "b": 0.5, "again": "x' or 1=1 --"}
    ]


def test_a_value_for_a_parameter_that_the_query_lacks_is_refused_with_the_nearest_name(store: Store) -> None:
    with pytest.raises(QueryError, match=r"no parameter \$sweeep; the nearest is `sweep`"):
        run_query(store, "select $sweep", {"sweep": "quick", "sweeep": "quick"})


def test_parameters_are_numbers_where_they_read_as_numbers() -> None:
    pairs = ["a=1", "b=-0.5", "c=1e-3", "d=text", "e=", 'f="2024"', "g=x=y", "h=nan", "i=1_000", "j=.5"]

    assert parse_parameters(pairs) == {
        **{"a": 1, "b": -0.5, "c": 0.001, "d": "text", "e": "", "f": "2024", "g": "x=y", "h": "nan"},
        **{"i": "1_000", "j": 0.5},
    }
    assert isinstance(parse_parameters(["a=1"])["a"], int)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["sweep"], "must be written name=value, but got 'sweep'"),
        (["1=2"], "name=value"),
        (["a=1", "a=2"], "given twice"),
    ],
)
def test_a_parameter_that_is_no_name_and_value_is_refused(pairs: list[str], sentence: str) -> None:
    with pytest.raises(QueryError, match=sentence):
        parse_parameters(pairs)


@pytest.mark.parametrize(
    "sql",
    [
        "select sleep_ms(600000)",
        "select count(*) from range(1000000000000) t(i) where sqrt(i) < 0",
        "select i from range(1000000000000) t(i) where sqrt(i) < 0",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r",
    ],
)
def test_a_query_that_takes_too_long_is_stopped(store: Store, sql: str) -> None:
    with pytest.raises(QueryError, match=r"stopped after its time limit of 0\.2 s"):
        run_query(store, sql, timeout_s=0.2)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select list(i) from range(1000000000) t(i)", "failed to allocate"),
        ("select i from range(1000000000) t(i)", "the query's result is larger than its memory limit of 47.6 MiB"),
    ],
)
def test_a_query_that_needs_too_much_memory_is_stopped(store: Store, sql: str, sentence: str) -> None:
    with pytest.raises(QueryError, match=sentence):
        run_query(store, sql, memory_limit="50MB")


def test_a_memory_limit_that_is_no_size_is_refused(store: Store) -> None:
    with pytest.raises(QueryError, match="Memory must have a number"):
        run_query(store, "select 1", memory_limit="lots")


def test_only_the_views_that_a_query_names_are_read(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.append("trials", [row_of(TRIALS[0])])
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "broken.parquet").write_bytes(b"no parquet")

    assert len(rows(store, "select * from trials where status <> 'metrics'")) == 1
    with pytest.warns(DamagedPart, match=r"metrics/broken\.parquet"):
        run_query(store, "select * from trials where trial in (select trial from metrics)")


@pytest.mark.parametrize("name", sorted(named_queries()))
def test_a_named_query_needs_the_rows_of_its_own_sweep_alone(store: Store, name: str) -> None:
    asked = {"sweep": "quick"}
    alone = run_query(store, named_queries()[name].sql, asked, sweep="quick")
    assert alone.equals(run_query(store, named_queries()[name].sql, asked)) and len(alone)
    (count,) = run_query(store, "select distinct sweep from trials", sweep="other").to_pylist()
    assert count == {"sweep": "other"}


def test_named_queries_are_the_five_with_a_description_and_the_parameter_sweep(store: Store) -> None:
    queries = named_queries()

    assert list(queries) == ["best", "compare", "cost", "curves", "failures"]
    for name, query in queries.items():
        assert query.name == name
        assert query.description.endswith(".") and not query.description.startswith("-")
        assert run_query(store, query.sql, {"sweep": "no such sweep"}).num_rows == 0
        with pytest.raises(QueryError, match=r"\$sweep needs a value"):
            run_query(store, query.sql)


def named(store: Store, name: str, sweep: str = "quick") -> list[dict[str, Any]]:
    return rows(store, named_queries()[name].sql, sweep=sweep)


def test_best_is_the_best_finished_trial_of_each_cell(store: Store) -> None:
    found = named(store, "best")

    assert [(row["cell"].split("/")[1:4], row["trial"], row["candidates"]) for row in found] == [
        (["vbpr", "plain", "sam"], "v-sam-2", 2),
    ]
    assert found[0]["best_score"] == 0.30
    assert found[0]["tuned_to"] == "update.distance=l1 update.rho=0.1"


def test_best_takes_the_lowest_score_where_lower_is_better(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.append("trials", [row_of(spec, mode="min") for spec in TRIALS[:3]])

    assert [row["trial"] for row in named(store, "best")] == ["v-sam-1"]
    assert [row["best_score"] for row in named(store, "compare")] == [0.20]


def test_cost_counts_every_trial_however_it_ended_and_every_restart(store: Store) -> None:
    found = {row["cell"].split("/", 1)[1]: row for row in named(store, "cost")}

    for cell, row in found.items():
        mine = [spec for spec in TRIALS if f"{spec[1]}/plain/{spec[2]}/adam" == cell]
        assert row["trials"] == len(mine) == row["finished"] + row["pruned"] + row["failed"] + row["unfinished"]
        assert row["gradient_evaluations"] == sum(spec[5] for spec in mine)
        assert row["device_hours"] == pytest.approx(sum(spec[6] for spec in mine) / 3600)
        assert row["failed"] == sum(spec[3] in ("diverged", "failed") for spec in mine)
    assert [found[f"{cell}/adam"]["restarts"] for cell in ("vbpr/plain/sam", "vbpr/plain/descent")] == [1, 0]
    assert found["vbpr/plain/sam/adam"]["failed_device_hours"] == pytest.approx(9.0 / 3600)
    assert found["freedom/plain/sam/adam"]["failed_device_hours"] == 0


def test_failures_are_all_attempts_that_ended_badly_with_their_errors(store: Store) -> None:
    found = [(row["trial"], row["attempt"], row["status"]) for row in named(store, "failures")]

    assert found == [("v-descent-2", 1, "failed"), ("v-sam-1", 0, "lost"), ("v-sam-4", 1, "diverged")]


def test_curves_are_the_goal_metric_on_the_validation_split_by_epoch(store: Store) -> None:
    found = [(row["trial"], row["epoch"], row["value"]) for row in named(store, "curves")]

    assert found == [("f-sam-2", 1, 0.05), ("f-sam-2", 2, 0.1), ("v-sam-1", 1, 0.1), ("v-sam-1", 2, 0.2)]


def test_compare_ignores_failed_trials_and_nan_in_scores_but_not_in_cost(store: Store) -> None:
    found = {(row["model"], row["update"]): row for row in named(store, "compare")}

    sam, descent = found["vbpr", "sam"], found["vbpr", "descent"]
    assert (sam["best_score"], sam["median_score"], sam["trials"], sam["failed"]) == (0.30, 0.30, 4, 1)
    assert (descent["best_score"], descent["trials"], descent["gradient_evaluations"]) == (None, 2, 50)


RESULT = pa.table(
    {
        "text": ["plain", 'a|b "c", d\ne\\|', None, "ä\u202e[red]\x1b[31m", ""],
        "number": [0.1 + 0.2, math.nan, math.inf, None, -0.0],
        "count": [1, None, -(2**63), 2**63 - 1, 0],
        "flag": [True, False, None, True, False],
        "time": pa.array([NOW, None, NOW, NOW, NOW + timedelta(days=1)], pa.timestamp("us", tz="UTC")),
        "nested": [[0.1, None], [], None, [math.nan], [2.0]],
    }
)


def written(format: str, table: pa.Table = RESULT) -> bytes:
    out = io.BytesIO()
    write_result(table, format, out)
    assert not out.closed
    return out.getvalue()


def in_json(value: object) -> object:
    """What a value is to be in JSON, said a second time."""
    if isinstance(value, list):
        return [in_json(each) for each in value]
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def test_json_keeps_every_digit_writes_iso_times_and_null_for_what_is_not_finite() -> None:
    expected = [{name: in_json(value) for name, value in row.items()} for row in RESULT.to_pylist()]

    assert json.loads(written("json")) == expected
    assert [json.loads(line) for line in written("jsonl").decode().rstrip("\n").split("\n")] == expected
    assert expected[0]["time"] == "2026-01-02T03:04:05.678901+00:00"
    assert math.copysign(1, json.loads(written("json"))[4]["number"]) == -1


@given(
    st.lists(st.floats() | st.none(), max_size=5),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5),
)
def test_json_and_csv_lose_no_number_and_no_text(numbers: list[float | None], texts: list[str]) -> None:
    length = min(len(numbers), len(texts))
    table = pa.table({"n": pa.array(numbers[:length], pa.float64()), "t": pa.array(texts[:length], pa.string())})

    from_json = json.loads(written("json", table))
    from_csv = list(csv.reader(io.StringIO(written("csv", table).decode(), newline="")))

    assert from_json == [{"n": in_json(n), "t": t} for n, t in zip(numbers[:length], texts[:length], strict=True)]
    assert from_csv[0] == ["n", "t"]
    assert [t for _, t in from_csv[1:]] == texts[:length]
    assert [None if n == "" else repr(float(n)) for n, _ in from_csv[1:]] == [
        None if n is None else repr(n) for n in numbers[:length]
    ]


def test_csv_has_a_header_quotes_what_needs_it_and_leaves_null_empty() -> None:
    found = list(csv.reader(io.StringIO(written("csv").decode(), newline="")))

    assert found[0] == RESULT.column_names
    assert found[1] == ["plain", "0.30000000000000004", "1", "true", "2026-01-02T03:04:05.678901+00:00", "[0.1, null]"]
    assert found[2] == ['a|b "c", d\ne\\|', "nan", "", "false", "", "[]"]
    assert found[3][:3] == ["", "inf", str(-(2**63))]


def test_markdown_has_one_line_per_row_and_no_cell_that_ends_early() -> None:
    lines = written("markdown").decode().splitlines()

    assert len(lines) == 2 + len(RESULT)
    assert lines[1] == "| --- | ---: | ---: | --- | --- | --- |"
    assert lines[3].startswith('| a\\|b "c", d<br>e\\\\\\| | nan |  | false |')
    bare = [line.replace("\\\\", "").replace("\\|", "") for line in lines]
    assert {line.count("|") for line in bare} == {len(RESULT.column_names) + 1}


def test_markdown_and_table_do_not_let_a_text_become_markup() -> None:
    table = pa.table({"text": ["<b>[red]bold\x1b[31m"]})

    assert "&lt;b>" in written("markdown", table).decode()
    shown = written("table", table).decode()
    assert "<b>[red]bold\N{REPLACEMENT CHARACTER}[31m" in shown
    assert "\x1b" not in shown


def test_a_table_in_a_file_is_never_cut_off() -> None:
    table = pa.table({f"column_{number}": [f"{number}-" + "x" * 60] for number in range(30)})
    shown = written("table", table).decode()

    assert all(f"column_{number}" in shown and f"{number}-{'x' * 60}" in shown for number in range(30))
    assert shown.rstrip().endswith("1 row")


def test_a_table_too_wide_for_its_terminal_becomes_one_block_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm")
    table = pa.table({f"column_{number}": [number, number + 100] for number in range(20)})
    reader, terminal = os.openpty()
    with open(terminal, "wb") as out:
        write_result(table, "table", out)
        out.flush()
        shown = b""
        while not shown.replace(b"\r", b"").endswith(b"2 rows\n"):  # a terminal gives what it has, piece by piece
            shown += os.read(reader, 100_000)
    os.close(reader)

    lines = shown.decode().replace("\r", "").split("\n")
    assert all(len(line) <= 40 for line in lines)
    assert sum("column_7 " in line for line in lines) == 2
    assert any("column_7" in line and "107" in line for line in lines)


def test_parquet_is_the_table_itself() -> None:
    back = pq.read_table(io.BytesIO(written("parquet")))

    assert back.schema.names == RESULT.schema.names
    assert repr(back.to_pylist()) == repr(RESULT.to_pylist())


def test_other_sql_types_have_a_text(store: Store) -> None:
    sql = """
        select 1.50::decimal(4, 2) as d, date '2026-01-02' as day, time '03:04:05' as at, 'ab'::blob as bytes,
               {'x': 1, 'y': [0.5]} as fields, map {'k': 1} as pairs, interval 90 minute as span,
               2.0::decimal(4, 1) as two
    """
    found = json.loads(written("json", run_query(store, sql)))[0]

    assert found == {
        **{"d": 1.5, "day": "2026-01-02", "at": "03:04:05", "bytes": "6162", "fields": {"x": 1, "y": [0.5]}},
        **{"pairs": [["k", 1]], "span": "P0M0DT5400.0S", "two": 2},
    }
    assert written("csv", run_query(store, sql)).decode().splitlines()[1].startswith("1.5,2026-01-02,03:04:05,6162,")


def test_a_type_that_parquet_lacks_is_an_error(store: Store) -> None:
    with pytest.raises(QueryError, match="cannot be written as parquet"):
        written("parquet", run_query(store, "select interval 1 month as i"))


def test_an_unknown_format_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(QueryError, match="no output format `jsn`; the nearest is `json`"):
        write_result(RESULT, "jsn", io.BytesIO())


@pytest.mark.parametrize("format", FORMATS)
def test_a_result_without_rows_still_has_its_columns(format: str) -> None:
    content = written(format, RESULT.slice(0, 0))

    if format == "parquet":
        assert pq.read_table(io.BytesIO(content)).column_names == RESULT.column_names
    elif format == "json":
        assert json.loads(content) == []
    elif format != "jsonl":
        assert all(name in content.decode() for name in RESULT.column_names)
