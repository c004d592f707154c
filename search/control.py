"""Who drives a sweep, and whether it is asked to stop: small files in the store, seen wherever the store is seen.

    <root>/drivers/<sweep>/<token>.json     a driver's lease, written anew every few seconds while it lives
    <root>/drivers/<sweep>/stop             a request that the sweep should stop

There is no lock, as object stores have none. Whoever wants to drive writes a lease and then looks: every lease is there
before its writer looks, so of several at once at most one sees its own alone.
"""

import json
import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from pyarrow import fs

from search.errors import SearchError, StoreError
from search.store import Store

LEASE_SECONDS = 60
"""A driver on another machine that has not renewed its lease for so long is gone."""

_LEASE = ".json"
_STOP = "stop"
_SAME_START = 5  # seconds within which two readings of one process's start agree


@dataclass(frozen=True)
class Driver:
    """The process that drives a sweep, or did so last and ended without a word.

    Attributes:
        host: its machine's name.
        pid: its process number there.
        alive: whether it still lives, as far as can be known from here.
        age_seconds: time since its last sign of life, at least 0.
    """

    host: str
    pid: int
    alive: bool
    age_seconds: float


class Lease:
    """The right to drive a sweep, held by one process at a time; `take` gives it.

    `lost` is true once another driver has taken the sweep over, because this one showed no life for LEASE_SECONDS, or
    the file is gone for another reason: it must stop then. `renew` finds out.
    """

    def __init__(self, store: Store, sweep: str) -> None:
        self._store = store
        self._path = f"{_folder(sweep)}/{uuid.uuid4().hex}{_LEASE}"
        self._content = {"host": os.uname().nodename, "machine": _machine(), "pid": os.getpid()}
        self._content["started"] = _start_of(os.getpid())
        self._lock = threading.Lock()
        self._released = False
        self.lost = False

    @classmethod
    def take(cls, store: Store, sweep: str) -> "Lease":
        """Return the lease of a sweep that nobody drives; leases of drivers that are gone are removed.

        Raises:
            SearchError: another driver lives, or asked in the same moment.
            StoreError: the store cannot be read or written.
        """
        lease = cls(store, sweep)
        with store.reported("written"):
            lease._write()
        try:
            lease._check_alone(sweep)
        except BaseException:
            lease.release()
            raise
        return lease

    def renew(self) -> None:
        """Shows that this driver lives. A store that does not answer is passed over: whoever writes results says so."""
        with self._lock, suppress(OSError, pa.ArrowException):
            if self._released or self.lost:
                return
            if self._store.place.info(self._path).type == fs.FileType.NotFound:
                self.lost = True
            else:
                self._write()

    def release(self) -> None:
        """Gives the sweep free; a second time does nothing, nor does a store that does not answer."""
        with self._lock:
            self._released = True
            _remove(self._store, self._path)

    def _write(self) -> None:
        renewed = {**self._content, "renewed": datetime.now(UTC).isoformat()}
        self._store.place.write(self._path, json.dumps(renewed).encode())

    def _check_alone(self, sweep: str) -> None:
        found = _leases(self._store, sweep)
        if self._path not in found:
            named = self._store.named
            raise StoreError(f"the result store {named} cannot hold leases: it does not list what was just written")
        # Times by the store's clock where it has one, so that clocks of machines need not agree.
        now = found.pop(self._path)[1]
        drivers = {path: _driver(content, (now - seen).total_seconds()) for path, (content, seen) in found.items()}
        for driver in drivers.values():
            if driver.alive:
                raise SearchError(
                    f"sweep {sweep} is being run by process {driver.pid} on host {driver.host} (last sign of life "
                    f"{driver.age_seconds:.0f} s ago); stop it first (recsweep stop {sweep}), or try again in "
                    f"{LEASE_SECONDS} s where that process is gone"
                )
        for path in drivers:
            _remove(self._store, path)


def driver_of(store: Store, sweep: str) -> Driver | None:
    """Return the driver that lives, else the last one that ended without releasing its lease, else None.

    Raises:
        StoreError: the store cannot be read.
    """
    now = datetime.now(UTC)
    drivers = [_driver(content, (now - seen).total_seconds()) for content, seen in _leases(store, sweep).values()]
    return min(drivers, key=lambda driver: (not driver.alive, driver.age_seconds), default=None)


def request_stop(store: Store, sweep: str) -> None:
    """Asks the sweep's driver to stop: no new trial, and running ones stop at their next checkpoint.

    Raises:
        StoreError: the store cannot be written.
    """
    with store.reported("written"):
        store.place.write(f"{_folder(sweep)}/{_STOP}", b"stop")


def stop_requested(store: Store, sweep: str) -> bool:
    """Return whether the sweep is asked to stop; False where the store does not answer."""
    try:
        found = store.place.info(f"{_folder(sweep)}/{_STOP}")
    except (OSError, pa.ArrowException):
        return False
    return bool(found.type == fs.FileType.File)


def clear_stop(store: Store, sweep: str) -> None:
    """Takes a request to stop back, if there is one; a store that does not answer is passed over."""
    _remove(store, f"{_folder(sweep)}/{_STOP}")


def _folder(sweep: str) -> str:
    return f"drivers/{sweep}"


def _remove(store: Store, path: str) -> None:
    with suppress(OSError, pa.ArrowException):
        store.place.delete(path)


def _leases(store: Store, sweep: str) -> dict[str, tuple[Mapping[str, Any], datetime]]:
    """The leases by path, each with its content and the time of its last renewal."""
    with store.reported("read"):
        found = {}
        for path, info in store.place.listed(_folder(sweep)).items():
            if path.endswith(_LEASE) and not info.base_name.startswith("."):
                with suppress(FileNotFoundError):  # released in between
                    content = _read(store, path)
                    found[path] = (content, info.mtime or datetime.fromisoformat(content["renewed"]))
        return found


def _read(store: Store, path: str) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(store.place.read(path))
    except ValueError:
        where = store.place.path(path)
        raise StoreError(f"the file {where} of the result store is damaged; delete it") from None
    return content


def _driver(content: Mapping[str, Any], age: float) -> Driver:
    if content["machine"] == _machine():
        started = _start_of(content["pid"])
        alive = started is not None and abs(started - content["started"]) < _SAME_START
    else:
        alive = age < LEASE_SECONDS
    return Driver(content["host"], content["pid"], alive, max(0.0, age))


@cache
def _machine() -> str:
    """What two processes share that see each other's numbers: node name, boot, and name space of processes."""
    kernel = Path("/proc/sys/kernel/random/boot_id")
    if not kernel.exists():
        return f"{os.uname().nodename} {uuid.getnode()}"
    return f"{os.uname().nodename} {kernel.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _start_of(pid: int) -> float | None:
    """Seconds from the machine's boot to the process's start, whatever is done to the clock; None if it has ended."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return None
