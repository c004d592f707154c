"""Views read block by block: the same rows in the same order as at once, and only what a query needs."""

import itertools
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import blocks
from search import store as storing
from search.errors import DamagedPart
from search.parts import Snapshot
from search.query import run_query
from search.query_views import referenced_columns
from search.schema import TABLES, VIEWS
from search.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Row = dict[str, Any]


def metric(sweep: str, trial: str, epoch: int, attempt: int = 1, name: str = "recall@20", value: float = 0.5) -> Row:
    place = {"sweep": sweep, "trial": trial, "attempt": attempt, "epoch": epoch}
    split = "train" if name == "loss" else "valid"
    cost = {"gradient_evaluations": 8 * epoch, "train_seconds": 0.5, "device_seconds": 0.25}
    return {**place, "split": split, "metric": name, "value": value, **cost}


def trial(sweep: str, name: str, attempt: int = 1, status: str = "finished", **changes: object) -> Row:
    texts = {"dataset": "baby", "model": "vbpr", "objective": "plain", "update": "sam", "optimizer": "adam"}
    plain = {"seed": 1, "config_json": "{}", "metric": "recall@20", "mode": "max", "started": NOW}
    place = {"sweep": sweep, "trial": name, "attempt": attempt, "status": status}
    return {**place, "cell": "baby/vbpr/plain/sam/adam", **texts, **plain, **changes}


SWEEPS, TRIALS = st.sampled_from(["b", "a", "c"]), st.sampled_from(["t2", "t1", "t3"])
ATTEMPTS = st.integers(1, 3)
METRICS = st.builds(
    metric,
    SWEEPS,
    TRIALS,
    st.integers(1, 4),
    ATTEMPTS,
    st.sampled_from(["recall@20", "loss", "ndcg@5"]),
    st.floats(-1, 1) | st.just(float("nan")),
)
ENDS = st.builds(trial, SWEEPS, TRIALS, ATTEMPTS, st.sampled_from(["running", "finished", "lost"]))
WRITTEN = st.lists(st.lists(METRICS, max_size=8), max_size=6)


def filled(folder: str, table: str, parts: Sequence[Sequence[Row]]) -> Store:
    store = Store(folder, create=True)
    for rows in parts:
        store.append(table, rows)
    return store


def expected(parts: Sequence[Sequence[Row]], view: str) -> list[Row]:
    """What the view is to show, said a second time: plain loops over the rows in the order of their writing."""
    identity, rows = VIEWS[view].identity, [row for part in parts for row in part]
    counting: dict[tuple[object, ...], tuple[tuple[int, bool, int], Row]] = {}
    for part_number, part in enumerate(parts):
        for row in part:
            key = tuple(row[name] for name in identity)
            rank = row["attempt"], row.get("status") != "running", part_number
            if key not in counting or rank >= counting[key][0]:
                counting[key] = rank, row
    firsts = {name: list(dict.fromkeys(row[name] for row in rows)) for name in identity}

    def place(row: Row) -> tuple[Any, ...]:
        return tuple(firsts[each].index(row[each]) if isinstance(row[each], str) else row[each] for each in identity)

    return sorted((row for _, row in counting.values()), key=place)


def said(rows: Sequence[Row]) -> list[str]:
    """Rows as texts, so that NaN equals itself, without what is null and the time of writing."""
    return [
        repr(sorted((key, str(value)) for key, value in row.items() if value is not None and key != "written"))
        for row in rows
    ]


def shown(rows: pa.Table) -> list[str]:
    return said(rows.to_pylist())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 3)
    monkeypatch.setattr(storing, "_GROUP_ROWS", 2)


