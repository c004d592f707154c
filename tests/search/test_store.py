"""The store: whole parts or none, every row once, and a sentence for all that can go wrong."""

import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from search import schema
from search.errors import StoreError
from search.store import DamagedPart, Store

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def sweep(name: str = "quickstart", **changes: object) -> dict[str, object]:
    return {"sweep": name, "digest": "d1", "spec_json": "{}", "started": NOW} | changes


def trial(
    name: str = "vbpr-sam-00000001", attempt: int = 1, status: str = "finished", **changes: object
) -> dict[str, object]:
    texts = {"dataset": "baby", "model": "vbpr", "objective": "plain", "update": "sam", "optimizer": "adam"}
    return {
        "sweep": "quickstart",
        "trial": name,
        "attempt": attempt,
        "cell": "/".join(texts.values()),
        "seed": 999,
        "status": status,
        "config_json": "{}",
        "metric": "recall@20",
        "mode": "max",
        "started": NOW,
        **texts,
        **changes,
    }


def metric(epoch: int, value: float, attempt: int = 1, **changes: object) -> dict[str, object]:
    return {
        "sweep": "quickstart",
        "trial": "vbpr-sam-00000001",
        "attempt": attempt,
        "epoch": epoch,
        "split": "valid",
        "metric": "recall@20",
        "value": value,
        "gradient_evaluations": 8 * epoch,
        "train_seconds": 0.5 * epoch,
        "device_seconds": 0.25 * epoch,
    } | changes


def param(name: str, number: float | None = None, text: str | None = None, **changes: object) -> dict[str, object]:
    values = {"name": name, "number": number, "text": text, "tuned": True}
    return {"sweep": "quickstart", "trial": "vbpr-sam-00000001"} | values | changes


def parts(store: Store, table: str) -> list[Path]:
    return sorted((Path(store.root) / table).glob("*.parquet"))


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `code` with our packages and the arguments in sys.argv."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


@pytest.fixture(params=["folder", "file uri", "object store", "subtree"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "store"), create=True)
    if request.param == "file uri":
        return Store(f"file://{tmp_path}/a%20store/", create=True)
    if request.param == "subtree":
        return Store("store", create=True, filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    memory = fs.PyFileSystem(fs.FSSpecHandler(MemoryFileSystem()))
    return Store(f"bucket-{uuid4().hex}/results", create=True, filesystem=memory)


VALUES: Mapping[pa.DataType, st.SearchStrategy[object]] = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.timestamp("us", tz="UTC"): st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
}
# Those that leave nothing out.
WHOLE_VIEWS = ("sweeps", "trials_all", "params", "metrics_all", "confirmations", "protocols_all")


def value_of(column: schema.Column) -> st.SearchStrategy[object]:
    given_value = st.sampled_from(column.allowed) if column.allowed else VALUES[column.type]
    return given_value | st.none() if column.nullable else given_value


def rows_of(view: str) -> st.SearchStrategy[list[dict[str, object]]]:
    """Rows that differ in their identity, so that all of them must come back."""
    columns = schema.TABLES[schema.VIEWS[view].table][:-1]
    return st.lists(
        st.fixed_dictionaries({each.name: value_of(each) for each in columns}),
        max_size=6,
        unique_by=lambda row: tuple(row[name] for name in schema.VIEWS[view].identity),
    )


def comparable(row: Mapping[str, object]) -> str:
    """The row as text: NaN equals itself, and 0.0 differs from -0.0."""
    cells = {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value for name, value in row.items()
    }
    return repr(sorted((name, value) for name, value in cells.items() if name != "written"))


