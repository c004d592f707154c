"""Writes rows to the store from a thread of its own, so that no driver waits for a disk or a network."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pyarrow as pa

from search.errors import StoreError
from search.store import Store

FLUSH_SECONDS = 5.0
"""How long a row waits at most."""

SOON_SECONDS = 0.3
"""How long one waits that is to be seen at once: what comes meanwhile goes along."""

RETRY_SECONDS = 5.0
"""Time between two tries where the store cannot be written."""

CLOSE_SECONDS = 30.0
"""How long the end of a sweep waits for a write that goes on."""

PART_ROWS = 20_000
"""Rows of one part: to make a larger one would keep Python's lock from the driver for too long."""

COMPACT_PARTS, COMPACT_BYTES = 128, 2**20
"""After so many parts of a table the small ones among them are merged."""

ORDER = ("sweeps", "params", "metrics", "events", "protocols", "confirmations", "trials")
"""A trial's end is written last: what stands as finished has all its rows."""

Row = Mapping[str, object]


class StoreWriter:
    """Takes rows at once and brings them to the store soon; tries again where that fails, and loses none meanwhile.

    What a crash of the process loses is what the last seconds brought. Trials get that back from their checkpoints.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failure: str | None = None
        """Why the last try failed; None once one succeeded."""
        self.writing_since: float | None = None
        """When the write that goes on began, by the monotonic clock; None where none does."""
        self._rows: dict[str, list[Row]] = {}
        self._after: list[Callable[[], None]] = []
        self._parts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._due = time.monotonic() + FLUSH_SECONDS
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def add(self, table: str, rows: Sequence[Row], *, soon: bool = False) -> None:
        """Takes rows; with `soon` they are written with the next breath."""
        with self._lock:
            self._rows.setdefault(table, []).extend(rows)
            if soon:
                self._due = min(self._due, time.monotonic() + SOON_SECONDS)
        if soon:
            self._wake.set()

    def after(self, action: Callable[[], None]) -> None:
        """Calls the action from the writer's thread once all that was added before is in the store.

        What it raises as OSError is passed over: it is for tidying up.
        """
        with self._lock:
            self._after.append(action)

    def flush(self, timeout: float = -1) -> None:
        """Returns when all that was added is in the store.

        Args:
            timeout: seconds to wait for a write that goes on already; -1 for as long as it takes.

        Raises:
            StoreError: it cannot be written, or does not answer; the rows are kept.
        """
        if not self._writing.acquire(timeout=timeout):
            raise StoreError(f"the result store {self.store.named} does not answer")
        try:
            self.writing_since = time.monotonic()
            self._write()
        finally:
            self.writing_since = None
            self._writing.release()

    def close(self) -> None:
        """Writes what is left and ends the thread.

        Raises:
            StoreError: it cannot be written, or does not answer for CLOSE_SECONDS.
        """
        self._closed = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        self.flush(timeout=0 if self._thread.is_alive() else -1)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(max(0.05, self._due - time.monotonic()))
            self._wake.clear()
            if time.monotonic() < self._due and not self._closed:
                continue
            with self._lock:
                self._due = time.monotonic() + FLUSH_SECONDS
            try:
                self.flush()
            except Exception as error:  # whatever it is, the rows are kept and whoever drives hears of it
                self.failure = str(error)
                with self._lock:
                    self._due = time.monotonic() + RETRY_SECONDS

    def _write(self) -> None:
        with self._lock:
            waiting, self._rows = self._rows, {}
            actions, self._after = self._after, []
        try:
            for table in ORDER:
                while rows := waiting.get(table):
                    self.store.append(table, rows[:PART_ROWS])
                    del rows[:PART_ROWS]
                    self._parts[table] = self._parts.get(table, 0) + 1
        except BaseException:
            with self._lock:
                for table, rows in self._rows.items():
                    waiting.setdefault(table, []).extend(rows)
                self._rows, self._after = waiting, actions + self._after
            raise
        self.failure = None
        for action in actions:
            with suppress(OSError):
                action()
        self._compact()

    def _compact(self) -> None:
        for table, parts in self._parts.items():
            if parts >= COMPACT_PARTS:
                self._parts[table] = 0
                with suppress(StoreError):
                    self.store.compact(table, largest_bytes=COMPACT_BYTES)
                pa.default_memory_pool().release_unused()
