"""Looks after a running sweep from a thread of its own: its cluster, its store, its trials, and who asks it to stop."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from search.control import Lease, stop_requested
from search.errors import StoreError
from search.guard import Guard
from search.provenance import host_name
from search.recorder import Recorder
from search.sections import Share
from search.spec import SweepSpec
from search.store import Store
from search.watchdog import Scene, Watchdog
from search.writer import StoreWriter

LOOK_SECONDS = 2.0
STORE_PATIENCE_SECONDS = 30.0
"""How long the store may refuse rows before the sweep gives up; they are kept meanwhile."""

HEAD_PATIENCE_SECONDS = 30.0
"""How long the cluster's head may not answer before it is lost; Ray itself ends the process after 60 s."""

END_SECONDS = 30.0
"""What Tune gets for ending its trials on a cluster that is lost."""

HANG_GRACE_SECONDS = 30.0
"""What a trial gets beyond `budget.trial_minutes` to report, before its worker is killed."""


class Announcer:
    """Says sentences to people, and keeps them in the store."""

    def __init__(
        self, sweep: str, writer: StoreWriter, say: Callable[[str], None], *, after: datetime | None = None
    ) -> None:
        """`after` is the time of the sweep's last event; new ones are later even where the clock was set back."""
        self._sweep = sweep
        self._writer = writer
        self.say = say
        self._said: set[str] = set()
        self._last = after or datetime.min.replace(tzinfo=UTC)

    def event(self, kind: str, sentence: str) -> None:
        """Adds an event to the store."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        row = {"sweep": self._sweep, "at": self._last, "kind": kind, "text": sentence, "host": host_name()}
        self._writer.add("events", [row], soon=True)

    def warn(self, sentence: str) -> None:
        """Says a sentence and keeps it, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self.event("warning", sentence)
            self.say(sentence)


