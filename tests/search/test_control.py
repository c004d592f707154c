"""Leases of drivers and requests to stop: one driver at most, none locked out by a dead one, on every file system."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs

from search.control import LEASE_SECONDS, Lease, clear_stop, driver_of, request_stop, stop_requested
from search.errors import SearchError, StoreError
from search.store import Store

ROOT = Path(__file__).parents[2]

DRIVER = """
import sys
from search.control import Lease
from search.store import Store
Lease.take(Store(sys.argv[1]), "sweep")
print("driving", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


@pytest.fixture(params=["folder", "object store", "subtree"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store", create=True)
    if request.param == "subtree":
        return Store("store", create=True, filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    memory = fs.PyFileSystem(fs.FSSpecHandler(MemoryFileSystem()))
    return Store(f"bucket-{uuid4().hex}/results", create=True, filesystem=memory)


@pytest.fixture
def drive(store: Store) -> Callable[[], "subprocess.Popen[str]"]:
    """Starts another process that drives the sweep `sweep`, and returns it once it does."""

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", DRIVER, store.root],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "driving\n"
        return process

    return start


def leases(store: Store) -> list[str]:
    return [name for name in store.place.listed("drivers/sweep") if name.endswith(".json")]


@pytest.fixture
def change(tmp_path: Path) -> Callable[..., None]:
    """Makes the only lease of a store one with other content that was written `age` seconds ago."""

    def make(store: Store, age: float = 0.0, **changes: object) -> None:
        (path,) = leases(store)
        content = json.loads(store.place.read(path))
        seen = datetime.now(UTC) - timedelta(seconds=age)
        store.place.write(path, json.dumps(content | changes | {"renewed": seen.isoformat()}).encode())
        for local in tmp_path.rglob(Path(path).name):
            os.utime(local, (seen.timestamp(), seen.timestamp()))

    return make


def test_a_sweep_has_one_driver_at_a_time(any_store: Store) -> None:
    lease = Lease.take(any_store, "sweep")
    driver = driver_of(any_store, "sweep")
    assert driver is not None
    assert (driver.host, driver.pid, driver.alive) == (os.uname().nodename, os.getpid(), True)

    with pytest.raises(SearchError, match=f"^sweep sweep is being run by process {os.getpid()} on host .* stop it"):
        Lease.take(any_store, "sweep")
    other = Lease.take(any_store, "other")

    assert len(leases(any_store)) == 1
    lease.release()
    lease.release()
    assert driver_of(any_store, "sweep") is None
    Lease.take(any_store, "sweep").release()
    other.release()


def test_nobody_has_driven_a_sweep_that_was_never_started(any_store: Store) -> None:
    assert driver_of(any_store, "sweep") is None


def test_of_several_that_ask_at_once_at_most_one_may_drive(any_store: Store) -> None:
    def ask(barrier: threading.Barrier) -> Lease | None:
        barrier.wait()
        try:
            return Lease.take(any_store, "sweep")
        except SearchError:
            return None

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            barrier = threading.Barrier(4)
            taken = [lease for lease in pool.map(lambda _, b=barrier: ask(b), range(4)) if lease]
            assert len(taken) <= 1
            assert len(leases(any_store)) == len(taken)
            for lease in taken:
                lease.release()
    Lease.take(any_store, "sweep").release()


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_driver_of_this_machine_keeps_nobody_out(store: Store, drive: Callable, reaped: bool) -> None:
    process = drive()
    with pytest.raises(SearchError, match=f"is being run by process {process.pid} "):
        Lease.take(store, "sweep")

    process.send_signal(signal.SIGKILL)
    # Unreaped it is a zombie, whose number is still there.
    os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))

    ended = driver_of(store, "sweep")
    assert ended is not None
    assert (ended.pid, ended.alive) == (process.pid, False)
    lease = Lease.take(store, "sweep")
    assert leases(store) == [lease._path], "the dead driver's lease is removed"
    process.communicate()


def test_another_process_with_the_number_of_a_dead_driver_is_not_the_driver(
    any_store: Store, change: Callable[..., None]
) -> None:
    lease = Lease.take(any_store, "sweep")
    change(any_store, started=lease._content["started"] - 100)

    Lease.take(any_store, "sweep")


def test_a_setting_of_the_clock_does_not_hide_a_driver(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    Lease.take(store, "sweep")
    created, booted = psutil.Process.create_time, psutil.boot_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) - 3600)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted - 3600)

    with pytest.raises(SearchError, match="is being run by"):
        Lease.take(store, "sweep")


