"""Notices that a sweep does not get on, and says why where it can be known; arithmetic on what the driver sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from search.sections import Share, WatchSection
from search.wording import duration, plural

Kind: TypeAlias = Literal["warning", "broken", "disk"]
Node: TypeAlias = tuple[float, float]

LOST_SECONDS = 60.0
"""How long a cluster may be without a node, or not answer, before it is given up."""

LONGEST_LOOK = 60.0
"""Time between two looks that counts: while the driver itself was held up, results could not arrive either."""


@dataclass(frozen=True)
class Scene:
    """What the driver sees at one moment.

    Attributes:
        now: the monotonic clock, in seconds.
        results: results of all trials that have arrived so far in this driver; any change is progress.
        running: epochs that each trial has reported, by name, of trials whose worker process has started.
        pending: what each trial occupies, by name, of trials that wait for their worker process.
        nodes: logical CPUs and GPUs of every node that is alive; empty where none is, None where Ray does not say.
        free: CPUs and GPUs of all nodes together that nobody has taken; None where it is not known.
        free_bytes: free space of the store's disk; None where there is no such thing (s3://).
    """

    now: float
    results: int
    running: Mapping[str, int]
    pending: Mapping[str, Share]
    nodes: Sequence[Node] | None
    free: Node | None = None
    free_bytes: int | None = None


@dataclass(frozen=True)
class Finding:
    """Something wrong: `warning` is only said, `disk` and `broken` (the cluster is lost) are reasons to stop."""

    kind: Kind
    text: str


class Watchdog:
    """Looks at one scene after the other; what is wrong is said once, and again only after it had been well.

    Time counts forward alone: a clock that is set back, or that leaps, adds nothing or little.
    """

    def __init__(self, section: WatchSection) -> None:
        """The first look starts the time."""
        self._section = section
        self._patience = 60 * section.stall_minutes
        self._last: Scene | None = None
        self._time = 0.0
        self._results_since = 0.0
        self._cluster_since = 0.0
        self._epoch_since: dict[tuple[str, int], float] = {}
        self._pending_since: dict[str, float] = {}
        self._said: set[str] = set()

    def look(self, scene: Scene) -> list[Finding]:
        """What is newly wrong."""
        self._pass_time(scene)
        wrong = {"disk": self._disk(scene), "cluster": self._cluster(scene)}
        if wrong["cluster"] is None:
            wrong["trials"] = self._stalled(scene)
            if wrong["trials"] is None:
                wrong["places"] = self._without_place(scene)
        findings = {name: finding for name, finding in wrong.items() if finding is not None}
        new = [finding for name, finding in findings.items() if name not in self._said]
        self._said = set(findings)
        return new

    def _pass_time(self, scene: Scene) -> None:
        last, self._last = self._last, scene
        if last is not None:
            self._time += min(max(0.0, scene.now - last.now), LONGEST_LOOK)
        if last is None or scene.results != last.results:
            self._results_since = self._time
        if scene.nodes:
            self._cluster_since = self._time
        self._epoch_since = {each: self._epoch_since.get(each, self._time) for each in scene.running.items()}
        self._pending_since = {name: self._pending_since.get(name, self._time) for name in scene.pending}

    def _disk(self, scene: Scene) -> Finding | None:
        floor = self._section.disk_floor_gb
        if scene.free_bytes is None or scene.free_bytes >= 1e9 * floor:
            return None
        left = f"{scene.free_bytes / 1e9:.2f} GB free, less than watch.disk_floor_gb = {floor:g}"
        return Finding("disk", f"the store's disk has {left}")

    def _cluster(self, scene: Scene) -> Finding | None:
        gone = self._time - self._cluster_since
        if scene.nodes or gone < LOST_SECONDS:
            return None
        state = "does not answer" if scene.nodes is None else "has no node alive"
        return Finding("broken", f"the Ray cluster {state}, for {duration(gone)} now")

    def _stalled(self, scene: Scene) -> Finding | None:
        silent = self._time - self._results_since
        if silent < self._patience:
            return None
        said = f"no trial has reported anything for {duration(silent)} (watch.stall_minutes)"
        return Finding("warning", f"{said}: {self._cause(scene)}")

    def _cause(self, scene: Scene) -> str:
        if scene.running:
            (name, epochs), since = min(self._epoch_since.items(), key=lambda each: each[1])
            others = f"; {plural(len(scene.running), 'trial')} run in all" if len(scene.running) > 1 else ""
            return f"{name} has been in epoch {epochs + 1} for {duration(self._time - since)}{others}"
        if not scene.pending:
            return "no trial runs, and none waits for a worker"
        name = min(self._pending_since, key=self._pending_since.__getitem__)
        return self._why_pending(scene, name)

    def _why_pending(self, scene: Scene, name: str) -> str:
        share = scene.pending[name]
        waits = f"{name} waits for {_amount((share.cpu, share.gpu))}"
        if not scene.nodes:
            return f"{waits}, and no node is alive"
        if not _placeable(scene, share):
            nodes = " or ".join(sorted({_amount(node) for node in scene.nodes}, reverse=True))
            return f"{waits}, and no node has that much ({nodes})"
        if scene.free is not None and not _holds(scene.free, share):
            return f"{waits}, and the cluster has {_amount(scene.free)} free: others use it"
        return f"{waits}, the cluster has room, and no worker process has started; `recsweep doctor` looks into it"

    def _without_place(self, scene: Scene) -> Finding | None:
        """Trials that no node can hold while others get on."""
        waiting = [name for name, share in scene.pending.items() if not _placeable(scene, share)]
        if not waiting:
            return None
        name = min(waiting, key=self._pending_since.__getitem__)
        waited = self._time - self._pending_since[name]
        if waited < self._patience:
            return None
        return Finding("warning", f"{self._why_pending(scene, name)}, for {duration(waited)} now (watch.stall_minutes)")


def _holds(node: Node, share: Share) -> bool:
    return node[0] >= share.cpu and node[1] >= share.gpu


def _placeable(scene: Scene, share: Share) -> bool:
    return any(_holds(node, share) for node in scene.nodes or ())


def _amount(node: Node) -> str:
    return f"{node[0]:g} CPU and {node[1]:g} GPU"
