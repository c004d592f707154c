"""`stop` and `logs` on stores with made-up sweeps, driven by real processes."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from search.commands import running
from search.control import Lease, driver_of, stop_requested
from search.errors import SearchError
from search.store import Store

ROOT = Path(__file__).parents[3]
CELL = "lfm2k/vbpr/plain/sam/adam"

DRIVER = """
import sys, time
from search.control import Lease, stop_requested
from search.store import Store
store = Store(sys.argv[1])
lease = Lease.take(store, "sample")
print("driving", flush=True)
end = time.monotonic() + 60
while not stop_requested(store, "sample"):
    time.sleep(0.05)
    assert time.monotonic() < end, "nobody asked"
if sys.argv[2] == "releases":
    lease.release()
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0.05)


@pytest.fixture
def writer(new_sweep: Callable[..., Any]) -> Any:
    writer = new_sweep()
    writer.trial(CELL, 0.31234, trial="vbpr-sam-a", epochs=12)
    writer.trial(CELL, None, trial="vbpr-sam-b", status="failed", epochs=3, error="Traceback\nOSError: no disk\n")
    writer.trial(CELL, None, trial="vbpr-sam-c", status="running", ended=None)
    return writer


@pytest.fixture
def store(writer: Any) -> Store:
    return writer.store


@contextmanager
def driver(store: Store, how: str) -> "Iterator[subprocess.Popen[str]]":
    """Another process that drives the sweep until it is asked to stop."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", DRIVER, store.root, how],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "driving\n"
        yield process


@pytest.mark.parametrize(("how", "said"), [("releases", "sample has stopped."), ("dies", "is gone; sample has")])
def test_stop_asks_the_driver_and_waits_for_it(
    store: Store, how: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with driver(store, how) as process:
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        assert running.stop("sample", store=store.root, wait=True) == 0
        reaper.join()

    assert process.returncode == 0
    found = driver_of(store, "sample")
    assert found is None or not found.alive
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Asked process {process.pid} on host {os.uname().nodename} to stop sample: ")
    assert said in last


def test_stop_without_waiting_returns_while_the_driver_lives(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lease = Lease.take(store, "sample")

    assert running.stop("sample", store=store.root) == 0

    assert stop_requested(store, "sample")
    assert len(capsys.readouterr().out.splitlines()) == 1
    lease.release()


def test_what_does_not_run_cannot_be_stopped(store: Store) -> None:
    with pytest.raises(SearchError, match=r"^a sweep must be running to be stopped, but nobody runs sample$"):
        running.stop("sample", store=store.root)
    with driver(store, "dies") as process:
        process.kill()

    with pytest.raises(
        SearchError, match=rf"process {process.pid} on host .*, is gone .*; recsweep resume sample goes"
    ):
        running.stop("sample", store=store.root)
    with pytest.raises(SearchError, match="no sweep `simple`; the nearest is `sample`"):
        running.stop("simple", store=store.root)
    assert not stop_requested(store, "sample"), "or the next driver would stop at once"


def event(writer: Any, kind: str, text: str, after: float) -> None:
    writer.add(
        "events", [{"sweep": "sample", "at": writer.clock + timedelta(seconds=after), "kind": kind, "text": text}]
    )


def test_logs_are_events_and_ends_of_trials_in_the_order_of_their_times(
    writer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    event(writer, "warning", "nothing moved", after=100)
    event(writer, "start", "10 trials to run", after=-1000)
    writer.trial(CELL, 0.2, trial="vbpr-sam-d", attempt=1, status="pruned", epochs=5)

    assert running.logs(store=writer.store.root) == 0

    assert capsys.readouterr().out.splitlines() == [
        "2026-05-04 09:14:53Z start     10 trials to run",
        "2026-05-04 09:30:25Z finished  vbpr-sam-a after 12 epochs, recall@20 0.3123",
        "2026-05-04 09:30:32Z failed    vbpr-sam-b after 3 epochs: OSError: no disk",
        "2026-05-04 09:31:44Z pruned    vbpr-sam-d after 5 epochs, recall@20 0.2000",
        "2026-05-04 09:33:13Z warning   nothing moved",
    ]


def test_following_logs_prints_every_line_once_until_nobody_runs_the_sweep(
    writer: Any, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease.take(store, "sample")
    rounds = 0

    def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        writer.trial(CELL, 0.2, trial=f"vbpr-sam-{rounds}")
        writer.flush()
        if rounds == 3:
            lease.release()

    monkeypatch.setattr("time.sleep", sleep)
    assert running.logs("sample", store=store.root, follow=True) == 0

    names = [line.split()[3] for line in capsys.readouterr().out.splitlines()]
    assert names == ["vbpr-sam-a", "vbpr-sam-b", "vbpr-sam-1", "vbpr-sam-2", "vbpr-sam-3"]


def test_following_logs_ends_where_the_driver_was_killed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with driver(store, "dies") as process:
        process.kill()

    assert running.logs("sample", store=store.root, follow=True) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_sweep_that_has_just_begun_has_empty_logs(
    new_sweep: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert running.logs(store=new_sweep().store.root, follow=True) == 0
    assert capsys.readouterr().out == ""