@pytest.mark.parametrize(("age", "alive"), [(LEASE_SECONDS - 10, True), (LEASE_SECONDS + 1, False), (-3600, True)])
def test_a_driver_of_another_machine_lives_as_long_as_it_renews_its_lease(
    any_store: Store, age: float, alive: bool, change: Callable[..., None]
) -> None:
    Lease.take(any_store, "sweep")
    change(any_store, age, host="far", machine="far away", pid=1)

    driver = driver_of(any_store, "sweep")
    assert driver is not None
    assert (driver.host, driver.pid, driver.alive) == ("far", 1, alive)
    assert max(0, age) <= driver.age_seconds < max(0, age) + 5
    if alive:
        with pytest.raises(SearchError, match=r"process 1 on host far .*or try again in 60 s"):
            Lease.take(any_store, "sweep")
    else:
        lease = Lease.take(any_store, "sweep")
        assert leases(any_store) == [lease._path]


def test_the_clock_of_a_driver_of_another_machine_does_not_count(store: Store, change: Callable[..., None]) -> None:
    Lease.take(store, "sweep")
    change(store, machine="far away")
    (path,) = leases(store)
    content = json.loads(store.place.read(path)) | {"renewed": "2001-01-01T00:00:00+00:00"}
    store.place.write(path, json.dumps(content).encode())

    with pytest.raises(SearchError, match=r"last sign of life \d s ago"):
        Lease.take(store, "sweep")


def test_renewing_makes_a_lease_young_again(any_store: Store, change: Callable[..., None]) -> None:
    lease = Lease.take(any_store, "sweep")
    lease._content["machine"] = "far away"
    lease.renew()
    change(any_store, LEASE_SECONDS + 1)
    ended = driver_of(any_store, "sweep")
    assert ended is not None
    assert not ended.alive

    lease.renew()

    driver = driver_of(any_store, "sweep")
    assert driver is not None
    assert driver.alive
    assert not lease.lost


def test_the_living_driver_is_named_before_one_that_ended(store: Store, change: Callable[..., None]) -> None:
    Lease.take(store, "sweep")
    change(store, LEASE_SECONDS + 1, host="far", machine="far away", pid=1)
    (path,) = leases(store)
    ended = store.place.read(path)
    Lease.take(store, "sweep")
    store.place.write(path, ended)
    os.utime(store.place.path(path), (time.time() - LEASE_SECONDS - 1,) * 2)

    driver = driver_of(store, "sweep")

    assert driver is not None
    assert (driver.pid, driver.alive) == (os.getpid(), True)


def test_a_driver_whose_sweep_was_taken_over_is_told_and_does_not_come_back(any_store: Store) -> None:
    lease = Lease.take(any_store, "sweep")
    any_store.place.delete(lease._path)

    lease.renew()
    lease.renew()

    assert lease.lost
    assert leases(any_store) == []


def test_a_released_lease_is_not_renewed(any_store: Store) -> None:
    lease = Lease.take(any_store, "sweep")
    lease.release()
    lease.renew()

    assert (leases(any_store), lease.lost) == ([], False)


class Broken(MemoryFileSystem):
    """A store that stops to answer once `broken` is set."""

    broken = False

    def info(self, path: str, **options: object) -> object:
        if self.broken:
            raise OSError("no answer")
        return super().info(path, **options)

    def rm_file(self, path: str) -> None:
        if self.broken:
            raise OSError("no answer")
        super().rm_file(path)


def test_a_store_that_does_not_answer_ends_no_driver() -> None:
    files = Broken()
    store = Store(f"bucket-{uuid4().hex}", create=True, filesystem=fs.PyFileSystem(fs.FSSpecHandler(files)))
    lease = Lease.take(store, "sweep")
    request_stop(store, "sweep")
    files.broken = True

    lease.renew()
    lease.release()
    clear_stop(store, "sweep")

    assert not lease.lost
    assert not stop_requested(store, "sweep")


def test_a_store_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    (tmp_path / "store" / "drivers").write_text("in the way")

    with pytest.raises(StoreError, match="cannot be written: "):
        Lease.take(store, "sweep")
    with pytest.raises(StoreError, match="cannot be written: "):
        request_stop(store, "sweep")


def test_a_damaged_lease_is_an_error_that_names_it(any_store: Store) -> None:
    path = Lease.take(any_store, "sweep")._path
    any_store.place.write(path, b"{")

    with pytest.raises(
        StoreError, match=f"the file {any_store.place.path(path)} of the result store is damaged; delete it"
    ):
        Lease.take(any_store, "sweep")
    assert leases(any_store) == [path], "who was refused leaves no lease"


def test_a_stop_is_seen_until_it_is_cleared(any_store: Store) -> None:
    assert not stop_requested(any_store, "sweep")
    request_stop(any_store, "sweep")
    request_stop(any_store, "sweep")

    assert stop_requested(any_store, "sweep")
    assert not stop_requested(any_store, "other")
    assert driver_of(any_store, "sweep") is None, "a request is no driver"

    clear_stop(any_store, "sweep")
    clear_stop(any_store, "sweep")
    assert not stop_requested(any_store, "sweep")