class Supervision(Callback):  # type: ignore[misc]
    """A context in which a sweep runs; as Tune's callback it is shown the trials.

    Its thread never waits for the driver's, which may be stuck in a call to a cluster that is gone.
    """

    def __init__(
        self,
        spec: SweepSpec,
        store: Store,
        lease: Lease,
        guard: Guard,
        recorder: Recorder,
        announcer: Announcer,
        on_lost: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._store = store
        self._lease = lease
        self._guard = guard
        self._recorder = recorder
        self._announcer = announcer
        self._on_lost = on_lost
        self._watchdog = Watchdog(spec.watch)
        self._local = None if "://" in store.root else store.root
        self._running: dict[str, int] = {}
        self._pending: dict[str, Share] = {}
        self._heard: dict[str, tuple[int, float]] = {}
        self._shown = 0.0
        self._head_seen = time.monotonic()
        self._unwritten_since: float | None = None
        self._broken_since: float | None = None
        self._told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervision", daemon=True)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a cache that is never read back."""
        return {}

    def __enter__(self) -> "Supervision":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=LOOK_SECONDS + 1)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Takes down what the trials do, and ends those that hang."""
        now = time.monotonic()
        if now - self._shown < LOOK_SECONDS:
            return
        self._shown = now
        self._guard.look_at_budget()
        live = [trial for trial in trials if trial.status in (Trial.RUNNING, Trial.PENDING)]
        running = {trial.config["name"]: trial for trial in live if trial.status == Trial.RUNNING}
        epochs = {name: int((trial.last_result or {}).get("epoch", 0)) for name, trial in running.items()}
        self._pending = {
            trial.config["name"]: Share(*trial.config["resources"]) for trial in live if trial.status == Trial.PENDING
        }
        self._running = epochs
        self._heard = {
            name: self._heard[name] if name in self._heard and self._heard[name][0] == epoch else (epoch, now)
            for name, epoch in epochs.items()
        }
        self._end_hanging(running, now)

    def _end_hanging(self, running: Mapping[str, Trial], now: float) -> None:
        minutes = self._spec.budget.trial_minutes
        if minutes is None:
            return
        for name, trial in running.items():
            if now - self._heard[name][1] > 60 * minutes + HANG_GRACE_SECONDS and name not in self._guard.ended:
                reason = f"budget.trial_minutes: the trial reported nothing for {minutes:g} min and was ended"
                self._guard.ended[name] = ("failed", reason)
                self._announcer.warn(f"{name}: {reason}")
                trial.max_failures = 0
                _kill(trial)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            now = time.monotonic()
            if self._lease.lost:
                self._give_up("another driver has taken the sweep over, as this one showed no life")
            if self._guard.kind is None and stop_requested(self._store, self._spec.name):
                self._order("stop", "the sweep was asked to stop (recsweep stop)")
            self._look_at_store(now)
            self._look_at_cluster(now)
            self._say_why()

    def _look_at_store(self, now: float) -> None:
        writer = self._recorder.writer
        failure, since = writer.failure, writer.writing_since
        if failure is None and since is not None and now - since > STORE_PATIENCE_SECONDS:
            failure = f"the result store {self._store.named} has not answered for {now - since:.0f} s"
        if failure is None:
            self._unwritten_since = None
            return
        if self._unwritten_since is None:
            self._unwritten_since = now
            self._announcer.say(f"{failure}; results are kept and written as soon as it can be")
        elif now - self._unwritten_since > STORE_PATIENCE_SECONDS:
            self._give_up(failure)

    def _look_at_cluster(self, now: float) -> None:
        if _answers(_head()):
            self._head_seen = now
        elif now - self._head_seen > HEAD_PATIENCE_SECONDS:
            self._give_up(f"the Ray cluster's head has not answered for {now - self._head_seen:.0f} s")
        if self._broken_since is not None and now - self._broken_since > END_SECONDS:
            self._say_why()
            self._save_what_can_be()
            self._on_lost()
        alive = self._head_seen == now
        for finding in self._watchdog.look(self._scene(now, alive)):
            if finding.kind == "warning":
                self._announcer.warn(finding.text)
            elif finding.kind == "disk":
                self._order("broken", finding.text)
            else:
                self._give_up(finding.text)

    def _scene(self, now: float, alive: bool) -> Scene:
        return Scene(
            now,
            self._recorder.results,
            self._running,
            self._pending,
            nodes=_nodes() if alive else None,
            free=_free() if alive else None,
            free_bytes=self._free_bytes(),
        )

    def _free_bytes(self) -> int | None:
        try:
            return None if self._local is None else shutil.disk_usage(self._local).free
        except OSError:
            return None  # the writer hears of it, too

    def _order(self, kind: str, reason: str) -> None:
        """Ends the sweep at the trials' next checkpoints."""
        self._guard.stop(kind, reason)

    def _give_up(self, reason: str) -> None:
        """Ends the sweep now."""
        self._guard.stop("broken", reason, at_once=True)
        if self._broken_since is None:
            self._broken_since = time.monotonic()

    def _say_why(self) -> None:
        if self._guard.reason is not None and not self._told:
            self._told = True
            how = "now" if self._guard.at_once else "at their next checkpoint"
            self._announcer.say(f"{self._guard.reason}; running trials are stopped {how}")

    def _save_what_can_be(self) -> None:
        self._announcer.event("broken", self._guard.reason or "")
        with suppress(StoreError):
            self._recorder.writer.flush(timeout=END_SECONDS)
        self._lease.release()


class Silence(TrialProgressCallback):  # type: ignore[misc]
    """Takes the place of Tune's own reporter, which prints of its own accord and keeps every trial."""

    def on_trial_result(self, *anything: Any, **info: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *anything: Any, **info: Any) -> None:
        """Nothing."""

    def on_trial_error(self, *anything: Any, **info: Any) -> None:
        """Nothing."""


def _kill(trial: Trial) -> None:
    import ray

    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


def _head() -> tuple[str, int] | None:
    """Host and port of the cluster's head; None where this process reaches it through a proxy."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return (host, int(port)) if port.isdigit() else None


def _answers(place: tuple[str, int] | None) -> bool:
    if place is None:
        return True
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError:
        return False
    return True


def _nodes() -> list[tuple[float, float]] | None:
    import ray

    try:
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    except (OSError, RuntimeError, ray.exceptions.RayError):
        return None  # the head went between two calls
    return [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]


def _free() -> tuple[float, float] | None:
    import ray

    try:
        free = ray.available_resources()
    except (OSError, RuntimeError, ray.exceptions.RayError):
        return None
    return free.get("CPU", 0.0), free.get("GPU", 0.0)
