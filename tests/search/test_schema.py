"""Schemas: what a row may hold, and what a part says about itself."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search import schema
from search.errors import StoreError
from search.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

METRIC = {
    "sweep": "quickstart",
    "trial": "vbpr-sam-0a1b2c3d",
    "attempt": 1,
    "epoch": 3,
    "split": "valid",
    "metric": "recall@20",
    "value": 0.25,
    "gradient_evaluations": 24,
    "train_seconds": 1.5,
    "device_seconds": 0.5,
}


@pytest.mark.parametrize("table", schema.TABLES)
def test_a_part_carries_units_descriptions_nullability_and_version_through_parquet(table: str) -> None:
    sink = io.BytesIO()
    pq.write_table(schema.arrow_schema(table).empty_table(), sink)

    stored = pq.read_schema(io.BytesIO(sink.getvalue()))

    assert stored.equals(schema.arrow_schema(table), check_metadata=False)
    assert stored.metadata[b"recsweep.schema_version"] == str(schema.SCHEMA_VERSION).encode()
    for column in schema.TABLES[table]:
        field = stored.field(column.name)
        assert field.nullable == column.nullable
        assert field.metadata[b"description"].decode() == column.description != ""
        assert field.metadata[b"unit"].decode() == column.unit


@pytest.mark.parametrize("table", schema.TABLES)
def test_texts_are_string_and_times_are_utc_microseconds_in_every_table(table: str) -> None:
    types = schema.arrow_schema(table).types

    assert set(types) <= {pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", tz="UTC")}
    assert schema.TABLES[table][-1].name == "written"


@pytest.mark.parametrize("name", schema.VIEWS)
def test_what_makes_a_row_itself_is_among_the_columns_of_its_table(name: str) -> None:
    view = schema.VIEWS[name]

    assert set(view.identity) <= set(schema.arrow_schema(view.table).names)


@pytest.mark.parametrize("name", schema.VIEWS)
def test_no_row_is_known_by_a_column_of_fractions(name: str) -> None:
    view = schema.VIEWS[name]
    types = {each.name: each.type for each in schema.columns(view.table)}

    assert all(types[column] != pa.float64() for column in (*view.identity, *view.renewed))
    assert set(view.renewed) <= set(view.identity)


def test_a_description_lists_every_view_and_every_column_once() -> None:
    rows = schema.describe().to_pylist()

    assert {row["view"] for row in rows} == set(schema.VIEWS)
    listed = [(row["view"], row["column"]) for row in rows if row["column"]]
    own = [name for name, view in schema.VIEWS.items() if name == view.table]
    assert sorted(own) == sorted(schema.TABLES)
    assert listed == [(table, each.name) for table in own for each in schema.TABLES[table]]
    assert all(row["description"] for row in rows)


def test_rows_become_a_table_of_the_written_schema() -> None:
    made = schema.to_arrow("metrics", [METRIC], NOW)

    assert made.schema.equals(schema.arrow_schema("metrics"), check_metadata=True)
    assert made.to_pylist() == [METRIC | {"written": NOW}]


def test_numpy_scalars_are_numbers() -> None:
    row = METRIC | {"epoch": np.int32(3), "value": np.float32(0.25), "train_seconds": np.int64(2)}

    made = schema.to_arrow("metrics", [row], NOW).to_pylist()[0]

    assert (made["epoch"], made["value"], made["train_seconds"]) == (3, 0.25, 2.0)


def test_times_of_other_zones_are_the_same_instants_in_utc() -> None:
    local = pd.Timestamp("2026-05-01T12:00:00+02:00").to_pydatetime()
    row = {"sweep": "s", "digest": "d", "spec_json": "{}", "started": local}

    assert schema.to_arrow("sweeps", [row], NOW)["started"].to_pylist() == [datetime(2026, 5, 1, 10, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vlaue": 1.0}, "takes no column `vlaue`; the nearest is `value`"),
        ({"written": NOW}, "takes no column `written`"),
        ({"sweep": None}, "`metrics.sweep` must be given in every row"),
        ({"sweep": 7}, "`metrics.sweep` must be text, but got 7"),
        ({"sweep": b"bytes"}, "must be text"),
        ({"sweep": Path("a")}, "must be text"),
        ({"sweep": "\ud800"}, "`metrics.sweep` cannot hold one of its values"),
        ({"epoch": 1.5}, "`metrics.epoch` must be an integer, but got 1.5"),
        ({"epoch": 1.0}, "must be an integer"),
        ({"epoch": True}, "must be an integer"),
        ({"epoch": "1"}, "must be an integer, but got '1'"),
        ({"epoch": 2**63}, "`metrics.epoch` cannot hold one of its values"),
        ({"value": "0.5"}, "must be a number"),
        ({"value": True}, "must be a number"),
        ({"value": pd.NA}, "must be a number"),
        ({"value": 2**53 + 1}, "`metrics.value` cannot hold one of its values"),
        ({"split": "test"}, "`metrics.split` must be one of train, valid, but got 'test'"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_with_the_rule_and_the_value(
    change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StoreError) as caught:
        schema.to_arrow("metrics", [METRIC, METRIC | change], NOW)

    assert sentence in str(caught.value)


@pytest.mark.parametrize("started", [datetime(2026, 1, 1), pd.NaT, "2026-01-01", 0])
def test_a_time_without_a_zone_is_refused(started: object) -> None:
    row = {"sweep": "s", "digest": "d", "spec_json": "{}", "started": started}

    with pytest.raises(StoreError, match=r"`sweeps\.started` must be a time with a time zone"):
        schema.to_arrow("sweeps", [row], NOW)


def test_a_status_that_is_none_of_the_seven_is_refused() -> None:
    texts = ("sweep", "trial", "cell", "dataset", "model", "objective", "update", "optimizer", "config_json", "metric")
    row = dict.fromkeys(texts, "x") | {"attempt": 1, "seed": 1, "mode": "max", "started": NOW, "status": "done"}

    with pytest.raises(StoreError, match="must be one of running, finished, pruned, diverged, failed, lost, stopped"):
        schema.to_arrow("trials", [row], NOW)


def test_a_kind_of_event_that_is_none_of_the_known_is_refused() -> None:
    row = {"sweep": "s", "at": NOW, "kind": "stop", "text": "the sweep was asked to stop"}
    assert schema.to_arrow("events", [row], NOW)["host"].to_pylist() == [None]

    with pytest.raises(StoreError, match=r"`events\.kind` must be one of start, resume, end, stop, .* got 'halt'"):
        schema.to_arrow("events", [row | {"kind": "halt"}], NOW)


@pytest.mark.parametrize(("table", "new"), [("trials", "candidate"), ("sweeps", "code_digest")])
def test_parts_of_the_first_version_are_read_with_nulls_in_what_is_new(table: str, new: str, tmp_path: Path) -> None:
    written = schema.arrow_schema(table)
    first = written.remove(written.get_field_index(new))
    first = first.with_metadata({**written.metadata, b"recsweep.schema_version": b"1"})
    values = {pa.string(): "x", pa.int64(): 1, pa.float64(): 0.5, pa.bool_(): True, pa.timestamp("us", tz="UTC"): NOW}
    store = Store(tmp_path / "store", create=True)
    (tmp_path / "store" / table).mkdir()
    old = pa.Table.from_pylist([{each.name: values[each.type] for each in first}], first)
    pq.write_table(old, tmp_path / "store" / table / "20250101T000000000000-old.parquet")

    assert store.table(table)[new].to_pylist() == [None]


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(StoreError, match="no table `metric`; the nearest is `metrics`"):
        schema.columns("metric")


def test_an_unknown_name_far_from_all_known_ones_lists_them_up_to_a_dozen() -> None:
    assert schema.nearest("zzz", ["b", "a"]) == "; there is `a`, `b`"
    assert schema.nearest("zzz", [f"a{number:02d}" for number in range(15)]).endswith("`a11` and 3 more")
    assert schema.nearest("zzz", []) == "; there is none"