@pytest.mark.usefixtures("small")
@settings(max_examples=25, deadline=None)
@given(parts=WRITTEN, compacted=st.booleans())
def test_a_table_read_in_blocks_has_the_rows_and_the_order_of_one_read_at_once(
    parts: list[list[Row]], compacted: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = filled(folder, "metrics", parts)
        if compacted and store.compact("metrics"):
            parts = [expected(parts, "metrics_all")]  # as they stand in the merged part
        for view in ("metrics", "metrics_all"):
            assert shown(store.table(view)) == said(expected(parts, view))
            assert store.table(view).schema.names == [each.name for each in TABLES["metrics"]]
            alone = [[row for row in part if row["sweep"] == "a"] for part in parts]
            assert shown(store.table(view, "a")) == said(expected(alone, view))


@pytest.mark.usefixtures("small")
@settings(max_examples=20, deadline=None)
@given(parts=st.lists(st.lists(ENDS, max_size=4), max_size=6), compacted=st.booleans())
def test_trials_read_in_blocks_show_their_last_ends(parts: list[list[Row]], compacted: bool) -> None:
    # Two ends of one attempt in one part have the same time; which of the two counts is not said.
    parts = [list({(row["sweep"], row["trial"], row["attempt"]): row for row in part}.values()) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        store = filled(folder, "trials", parts)
        if compacted and store.compact("trials"):
            parts = [expected(parts, "trials_all")]
        for view in ("trials", "trials_all"):
            assert shown(store.table(view)) == said(expected(parts, view))


CONDITIONS: Mapping[str, Callable[[Row], bool]] = {
    "sweep = 'a'": lambda row: row["sweep"] == "a",
    "sweep in ('a', 'c') and split = 'valid'": lambda row: row["sweep"] in "ac" and row["split"] == "valid",
    "trial <> 't1'": lambda row: row["trial"] != "t1",
    "epoch > 2 and metric = 'loss'": lambda row: row["epoch"] > 2 and row["metric"] == "loss",
    "attempt = 1": lambda row: row["attempt"] == 1,
    "attempt = 1 and sweep = 'b'": lambda row: row["attempt"] == 1 and row["sweep"] == "b",
    "value > 0": lambda row: not row["value"] <= 0,  # NaN is the greatest number to DuckDB
    "gradient_evaluations >= 16 and trial = 't2'": lambda row: row["epoch"] >= 2 and row["trial"] == "t2",
    "trial like 't%2' or epoch = 1": lambda row: row["trial"] == "t2" or row["epoch"] == 1,
    "sweep is null": lambda row: False,
    "written > timestamptz '2000-01-01' and epoch between 2 and 3": lambda row: row["epoch"] in (2, 3),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("compacted", [False, True])
def test_a_condition_chooses_among_the_rows_that_count(tmp_path: Path, compacted: bool) -> None:
    draw = random.Random(1)
    names = {"sweep": "bac", "trial": ("t2", "t1", "t3"), "name": ("recall@20", "loss", "ndcg@5")}
    parts = [
        [
            metric(**{key: draw.choice(values) for key, values in names.items()}, epoch=draw.randint(1, 4))
            | {"attempt": draw.randint(1, 3), "value": draw.choice([-0.5, 0.0, 0.5, float("nan")])}
            for _ in range(12)
        ]
        for _ in range(6)
    ]
    store = filled(str(tmp_path), "metrics", parts)
    if compacted:
        store.compact("metrics")
    for view, condition in itertools.product(("metrics", "metrics_all"), CONDITIONS):
        meant = [row for row in expected(parts, view) if CONDITIONS[condition](row)]
        assert meant or "null" in condition
        found = run_query(store, f"select * from {view} where {condition}")
        assert sorted(shown(found)) == sorted(said(meant))
        assert run_query(store, f"select 1 from {view} where {condition}").num_rows == len(meant)


def test_a_condition_on_the_status_does_not_bring_back_an_earlier_attempt(tmp_path: Path) -> None:
    parts = [[trial("s", "t", 1, "lost")], [trial("s", "t", 2, "running")], [trial("s", "t", 2, "finished")]]
    store = filled(str(tmp_path), "trials", parts)

    for status, attempts in (("lost", []), ("running", []), ("finished", [2])):
        found = run_query(store, "select attempt from trials where status = $status", {"status": status})
        assert found["attempt"].to_pylist() == attempts
    assert run_query(store, "select 1 from trials_all where status = 'lost'").num_rows == 1


def test_a_condition_on_the_settings_does_not_bring_back_an_earlier_measurement(tmp_path: Path) -> None:
    place = {"sweep": "s", "trial": "t", "cell": "c", "protocol": "landscape", "seed": 1, "subject": "x", "phase": ""}
    rest = {"level": "", "draw": 0, "point": 0, "gradient_evaluations": 1, "train_seconds": 1.0, "split": "train"}
    row = {**place, **rest, "metric": "loss", "value": 1.0}
    store = filled(str(tmp_path), "protocols", [[{**row, "settings": "old"}], [{**row, "settings": "new"}]])

    for view, count in (("protocols", 0), ("protocols_all", 1)):
        assert run_query(store, f"select 1 from {view} where settings = 'old'").num_rows == count


def spoil(part: Path, column: str, group: int = 0) -> None:
    """Overwrites the data of one column of one row group."""
    chunk = pq.ParquetFile(part).metadata.row_group(group)
    (place,) = [chunk.column(at) for at in range(chunk.num_columns) if chunk.column(at).path_in_schema == column]
    start, size = place.dictionary_page_offset or place.data_page_offset, place.total_compressed_size
    content = part.read_bytes()
    part.write_bytes(content[:start] + b"\xff" * size + content[start + size :])


def only_part(store: Store) -> Path:
    (part,) = (Path(store.root) / "metrics").glob("*.parquet")
    return part


def test_a_query_reads_only_the_columns_that_it_needs(tmp_path: Path) -> None:
    store = filled(str(tmp_path), "metrics", [[metric("s", "t", epoch, value=epoch / 7) for epoch in range(50)]])
    spoil(only_part(store), "value")

    assert run_query(store, "select max(epoch) as last from metrics").to_pylist() == [{"last": 49}]
    with pytest.warns(DamagedPart):
        assert run_query(store, "select max(value) as top from metrics").to_pylist() == [{"top": None}]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("condition", ["sweep = 'a'", "sweep in ('a', 'x')", "sweep = $sweep"])
def test_a_query_about_a_sweep_passes_over_the_row_groups_of_others(tmp_path: Path, condition: str) -> None:
    rows = [[metric(sweep, "t", epoch) for sweep in "ab"] for epoch in range(4)]
    store = filled(str(tmp_path), "metrics", rows)
    store.compact("metrics")
    for column in ("epoch", "value"):
        spoil(only_part(store), column, group=3)  # the last two epochs of b

    params = {"sweep": "a"} if "$" in condition else {}
    found = run_query(store, f"select epoch, value from metrics where {condition}", params)

    assert found["epoch"].to_pylist() == [0, 1, 2, 3]
    assert run_query(store, "select 1 from metrics", sweep="a").num_rows == 4


@pytest.mark.usefixtures("small")
def test_a_part_that_proves_damaged_in_a_later_block_is_passed_over_as_a_whole(tmp_path: Path) -> None:
    first = [metric("s", name, epoch) for name in ("t1", "t2", "t3") for epoch in range(2)]
    store = filled(str(tmp_path), "metrics", [first[:3], first[3:]])
    store.compact("metrics")
    spoil(only_part(store), "value", group=2)
    store.append("metrics", [metric("s", "t4", 9)])

    with pytest.warns(DamagedPart) as warned:
        assert run_query(store, "select trial, value from metrics")["trial"].to_pylist() == ["t4"]
    with pytest.warns(DamagedPart):
        assert store.table("metrics")["trial"].to_pylist() == ["t4"]
    assert len(warned) == 1


@pytest.mark.usefixtures("small")
def test_a_part_that_a_compaction_takes_between_two_blocks_costs_no_row_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [metric("s", f"t{number % 4}", number) for number in range(24)]
    store = filled(str(tmp_path), "metrics", [rows[start : start + 4] for start in range(0, 24, 4)])
    before = store.table("metrics")
    reading, calls = Snapshot.rows, []

    def interrupted(snapshot: Snapshot, *how: Any) -> pa.Table:
        calls.append(how)
        if len(calls) == 9:  # after the first look at each of six parts, and two blocks
            monkeypatch.setattr(Snapshot, "rows", reading)
            assert Store(tmp_path).compact("metrics") >= 6
        return reading(snapshot, *how)

    for ask in (lambda: store.table("metrics"), lambda: run_query(store, "from metrics")):
        calls.clear()
        monkeypatch.setattr(Snapshot, "rows", interrupted)
        assert sorted(shown(ask())) == sorted(shown(before))
        assert len(calls) >= 9
        for row in range(6):
            store.append("metrics", rows[4 * row : 4 * row + 4])


@pytest.mark.usefixtures("small")
def test_a_statement_that_names_a_view_twice_sees_the_same_rows_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(str(tmp_path), "metrics", [[metric("s", "t", epoch)] for epoch in range(5)])
    reading = Snapshot.rows

    def joined(snapshot: Snapshot, *how: Any) -> pa.Table:
        rows = reading(snapshot, *how)
        store.append("metrics", [metric("s", "t", 99)])
        return rows

    monkeypatch.setattr(Snapshot, "rows", joined)
    sql = "select (select count(*) from metrics) as one, (select count(*) from metrics_all) as other, count(*) as third"
    assert run_query(store, f"{sql} from metrics").to_pylist() == [{"one": 5, "other": 5, "third": 5}]


@pytest.mark.usefixtures("small")
def test_a_compaction_that_fails_between_two_blocks_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(
        str(tmp_path), "metrics", [[metric("s", f"t{each}", 1), metric("s", "t", each)] for each in range(6)]
    )
    before = sorted((tmp_path / "metrics").iterdir())
    reading, calls = Snapshot.rows, []

    def failing(snapshot: Snapshot, *how: Any) -> pa.Table:
        calls.append(how)
        if len(calls) > 8:
            raise MemoryError("no room for another block")
        return reading(snapshot, *how)

    monkeypatch.setattr(Snapshot, "rows", failing)
    with pytest.raises(MemoryError):
        store.compact("metrics")
    assert sorted((tmp_path / "metrics").iterdir()) == before


@pytest.mark.usefixtures("small")
def test_a_merged_part_is_one_whatever_the_number_of_its_blocks(tmp_path: Path) -> None:
    rows = [metric("s", f"t{number}", epoch) for number in range(5) for epoch in range(3)]
    store = filled(str(tmp_path), "metrics", [[row] for row in rows])

    assert store.compact("metrics") == 15
    assert pq.ParquetFile(only_part(store)).metadata.num_rows == 15
    assert pq.ParquetFile(only_part(store)).schema_arrow.field("sweep").type == pa.string()


def test_what_is_written_while_parts_are_merged_stays_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(str(tmp_path), "metrics", [[metric("s", name, 1)] for name in ("t3", "t1")])
    listed = store._parts("metrics")
    store.append("metrics", [metric("s", "t2", 1)])

    monkeypatch.setattr(store, "_parts", lambda table: listed)
    assert store.compact("metrics") == 2
    assert store.table("metrics")["trial"].to_pylist() == ["t3", "t1", "t2"]


@pytest.mark.usefixtures("small")
def test_a_block_has_its_number_of_rows_at_most_but_for_a_trial_with_more(tmp_path: Path) -> None:
    lengths = {"a": 1, "b": 1, "c": 2, "d": 5, "e": 1, "f": 1, "g": 1, "h": 1}
    rows = [metric("s", name, epoch) for name, length in lengths.items() for epoch in range(length)]
    store = filled(str(tmp_path), "metrics", [rows])

    found = [block["trial"].to_pylist() for block in blocks.view_blocks(Snapshot(store.place), "metrics")]

    assert found == [["a", "b"], ["c"] * 2, ["d"] * 5, ["e", "f", "g"], ["h"]]


def test_the_columns_of_an_expression_are_those_without_which_it_cannot_be_bound() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.float64())])

    assert referenced_columns(ds.field("a") == "x", schema) == {"a"}
    assert referenced_columns((ds.field("a") == "x") & (pc.field("c").is_valid() | (ds.field("b") > 1)), schema) == {
        *"abc"
    }
    assert referenced_columns(pc.scalar(True), schema) == set()
