"""The writer: no row is lost or written twice, nobody waits for a store, and what is due comes when it is due."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import writer as writing
from search.errors import StoreError
from search.parts import Snapshot
from search.schema import TABLES
from search.store import Store
from search.writer import ORDER, StoreWriter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Shaky(Store):
    """A real store that can be made to refuse, and keeps a list of what it took."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, create=True)
        self.refuses: Callable[[str], bool] = lambda table: False
        self.took: list[tuple[str, int]] = []
        self.tries = 0

    def append(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        self.tries += 1
        if self.refuses(table):
            raise StoreError("no space left on device")
        super().append(table, rows)
        self.took.append((table, len(rows)))


def param(number: int, trial: str = "t") -> dict[str, object]:
    return {"sweep": "s", "trial": trial, "name": f"p{number}", "number": float(number), "text": None, "tuned": True}


def metric(epoch: int) -> dict[str, object]:
    row: dict[str, object] = {"sweep": "s", "trial": "t", "attempt": 1, "epoch": epoch, "split": "train"}
    cost = {"gradient_evaluations": 1, "train_seconds": 1.0, "device_seconds": 1.0}
    return row | cost | {"metric": "loss", "value": 0.5}


def trial(status: str) -> dict[str, object]:
    texts = ("sweep", "trial", "cell", "dataset", "model", "objective", "update", "optimizer", "config_json", "metric")
    return dict.fromkeys(texts, "x") | {"attempt": 1, "seed": 1, "mode": "max", "started": NOW, "status": status}


@pytest.fixture
def store(tmp_path: Path) -> Shaky:
    return Shaky(tmp_path / "store")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread writes nothing by itself."""
    for name in ("FLUSH_SECONDS", "SOON_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(writing, name, 3600.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread writes and tries again all the time."""
    for name in ("FLUSH_SECONDS", "SOON_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(writing, name, 0.01)


@pytest.fixture
def begin(store: Shaky) -> Iterator[Callable[[], StoreWriter]]:
    begun: list[StoreWriter] = []

    def make() -> StoreWriter:
        begun.append(StoreWriter(store))
        return begun[-1]

    yield make
    store.refuses = lambda table: False
    for writer in begun:
        writer.close()


Begin = Callable[[], StoreWriter]


def until(condition: Callable[[], object]) -> None:
    """Waits for another thread."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(store: Store) -> list[str]:
    """The names of all stored parameters, a row that stands twice twice."""
    snapshot = Snapshot(store.place)
    return sorted(snapshot.rows("params", ["name"], None, snapshot.pieces("params", None))["name"].to_pylist())


def test_every_table_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted(TABLES) and ORDER[0] == "sweeps" and ORDER[-1] == "trials"


@pytest.mark.usefixtures("patient")
def test_nothing_is_written_before_its_time_and_all_of_it_at_a_flush(begin: Begin, store: Shaky) -> None:
    writer = begin()
    writer.add("params", [param(1), param(2)])
    writer.add("params", [param(3)])
    assert store.took == []
    writer.flush()
    writer.flush()
    assert store.took == [("params", 3)] and names(store) == ["p1", "p2", "p3"]


@pytest.mark.usefixtures("patient")
def test_what_a_trial_measured_is_written_before_its_end(begin: Begin, store: Shaky) -> None:
    writer = begin()
    event = {"sweep": "s", "at": NOW, "kind": "end", "text": "done", "host": None}
    rows = {"trials": trial("finished"), "metrics": metric(1), "events": event, "params": param(1)}
    for table, row in rows.items():
        writer.add(table, [row])
    writer.flush()
    assert [table for table, _ in store.took] == ["params", "metrics", "events", "trials"]


@pytest.mark.usefixtures("patient")
def test_an_end_that_could_be_written_waits_for_what_could_not(begin: Begin, store: Shaky) -> None:
    writer = begin()
    writer.add("trials", [trial("finished")])
    writer.add("metrics", [metric(1)])
    store.refuses = lambda table: table == "metrics"
    with pytest.raises(StoreError, match="no space left on device"):
        writer.flush()
    assert store.took == []


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["params", "metrics", "trials", "flush"]), st.sampled_from(["", *ORDER])), max_size=20
    )
)
def test_no_row_is_lost_or_written_twice_whatever_fails(
    steps: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Shaky(tmp_path_factory.mktemp("store"))
    writer = StoreWriter(store)
    makers = {"params": param, "metrics": metric, "trials": lambda n: trial("running")}
    added = dict.fromkeys(makers, 0)
    for number, (what, refused) in enumerate(steps):
        store.refuses = lambda table, refused=refused: table == refused  # type: ignore[misc]
        if what in makers:
            writer.add(what, [makers[what](number)])
            added[what] += 1
            continue
        try:
            writer.flush()
        except StoreError:
            assert refused
    store.refuses = lambda table: False
    writer.close()
    stored = {table: sum(rows for each, rows in store.took if each == table) for table in makers}
    assert stored == added


@pytest.mark.usefixtures("hasty")
def test_rows_survive_a_store_that_refuses_them_for_a_while(begin: Begin, store: Shaky) -> None:
    writer = begin()
    store.refuses = lambda table: True
    for number in range(20):
        writer.add("params", [param(number)], soon=True)
    until(lambda: writer.failure is not None and store.tries > 3)
    assert writer.failure == "no space left on device" and store.took == []
    store.refuses = lambda table: False
    until(lambda: writer.failure is None)
    assert len(names(store)) == 20


@pytest.mark.usefixtures("patient")
def test_rows_and_actions_that_come_while_a_write_fails_are_kept_behind_the_others(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, seen = begin(), list[int]()

    def refuse(table: str, rows: object) -> None:
        writer.add("params", [param(2)])
        writer.after(lambda: seen.append(2))
        raise StoreError("no space left on device")

    writer.add("params", [param(1)])
    writer.after(lambda: seen.append(1))
    with monkeypatch.context() as patch:
        patch.setattr(store, "append", refuse)
        with pytest.raises(StoreError):
            writer.flush()
    writer.flush()
    assert store.table("params")["name"].to_pylist() == ["p1", "p2"] and seen == [1, 2]


@pytest.mark.usefixtures("hasty")
def test_any_failure_is_known_and_the_rows_are_kept(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(table: str, rows: object) -> None:
        raise RuntimeError("something nobody thought of")

    with monkeypatch.context() as patch:
        patch.setattr(store, "append", break_down)
        writer = begin()
        writer.add("params", [param(1)])
        until(lambda: writer.failure == "something nobody thought of")
    until(lambda: writer.failure is None)
    assert names(store) == ["p1"]


@pytest.mark.usefixtures("hasty")
def test_adding_does_not_wait_for_a_write_that_hangs(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on, append = threading.Event(), threading.Event(), store.append

    def hang(table: str, rows: Sequence[Mapping[str, object]]) -> None:
        hangs.set()
        assert goes_on.wait(30)
        append(table, rows)

    monkeypatch.setattr(store, "append", hang)
    writer = begin()
    writer.add("params", [param(0)])
    assert hangs.wait(30)
    for number in range(1, 100):
        writer.add("params", [param(number)], soon=True)
    writer.after(lambda: None)
    assert writer.failure is None and store.took == []
    goes_on.set()
    writer.flush()
    assert len(names(store)) == 100


def test_a_row_that_is_wanted_soon_does_not_wait_for_the_others_time(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 3600.0)
    writer = begin()
    writer.add("params", [param(1)])
    writer.add("params", [param(2)], soon=True)
    until(lambda: store.took)
    assert store.took == [("params", 2)]
    writer.add("params", [param(3)], soon=True)
    until(lambda: len(store.took) == 2)


def test_a_row_that_is_wanted_soon_while_another_is_written_does_not_wait_for_long(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 3600.0)
    append, first = store.append, [True]

    def add_meanwhile(table: str, rows: Sequence[Mapping[str, object]]) -> None:
        if first:
            first.clear()
            writer.add("params", [param(2)], soon=True)
        append(table, rows)

    monkeypatch.setattr(store, "append", add_meanwhile)
    writer = begin()
    writer.add("params", [param(1)], soon=True)
    until(lambda: len(store.took) == 2)


@pytest.mark.usefixtures("patient")
def test_an_action_comes_after_the_rows_that_were_added_before_it(begin: Begin, store: Shaky) -> None:
    writer = begin()
    seen: list[Any] = []
    writer.add("params", [param(1)])
    writer.after(lambda: seen.append(names(store)))
    store.refuses = lambda table: True
    for _ in range(2):
        with pytest.raises(StoreError):
            writer.flush()
    assert seen == []
    store.refuses = lambda table: False
    writer.flush()
    writer.flush()
    assert seen == [["p1"]]


@pytest.mark.usefixtures("patient")
def test_actions_keep_their_order_over_failures_and_a_failing_one_is_passed_over(begin: Begin, store: Shaky) -> None:
    writer = begin()
    seen: list[int] = []

    def fail() -> None:
        raise PermissionError("not allowed")

    writer.add("params", [param(1)])
    writer.after(lambda: seen.append(1))
    store.refuses = lambda table: True
    with pytest.raises(StoreError):
        writer.flush()
    writer.after(fail)
    writer.after(lambda: seen.append(2))
    store.refuses = lambda table: False
    writer.flush()
    assert seen == [1, 2] and writer.failure is None


def test_an_end_writes_what_is_left_and_ends_the_thread(store: Shaky) -> None:
    writer = StoreWriter(store)
    writer.add("params", [param(1)])
    writer.close()
    assert names(store) == ["p1"] and not writer._thread.is_alive()


def test_an_end_that_cannot_write_says_so(store: Shaky) -> None:
    writer = StoreWriter(store)
    writer.add("params", [param(1)])
    store.refuses = lambda table: True
    with pytest.raises(StoreError, match=r"^no space left on device$"):
        writer.close()
    assert not writer._thread.is_alive()
    store.refuses = lambda table: False
    writer.close()
    assert names(store) == ["p1"]


@pytest.mark.usefixtures("patient")
def test_many_rows_are_written_in_parts_and_a_failure_between_parts_repeats_none(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PART_ROWS", 4)
    writer = begin()
    writer.add("params", [param(number) for number in range(10)])
    store.refuses = lambda table: len(store.took) == 2
    with pytest.raises(StoreError):
        writer.flush()
    assert [rows for _, rows in store.took] == [4, 4]
    writer.add("params", [param(10)])
    store.refuses = lambda table: False
    writer.flush()
    assert [rows for _, rows in store.took] == [4, 4, 3] and len(set(names(store))) == len(names(store)) == 11


@pytest.mark.usefixtures("patient")
def test_many_small_parts_are_merged_and_large_ones_left(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "COMPACT_PARTS", 5)
    writer = begin()
    writer.add("params", [param(number, f"{number:0600}") for number in range(20_000)])
    writer.flush()
    (large,) = store._parts("params")
    monkeypatch.setattr(writing, "COMPACT_BYTES", store._parts("params")[large] - 1)
    for number in range(3):
        writer.add("params", [param(number)])
        writer.flush()
    assert len(store._parts("params")) == 4
    writer.add("params", [param(3)])
    writer.flush()
    assert len(store._parts("params")) == 2 and large in store._parts("params")
    for number in range(4, 8):
        writer.add("params", [param(number)])
        writer.flush()
    assert len(store._parts("params")) == 6 and len(store.table("params")) == 20_008


@pytest.mark.usefixtures("patient")
def test_a_merge_that_fails_loses_nothing_and_is_no_failure(
    begin: Begin, store: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "COMPACT_PARTS", 1)

    def refuse(table: str, **how: object) -> int:
        raise StoreError("no space to merge in")

    monkeypatch.setattr(store, "compact", refuse)
    writer = begin()
    for number in range(3):
        writer.add("params", [param(number)])
        writer.flush()
    assert names(store) == ["p0", "p1", "p2"] and writer.failure is None