@pytest.mark.parametrize("view", WHOLE_VIEWS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_row_comes_back_with_every_value(view: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(view))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        half = len(rows) // 2
        store.append(schema.VIEWS[view].table, rows[:half])
        store.append(schema.VIEWS[view].table, rows[half:])

        back = store.table(view)

    assert sorted(map(comparable, back.to_pylist())) == sorted(map(comparable, rows))
    assert back.schema.equals(schema.reading_schema(schema.VIEWS[view].table), check_metadata=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.integers(1, 3),
            st.sampled_from(["running", "finished", "lost"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_of_several_rows_of_an_attempt_the_last_written_end_counts_and_of_several_attempts_the_last(
    written: list[tuple[str, int, str, bool]],
) -> None:
    ranked: dict[tuple[str, int], tuple[bool, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = [Store(folder, create=True), Store(folder)]
        for number, (name, attempt, status, second_driver) in enumerate(written):
            stores[second_driver].append("trials", [trial(name, attempt, status, epochs=number)])
            ranked[name, attempt] = max(ranked.get((name, attempt), (False, -1)), (status != "running", number))
        attempts = stores[0].table("trials_all").select(["trial", "attempt", "epochs"]).to_pylist()
        trials = stores[0].table("trials").select(["trial", "epochs"]).to_pylist()

    last = {key: number for key, (_, number) in ranked.items()}
    assert {(row["trial"], row["attempt"]): row["epochs"] for row in attempts} == last
    assert len(attempts) == len(last)
    newest = {name: last[name, max(attempt for other, attempt in last if other == name)] for name, _ in last}
    assert {row["trial"]: row["epochs"] for row in trials} == newest
    assert len(trials) == len(newest)


def test_a_trial_that_ended_shows_its_end_and_not_its_start(store: Store) -> None:
    store.append("trials", [trial(status="running", best_score=None)])
    store.append("trials", [trial(status="pruned", best_score=0.25)])

    assert store.table("trials").select(["status", "best_score"]).to_pylist() == [
        {"status": "pruned", "best_score": 0.25}
    ]


def test_of_two_rows_written_in_the_same_microsecond_the_final_one_counts(store: Store) -> None:
    for order, statuses in enumerate((["running", "finished"], ["finished", "running"])):
        store.append("trials", [trial(f"t{order}", status=status) for status in statuses])

    assert store.table("trials")["status"].to_pylist() == ["finished", "finished"]


def test_a_resumed_attempt_replaces_only_the_epochs_that_it_reached(store: Store) -> None:
    store.append("metrics", [metric(epoch, 0.1 * epoch, attempt=1) for epoch in (1, 2, 3, 4)])
    store.append("metrics", [metric(epoch, -0.1 * epoch, attempt=2) for epoch in (3,)])

    values = store.table("metrics").select(["epoch", "attempt", "value"]).to_pylist()

    assert [(row["epoch"], row["attempt"]) for row in values] == [(1, 1), (2, 1), (3, 2), (4, 1)]
    assert [row["value"] for row in values] == [0.1, 0.2, -0.1 * 3, 0.4]
    assert len(store.table("metrics_all")) == 5


def test_rows_that_two_drivers_wrote_alike_are_read_once(tmp_path: Path) -> None:
    rows = {
        "sweeps": [sweep()],
        "trials": [trial()],
        "params": [param("update.rho", 0.1)],
        "metrics": [metric(1, 0.5), metric(2, 0.6)],
        "confirmations": [
            {key: metric(1, 0.5)[key] for key in ("sweep", "trial", "split", "metric", "value")}
            | {"seed": 1, "candidates": 4}
        ],
    }
    for _ in range(2):
        for table, alike in rows.items():
            Store(tmp_path, create=True).append(table, alike)

    store = Store(tmp_path)
    assert {table: len(store.table(table)) for table in rows} == {table: len(alike) for table, alike in rows.items()}


def test_rows_are_kept_apart_by_sweep(store: Store) -> None:
    store.append("metrics", [metric(1, 0.1), metric(1, 0.2, sweep="other"), metric(2, 0.3, sweep="other")])

    assert store.table("metrics", "other")["value"].to_pylist() == [0.2, 0.3]
    assert store.table("metrics", "quickstart")["value"].to_pylist() == [0.1]
    assert len(store.table("metrics", "nothing")) == 0


def test_epochs_come_in_order_whatever_the_order_of_writing(store: Store) -> None:
    for epoch in (10, 2, 9, 1):
        store.append("metrics", [metric(epoch, 0.0)])

    assert store.table("metrics")["epoch"].to_pylist() == [1, 2, 9, 10]


def test_each_append_is_written_later_than_the_one_before(store: Store) -> None:
    for epoch in range(30):
        store.append("metrics", [metric(epoch, 0.0)])

    written = store.table("metrics")["written"].to_pylist()
    assert all(earlier < later for earlier, later in itertools.pairwise(written))


def test_an_append_of_no_rows_adds_no_part(store: Store) -> None:
    store.append("metrics", [])

    assert parts(store, "metrics") == []


def test_a_refused_row_keeps_its_whole_batch_out(store: Store) -> None:
    with pytest.raises(StoreError, match=r"`metrics\.value` must be given"):
        store.append("metrics", [metric(1, 0.5), metric(2, 0.5) | {"value": None}])

    assert parts(store, "metrics") == []


@pytest.mark.parametrize("view", schema.VIEWS)
def test_a_store_without_parts_has_empty_views_with_all_columns(store: Store, view: str) -> None:
    empty = store.table(view)

    assert empty.num_rows == 0
    assert empty.schema.equals(schema.reading_schema(schema.VIEWS[view].table), check_metadata=True)
    assert list(store.frame(view).columns) == empty.column_names


def test_an_unknown_view_is_refused_with_the_nearest_name(store: Store) -> None:
    with pytest.raises(StoreError, match="no view `trails`; the nearest is `trials`"):
        store.table("trails")


def test_a_frame_holds_numbers_texts_and_times(store: Store) -> None:
    store.append("trials", [trial(epochs=7), trial("other", epochs=None, best_score=None)])

    frame = store.frame("trials")

    assert frame["trial"].tolist() == ["vbpr-sam-00000001", "other"]
    assert frame["seed"].dtype == "int64"
    assert frame["epochs"][0] == 7 and math.isnan(frame["epochs"][1])
    assert frame["started"][0] == NOW


def test_parameters_stand_beside_their_trials_numbers_as_double_and_texts_as_string(store: Store) -> None:
    store.append("trials", [trial("a", seed=1), trial("b", seed=2)])
    store.append("params", [param("update.rho", 0.1, trial="a"), param("update.rho", 0.2, trial="b")])
    store.append("params", [param("update.distance", text="l1", trial="b"), param("seed", 5.0, trial="a")])
    store.append("params", [param("mixed", 1.5, trial="a"), param("mixed", text="auto", trial="b")])
    store.append("params", [param("update.rho", 9.0, trial="a", sweep="elsewhere"), param("x", 1.0, trial="no trial")])

    wide = store.table("trials_wide")

    assert wide.column_names == [*store.table("trials").column_names, "mixed", "update.distance", "update.rho"]
    assert wide["update.rho"].to_pylist() == [0.1, 0.2]
    assert wide["update.distance"].to_pylist() == [None, "l1"]
    assert wide["mixed"].to_pylist() == ["1.5", "auto"]
    assert wide["seed"].to_pylist() == [1, 2]
    assert (wide.schema.field("update.rho").type, wide.schema.field("mixed").type) == (pa.float64(), pa.string())


def measurement(value: float, settings: str = "a", **changes: object) -> dict[str, object]:
    place = {"protocol": "landscape", "seed": 999, "subject": "filter_norm", "phase": "", "level": "", "draw": 0}
    plain = {"sweep": "quickstart", "trial": "vbpr-sam-00000001", "cell": "baby/vbpr/plain/sam/adam", "point": 0}
    cost = {"gradient_evaluations": 80, "train_seconds": 2.5, "split": "train", "metric": "loss"}
    return {**plain, **place, **cost, "settings": settings, "value": value, **changes}


def test_a_protocol_measured_anew_under_other_settings_replaces_all_that_it_measured_before(store: Store) -> None:
    other = {"subject": "paper"}
    store.append("protocols", [measurement(float(point), point=point) for point in range(9)])
    store.append("protocols", [measurement(7.0, **other)])
    store.append("protocols", [measurement(10.0 + point, "b", point=point) for point in range(4)])

    rows = store.table("protocols")

    # A grid of four points has no fifth one; the other subject and what is stored of the first grid stay as they are.
    assert sorted(rows["value"].to_pylist()) == [7.0, 10.0, 11.0, 12.0, 13.0]
    assert store.table("protocols_all").num_rows == 14
    store.append("protocols", [measurement(20.0 + point, point=point) for point in range(9)])
    assert sorted(store.table("protocols")["value"].to_pylist()) == [7.0, *(20.0 + point for point in range(9))]


@pytest.mark.parametrize(
    "change",
    [
        {"sweep": "elsewhere"},
        {"trial": "other"},
        {"protocol": "robustness"},
        {"seed": 1},
        {"split_seed": 999},
        {"subject": "paper"},
        {"phase": "test"},
    ],
    ids=str,
)
def test_other_settings_replace_only_what_was_measured_of_the_same(change: dict[str, object], store: Store) -> None:
    store.append("protocols", [measurement(1.0), measurement(2.0, "b", **change)])

    assert sorted(store.table("protocols")["value"].to_pylist()) == [1.0, 2.0]


def test_compaction_keeps_measurements_under_earlier_settings(store: Store) -> None:
    for known, value in (("a", 1.0), ("b", 2.0), ("b", 3.0)):
        store.append("protocols", [measurement(value, known)])

    assert store.compact("protocols") == 3
    assert [row["value"] for row in store.table("protocols").to_pylist()] == [3.0]
    assert sorted(store.table("protocols_all")["value"].to_pylist()) == [1.0, 3.0]


def test_no_protocol_can_hold_a_test_score(store: Store) -> None:
    with pytest.raises(StoreError, match=r"`protocols\.split` must be one of train, valid, but got 'test'"):
        store.append("protocols", [measurement(1.0, split="test")])


WRITER = """
import sys
from search.store import Store
store, writer = Store(sys.argv[1]), int(sys.argv[2])
for part in range(25):
    row = {"sweep": f"s{writer}", "trial": f"t{part}", "attempt": 1, "split": "valid", "metric": "m",
           "value": 0.5, "train_seconds": 1.0, "device_seconds": 1.0}
    rows = [row | {"epoch": epoch, "gradient_evaluations": 10_000 * part + epoch} for epoch in range(10_000)]
    for _ in range(2 if part == 7 else 1):  # a retry of a write that had arrived
        store.append("metrics", rows)
"""
COMPACTOR = """
import sys, time
from search.store import Store
while Store(sys.argv[1]).sweep_names() == []:
    print(Store(sys.argv[1]).compact("metrics"), flush=True)
    time.sleep(0.2)
"""


@pytest.mark.slow
def test_a_million_rows_of_four_processes_arrive_once_while_a_fifth_compacts(store: Store) -> None:
    writers = [child(WRITER, store.root, number) for number in range(4)]
    compactor = child(COMPACTOR, store.root)
    seen = 0
    while any(each.poll() is None for each in writers):
        (count,) = store.sql("select count(*) from metrics").iloc[0]
        assert count >= seen, "a reader must never see fewer rows than before"
        seen = count
    store.append("sweeps", [sweep("the end")])

    merged = [int(line) for line in compactor.communicate()[0].split()]
    assert [(each.wait(), each.communicate()[1]) for each in writers] == [(0, "")] * 4
    assert compactor.returncode == 0 and sum(merged) > 0
    epochs = 10_000 * np.arange(25)[:, None] + np.arange(10_000)
    for number in range(4):
        found = store.table("metrics", f"s{number}")
        assert found["gradient_evaluations"].to_numpy().tolist() == epochs.ravel().tolist()
    assert len(store.table("metrics")) == 1_000_000


def test_a_writer_killed_while_it_writes_leaves_nothing_that_readers_see(store: Store) -> None:
    store.append("sweeps", [sweep("whole")])
    code = """
import datetime, os, signal, sys
from search.store import Store
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
now = datetime.datetime.now(datetime.UTC)
Store(sys.argv[1]).append("sweeps", [{"sweep": "torn", "digest": "d", "spec_json": "{}", "started": now}])
"""
    killed = child(code, store.root)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    left = [path.name for path in (Path(store.root) / "sweeps").iterdir()]
    assert sorted(name.endswith(".tmp") for name in left) == [False, True]
    assert store.sweep_names() == ["whole"]
    store.append("sweeps", [sweep("later")])
    assert sorted(store.sweep_names()) == ["later", "whole"]


def test_a_disk_without_room_is_an_error_and_leaves_no_file(store: Store) -> None:
    code = """
import datetime, resource, sys
from search.errors import StoreError
from search.store import Store
store = Store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
now = datetime.datetime.now(datetime.UTC)
try:
    store.append("sweeps", [{"sweep": "s", "digest": "d", "spec_json": "{}", "started": now}])
except StoreError as error:
    print(error)
"""
    said, failed = child(code, store.root).communicate()

    assert failed == ""
    assert said.strip() == f"the result store {store.root} cannot be written: File too large"
    assert list((Path(store.root) / "sweeps").iterdir()) == []


def test_a_missing_store_is_an_error_unless_it_is_to_be_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"there is no result store at {tmp_path}/none"):
        Store(tmp_path / "none")

    assert not (tmp_path / "none").exists()
    Store(tmp_path / "none", create=True)
    assert Store(tmp_path / "none").sweep_names() == []


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_no_store(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StoreError, match=f"must be a folder, but {tmp_path}/file is a file"):
        Store(tmp_path / "file", create=create)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StoreError, match=f"the result store {tmp_path}/file/store cannot be .*: Not a directory"):
        Store(tmp_path / "file" / "store", create=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc refuses new files even to root, where there is one")
def test_a_folder_that_cannot_be_written_is_an_error_with_its_name_and_the_reason() -> None:
    with pytest.raises(StoreError, match=r"the result store /proc/self cannot be written: \w"):
        Store("/proc/self", create=True)


def test_an_address_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(StoreError, match=r"ftp://host/store is not at an address that can be opened"):
        Store("ftp://host/store")


def test_credentials_in_an_address_stay_out_of_messages() -> None:
    with pytest.raises(StoreError, match=r"^the result store ftp://host/store is not at .*: .*ftp://host/store$"):
        Store("ftp://key:secret@host/store")


def damage(part: Path, kind: str) -> None:
    content = bytearray(part.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content = bytearray()
    elif kind == "flipped":
        content[40] ^= 0xFF  # within the first column's data
    part.write_bytes(content)


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped"])
def test_a_damaged_part_is_named_and_passed_over(store: Store, kind: str) -> None:
    for epoch in range(3):
        store.append("metrics", [metric(epoch, 0.5)])
    victim = parts(store, "metrics")[1]
    damage(victim, kind)

    with pytest.warns(DamagedPart, match=f"the part {victim} of the result store is damaged and passed over: "):
        rows = store.table("metrics")
    assert rows["epoch"].to_pylist() == [0, 2]


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped"])
def test_a_damaged_part_is_neither_merged_nor_deleted(store: Store, kind: str) -> None:
    for epoch in range(4):
        store.append("metrics", [metric(epoch, 0.5)])
    victim = parts(store, "metrics")[2]
    damage(victim, kind)
    content = victim.read_bytes()

    assert store.compact("metrics") == 3
    assert victim.read_bytes() == content and len(parts(store, "metrics")) == 2
    with pytest.warns(DamagedPart):
        assert store.table("metrics")["epoch"].to_pylist() == [0, 1, 3]


def test_a_file_that_is_no_part_of_this_table_is_named_and_passed_over(store: Store) -> None:
    store.append("metrics", [metric(1, 0.5)])
    pq.write_table(pa.table({"sweep": ["s"]}), Path(store.root) / "metrics" / "foreign.parquet")

    with pytest.warns(DamagedPart, match=r"metrics/foreign\.parquet .* was not written by recsweep as a part of"):
        assert len(store.table("metrics")) == 1


def test_a_part_whose_bytes_cannot_be_had_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network that fails looks like: nothing may be taken for damaged then."""
    store.append("metrics", [metric(1, 0.5)])

    damage(parts(store, "metrics")[0], "truncated")

    def fail(name: str) -> bytes:
        raise OSError("the network is down")

    monkeypatch.setattr(store.place, "read", fail)
    with pytest.raises(StoreError, match="cannot be read: the network is down"):
        store.table("metrics")


def with_version(part: Path, version: int, without: Sequence[str] = ()) -> None:
    """Rewrites a part as if another version of the schema had written it."""
    rows = pq.read_table(part).drop_columns(list(without))
    pq.write_table(
        rows.replace_schema_metadata({**rows.schema.metadata, b"recsweep.schema_version": str(version)}), part
    )


def test_columns_that_an_older_schema_did_not_have_are_null(store: Store) -> None:
    for name in ("old", "new"):
        store.append("trials", [trial(name, seed=5, epochs=3)])
    with_version(parts(store, "trials")[0], 0, without=["seed", "epochs", "energy_joules"])

    rows = store.table("trials").select(["trial", "seed", "epochs"]).to_pylist()

    assert rows == [{"trial": "old", "seed": None, "epochs": None}, {"trial": "new", "seed": 5, "epochs": 3}]


def test_a_part_of_a_newer_schema_is_refused_with_both_versions(store: Store) -> None:
    store.append("trials", [trial()])
    with_version(parts(store, "trials")[0], schema.SCHEMA_VERSION + 1)

    found = schema.SCHEMA_VERSION + 1
    with pytest.raises(StoreError, match=f"schema version is {found}, but this recsweep reads up to {found - 1}"):
        store.table("trials")


def test_a_sweep_is_also_known_by_the_job_that_drove_it(store: Store) -> None:
    starts = [("s", "job-1"), ("s-2", "job-2"), ("s", "job-3")]
    rows = [sweep(name, started=NOW.replace(hour=hour)) | {"job": job} for hour, (name, job) in enumerate(starts)]
    store.append("sweeps", rows)
    assert [store.resolve(name) for name in ("job-1", "job-2", "job-3", "s", None)] == ["s", "s-2", "s", "s", "s"]


def test_sweeps_are_listed_by_their_first_start_and_the_latest_is_the_last_one_started_or_resumed(store: Store) -> None:
    store.append("sweeps", [sweep("b", started=NOW.replace(hour=5)), sweep("a", started=NOW.replace(hour=4))])
    assert (store.sweep_names(), store.resolve(None)) == (["a", "b"], "b")

    store.append("sweeps", [sweep("a", started=NOW.replace(hour=6))])

    assert (store.sweep_names(), store.resolve(None), store.resolve("b")) == (["a", "b"], "a", "b")


def test_an_unknown_sweep_is_an_error_with_the_nearest_name(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no sweep yet"):
        store.resolve(None)

    store.append("sweeps", [sweep("quickstart")])

    with pytest.raises(StoreError, match="no sweep `quickstrat`; the nearest is `quickstart`"):
        store.resolve("quickstrat")


def test_a_taken_sweep_name_gets_a_number(any_store: Store) -> None:
    any_store.append("sweeps", [sweep("known"), sweep("known-2")])

    assert [any_store.claim("quickstart") for _ in range(3)] == ["quickstart", "quickstart-2", "quickstart-3"]
    assert any_store.claim("known") == "known-3"


def test_a_sweep_name_is_given_once_however_many_ask_at_once(any_store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: any_store.claim("sweep"), range(24)))

    assert len(set(names)) == 24


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_a_sweep_name_that_is_no_plain_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="a sweep name must be up to 100 letters"):
        store.claim(name)


def test_rows_come_back_from_every_kind_of_file_system(any_store: Store) -> None:
    any_store.append("metrics", [metric(1, 0.5)])
    any_store.append("metrics", [metric(2, 0.25)])
    any_store.append("sweeps", [sweep()])

    assert any_store.table("metrics", "quickstart")["value"].to_pylist() == [0.5, 0.25]
    assert any_store.resolve(None) == "quickstart"
    assert any_store.compact("metrics") == 2
    assert any_store.table("metrics")["value"].to_pylist() == [0.5, 0.25]


def test_a_store_survives_pickling_as_tune_pickles_its_callbacks(store: Store) -> None:
    store.append("metrics", [metric(1, 0.5)])

    other = pickle.loads(pickle.dumps(store))
    other.append("metrics", [metric(2, 0.25)])

    assert store.table("metrics")["value"].to_pylist() == other.table("metrics")["value"].to_pylist() == [0.5, 0.25]


def test_a_compaction_changes_nothing_that_a_reader_sees(store: Store) -> None:
    for attempt in (1, 2):
        for status in ("running", "finished"):
            store.append("trials", [trial("a", attempt, status), trial("b", attempt, status)])
    before = {view: store.table(view) for view in ("trials", "trials_all")}

    assert (store.compact("trials"), store.compact("trials")) == (4, 0)

    assert len(parts(store, "trials")) == 1
    assert all(store.table(view).equals(rows) for view, rows in before.items())


def test_large_parts_are_left_out_of_a_compaction(store: Store) -> None:
    for epoch in (1, 2):
        store.append("metrics", [metric(epoch, 0.5)])

    assert store.compact("metrics", largest_bytes=10) == 0
    assert len(parts(store, "metrics")) == 2


@pytest.mark.slow
def test_no_row_is_missing_or_double_while_parts_are_compacted_and_added(store: Store) -> None:
    stop = threading.Event()
    code = """
import sys
from search.store import Store
for _ in range(40):
    Store(sys.argv[1]).compact("metrics")
"""
    store.append("metrics", [metric(0, 0.5)])
    compactors = [child(code, store.root) for _ in range(2)]

    def read() -> list[list[int]]:
        seen = []
        while not stop.is_set():
            seen.append(store.table("metrics")["epoch"].to_pylist())
        return seen

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        epoch = 0
        while any(each.poll() is None for each in compactors):
            epoch += 1
            store.append("metrics", [metric(epoch, 0.5)])
        stop.set()

    assert [(each.wait(), each.communicate()[1]) for each in compactors] == [(0, "")] * 2
    seen = [*reading.result(), store.table("metrics")["epoch"].to_pylist()]
    assert all(epochs == list(range(len(epochs))) for epochs in seen)
    assert [len(epochs) for epochs in seen] == sorted(len(epochs) for epochs in seen)
    assert len(seen[-1]) == epoch + 1
