"""Supervision without a cluster: what it notices, what it orders, and in which order it tells."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial

from search import supervision
from search.budgets import Budget
from search.control import request_stop
from search.errors import StoreError
from search.guard import Guard
from search.spec import SweepSpec, parse
from search.store import Store
from search.supervision import Announcer, Supervision

HEAD = ("127.0.0.1", 6379)


@dataclass
class Rows:
    """The part of a writer that supervision looks at."""

    failure: str | None = None
    writing_since: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    flushed: int = 0

    def add(self, table: str, rows: Sequence[dict[str, Any]], *, soon: bool = False) -> None:
        assert table == "events" and soon
        self.events.extend(rows)

    def flush(self, timeout: float = -1) -> None:
        self.flushed += 1
        if self.failure is not None:
            raise StoreError(self.failure)


@dataclass
class StandIn:
    """The part of a Tune trial that supervision looks at."""

    config: dict[str, Any]
    status: str
    last_result: dict[str, Any] | None
    max_failures: int = 3
    temporary_state: Any = field(default_factory=lambda: SimpleNamespace(ray_actor=object()))

    @classmethod
    def make(cls, name: str, epoch: int | None = None, status: str = Trial.RUNNING) -> "StandIn":
        result = None if epoch is None else {"epoch": epoch}
        return cls({"name": name, "cell": "c", "resources": (1, 0.5)}, status, result)


class World:
    """A sweep's surroundings, all of them in the test's hands."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        axes = {"model": ["vbpr"], "update": ["sam"]}
        raw = {"name": "s", "data": {"names": ["synthetic"]}, "axes": axes, "search": {"trials": 2}}
        self.spec: SweepSpec = parse({**raw, "space": {"tune": ["update"]}, **sections})
        self.store = Store(folder / "store", create=True)
        self.writer = Rows()
        self.said: list[str] = []
        self.lost = threading.Event()
        self.lease = SimpleNamespace(lost=False, renew=lambda: None, release=lambda: None)
        self.guard = Guard(Budget(self.spec.budget, ["c"]))
        self.recorder: Any = SimpleNamespace(writer=self.writer, results=0)
        writer: Any = self.writer
        self.announcer = Announcer("s", writer, self.said.append)
        lease: Any = self.lease
        self.supervision = Supervision(
            self.spec, self.store, lease, self.guard, self.recorder, self.announcer, self.lost.set
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        with self.supervision:
            yield
        assert not self.supervision._thread.is_alive()

    def show(self, *trials: StandIn) -> None:
        self.supervision.on_step_begin(0, list(trials))  # type: ignore[arg-type]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cluster that answers until it is told otherwise; whoever waits for it waits for moments only."""
    state = SimpleNamespace(answers=True, nodes=[(4.0, 1.0)])
    monkeypatch.setattr(supervision, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervision, "_head", lambda: HEAD)
    monkeypatch.setattr(supervision, "_answers", lambda place: state.answers)
    monkeypatch.setattr(supervision, "_nodes", lambda: state.nodes)
    monkeypatch.setattr(supervision, "_free", lambda: (4.0, 1.0))
    return state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    actors: list[Any] = []
    monkeypatch.setattr(ray, "kill", actors.append)
    return actors


def until(condition: Callable[[], object]) -> None:
    """Waits for another thread."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_events_are_in_the_order_in_which_they_happened_even_where_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hour = datetime(2026, 5, 1, 12, tzinfo=UTC)
    times = [hour, hour, hour - timedelta(days=1), hour + timedelta(hours=1)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return times.pop(0)

    monkeypatch.setattr(supervision, "datetime", Clock)
    writer: Any = Rows()
    announcer = Announcer("s", writer, lambda sentence: None)
    for kind in ("start", "warning", "stop", "end"):
        announcer.event(kind, kind)
    told = [event["at"] for event in writer.events]
    assert told == sorted(set(told)) and (told[0], told[3]) == (hour, hour + timedelta(hours=1))
    assert [event["kind"] for event in writer.events] == ["start", "warning", "stop", "end"]


def test_events_of_a_resume_come_after_those_of_before_whatever_the_clock_says() -> None:
    before = datetime.now(UTC) + timedelta(days=1)
    writer: Any = Rows()
    Announcer("s", writer, lambda sentence: None, after=before).event("resume", "went on")
    assert writer.events[0]["at"] > before


def test_an_event_is_a_row_that_the_store_takes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.announcer.event("warning", "beware")
    world.store.append("events", world.writer.events)
    (row,) = world.store.table("events").to_pylist()
    assert (row["sweep"], row["kind"], row["text"]) == ("s", "warning", "beware") and row["host"]


def test_a_warning_is_said_and_kept_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    for sentence in ("first", "second", "first"):
        world.announcer.warn(sentence)
    assert world.said == ["first", "second"] == [event["text"] for event in world.writer.events]


@pytest.mark.usefixtures("cluster")
def test_a_request_to_stop_reaches_the_guard_and_people_are_told_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.watched():
        time.sleep(0.05)
        assert world.guard.kind is None
        request_stop(world.store, "s")
        until(lambda: world.said)
        time.sleep(0.05)
    assert (world.guard.kind, world.guard.at_once) == ("stop", False)
    assert world.said == [f"{world.guard.reason}; running trials are stopped at their next checkpoint"]


@pytest.mark.usefixtures("cluster")
def test_a_store_that_fails_for_a_while_is_told_and_nothing_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.watched():
        for times in (1, 2):
            world.writer.failure = "the disk is full"
            until(lambda times=times: len(world.said) == times)
            time.sleep(0.05)
            world.writer.failure = None
            time.sleep(0.05)
    assert world.said == ["the disk is full; results are kept and written as soon as it can be"] * 2
    assert world.guard.kind is None


@pytest.mark.usefixtures("cluster")
def test_a_store_that_goes_on_failing_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "STORE_PATIENCE_SECONDS", 0.05)
    world = World(tmp_path)
    world.writer.failure = "the disk is full"
    with world.watched():
        until(lambda: world.guard.at_once)
        until(lambda: len(world.said) == 2)
    assert (world.guard.kind, world.guard.reason) == ("broken", "the disk is full")
    assert world.said[1] == "the disk is full; running trials are stopped now"


@pytest.mark.usefixtures("cluster")
def test_a_disk_that_does_not_answer_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(supervision.shutil, "disk_usage", refuse)
    monkeypatch.setattr(supervision, "STORE_PATIENCE_SECONDS", 0.05)
    world = World(tmp_path)
    world.writer.failure = "an error of the disk"
    with world.watched():
        until(lambda: world.guard.at_once)
    assert world.guard.reason == "an error of the disk"


@pytest.mark.usefixtures("cluster")
def test_a_sweep_that_another_driver_has_taken_over_ends_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.watched():
        world.lease.lost = True
        until(lambda: world.guard.at_once)
    assert world.guard.kind == "broken" and "another driver has taken the sweep over" in str(world.guard.reason)


def test_a_head_that_is_away_for_a_moment_ends_nothing(tmp_path: Path, cluster: SimpleNamespace) -> None:
    world = World(tmp_path)
    with world.watched():
        cluster.answers = False
        time.sleep(0.1)
        cluster.answers = True
        time.sleep(0.05)
    assert world.guard.kind is None and world.said == []


def test_a_head_that_stays_away_ends_the_sweep_and_then_the_process(
    tmp_path: Path, cluster: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_PATIENCE_SECONDS", "END_SECONDS"):
        monkeypatch.setattr(supervision, name, 0.05)
    world = World(tmp_path)
    with world.watched():
        cluster.answers = False
        until(world.lost.is_set)
    assert world.guard.kind == "broken" and world.guard.at_once
    assert str(world.guard.reason).startswith("the Ray cluster's head has not answered for ")
    assert world.writer.events[0]["kind"] == "broken" and world.writer.flushed
    assert world.said[0].endswith("; running trials are stopped now")


def test_a_lost_cluster_ends_the_process_even_where_the_store_fails_too(
    tmp_path: Path, cluster: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_PATIENCE_SECONDS", "END_SECONDS"):
        monkeypatch.setattr(supervision, name, 0.05)
    world = World(tmp_path)
    world.writer.failure = "the disk is full"
    with world.watched():
        cluster.answers = False
        until(world.lost.is_set)


@pytest.mark.usefixtures("cluster")
def test_a_full_disk_stops_trials_at_their_next_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path, watch={"disk_floor_gb": 1e9})
    with world.watched():
        until(lambda: world.guard.kind)
    assert (world.guard.kind, world.guard.at_once) == ("broken", False)
    assert "watch.disk_floor_gb" in str(world.guard.reason)


@pytest.mark.usefixtures("cluster")
def test_a_sweep_that_stands_still_is_warned_of_and_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, watch={"stall_minutes": 0.001})
    world.show(StandIn.make("t1", epoch=4), StandIn.make("t2", status=Trial.PENDING))
    with world.watched():
        until(lambda: world.said)
    assert "t1 has been in epoch 5" in world.said[0] and world.guard.kind is None
    assert world.writer.events[0]["kind"] == "warning"


def hanging(tmp_path: Path) -> World:
    return World(tmp_path, budget={"trial_minutes": 1})


LIMIT = 60 + supervision.HANG_GRACE_SECONDS


def test_a_trial_that_reports_nothing_is_marked_and_killed_once(
    tmp_path: Path, clock: list[float], killed: list[Any]
) -> None:
    world = hanging(tmp_path)
    silent, lively = StandIn.make("silent", epoch=2), StandIn.make("lively", epoch=2)
    for _ in range(3):
        world.show(silent, lively)
        clock[0] += LIMIT / 2
        lively.last_result = {"epoch": lively.last_result["epoch"] + 1}  # type: ignore[index]
    assert killed == []
    world.show(silent, lively)
    clock[0] += 10
    world.show(silent, lively)
    assert killed == [silent.temporary_state.ray_actor] and silent.max_failures == 0 and lively.max_failures == 3
    reason = "budget.trial_minutes: the trial reported nothing for 1 min and was ended"
    assert world.guard.ended == {"silent": ("failed", reason)} and world.said == [f"silent: {reason}"]


def test_a_trial_that_has_not_reported_yet_is_watched_from_its_start(
    tmp_path: Path, clock: list[float], killed: list[Any]
) -> None:
    world = hanging(tmp_path)
    trial = StandIn.make("t", status=Trial.PENDING)
    world.show(trial)
    clock[0] += 2 * LIMIT
    world.show(trial)
    trial.status = Trial.RUNNING
    clock[0] += 2 * LIMIT
    world.show(trial)
    clock[0] += LIMIT
    world.show(trial)
    assert killed == []
    clock[0] += 3
    world.show(trial)
    assert len(killed) == 1


def test_without_a_limit_no_trial_is_killed(tmp_path: Path, clock: list[float], killed: list[Any]) -> None:
    world = World(tmp_path)
    trial = StandIn.make("t", epoch=1)
    for _ in range(3):
        world.show(trial)
        clock[0] += 10**6
    assert killed == [] and world.guard.ended == {}


def test_a_trial_whose_worker_is_gone_already_is_marked(tmp_path: Path, clock: list[float], killed: list[Any]) -> None:
    world = hanging(tmp_path)
    trial = StandIn.make("t", epoch=1)
    trial.temporary_state.ray_actor = None
    for _ in range(2):
        world.show(trial)
        clock[0] += LIMIT + 1
    world.show(trial)
    assert killed == [] and list(world.guard.ended) == ["t"]


def test_wall_time_ends_a_sweep_in_which_no_result_arrives(tmp_path: Path, clock: list[float]) -> None:
    world = World(tmp_path, budget={"wall_hours": 1e-9})
    time.sleep(0.001)
    world.show(StandIn.make("t", epoch=1))
    assert world.guard.kind == "budget"


def test_trials_are_looked_at_every_few_seconds_only(tmp_path: Path, clock: list[float]) -> None:
    world = World(tmp_path)
    world.show(StandIn.make("first"))
    clock[0] += supervision.LOOK_SECONDS / 2
    world.show(StandIn.make("second"))
    assert list(world.supervision._running) == ["first"]
    clock[0] += supervision.LOOK_SECONDS
    world.show(StandIn.make("second"))
    assert list(world.supervision._running) == ["second"]
