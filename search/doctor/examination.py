"""Examines this machine, the store, and where an address is given every node of a cluster."""

import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.cluster import authentication
from search.cluster.connection import ALLOCATOR, check_answers, joined, resolve
from search.doctor import checks, facts, storage
from search.doctor.checks import Check, Finding
from search.doctor.facts import THREADS, Facts, gather
from search.doctor.storage import Trial
from search.errors import SearchError
from search.store import Store

ANSWER_SECONDS = 120.0
"""A node that has not answered by then is reported; the first answer waits for a worker process to start."""


@dataclass(frozen=True)
class Visit:
    """What the nodes of a cluster said.

    Attributes:
        nodes: as Ray lists them.
        silent: why a node did not answer, by node.
    """

    nodes: Sequence[Mapping[str, Any]] = ()
    facts: Sequence[Facts] = ()
    trials: Sequence[Trial] = ()
    silent: Mapping[str, str] = field(default_factory=dict)


class Inspector:
    """Looks at the node that it runs on; a Ray actor without resources of its own."""

    def gather(self, where: str, folders: dict[str, str], session: str) -> Facts:
        """As `facts.gather`."""
        return gather(where, folders, session=session, code=True)

    def now(self) -> float:
        """As `facts.now`."""
        return facts.now()

    def write(self, root: str, name: str, content: str, where: str) -> Trial:
        """As `storage.write`."""
        return storage.write(root, name, content, where)

    def unseen(self, root: str, expected: Mapping[str, tuple[str, str]]) -> list[str]:
        """As `storage.unseen`."""
        return storage.unseen(root, expected)


def examine(address: str | None, root: str | None, *, insecure: bool = False) -> list[Check]:
    """Examines and returns one row a check; mends nothing.

    Args:
        address: of a running cluster, as `resolve` takes it; None for this machine alone.
        root: of the store, which is made where it is missing; None leaves it out.
        insecure: joins the cluster even where it lets in anyone.
    """
    if root is not None and "://" not in root:
        # Nodes have other working folders.
        root = str(Path(root).expanduser().absolute())
    folders = {"Ray's temporary files": tempfile.gettempdir()}
    if root is None or "://" not in root:
        # The default store would come to lie here.
        folders["the store"] = root or os.getcwd()
    driver = gather("driver", folders, code=address is not None)
    trial = None if root is None else _try_store(root)
    visit, door, failed = Visit(), None, None
    if address is not None:
        try:
            target = resolve(address)
            if target is not None:
                check_answers(target)
                door = authentication.knock(target, None)
            usable = trial is not None and trial.error is None
            visit = _visit(target or "local", root if usable else None, insecure=insecure)
        except SearchError as error:
            failed = Finding("", "bad", str(error), "")
    trials = [*([] if trial is None else [trial]), *visit.trials]
    return _report(driver, visit, trials, root, address, door, failed)


def _report(
    driver: Facts,
    visit: Visit,
    trials: Sequence[Trial],
    root: str | None,
    address: str | None,
    door: authentication.Door | None,
    failed: Finding | None,
) -> list[Check]:
    machines = [driver, *visit.facts]
    rows = [
        checks.collected("versions", checks.versions, driver, visit.facts),
        None if failed is None else Check("cluster", (failed,)),
        checks.collected("cluster", checks.nodes_alive, visit.nodes, visit.silent) if visit.nodes else None,
        checks.collected("authentication", checks.authentication, driver, visit.facts, door, address),
        checks.collected("addresses", checks.addresses, driver, visit.facts, door),
        checks.collected("storage", checks.storage, trials, root),
        checks.collected("disk", checks.disks, machines),
        checks.collected("gpu", checks.cards, machines),
        checks.collected("threads", checks.threads, machines, in_cluster=bool(visit.facts)),
        checks.collected("clocks", checks.clocks, visit.facts, trials),
        checks.collected("limits", checks.limits, machines),
    ]
    return [row for row in rows if row is not None]


def _try_store(root: str) -> Trial:
    name, content = _probe()
    try:
        Store(root, create=True)
    except SearchError as error:
        return Trial("driver", error=str(error))
    trial = storage.write(root, name, content, "driver")
    if trial.error is not None:
        return trial
    missing = tuple(storage.unseen(root, {"driver": (name, content)}))
    return replace(trial, unseen=missing, error=storage.delete(root, [name]))


def _probe() -> tuple[str, str]:
    return f".doctor-{uuid.uuid4().hex}", uuid.uuid4().hex


def _visit(address: str, root: str | None, *, insecure: bool) -> Visit:
    environment = {**ALLOCATOR, **dict.fromkeys(THREADS, "1")}
    with joined(address, environment=environment, insecure=insecure) as ray:
        nodes = ray.nodes()
        session = ray.get_runtime_context().get_session_name()
        inspectors = {_named(node): _send(ray, node) for node in nodes if node["Alive"]}
        folders = {"Ray's temporary files": tempfile.gettempdir()}
        calls = {where: each.gather.remote(where, folders, session) for where, each in inspectors.items()}
        found, silent = _answers(ray, calls)
        answering = {where: each for where, each in inspectors.items() if where in found}
        resources = {_named(node): node["Resources"] for node in nodes}
        said = [
            replace(
                each,
                clock=_offset(ray, inspectors[where]),
                ray_cpus=resources[where].get("CPU", 0.0),
                ray_gpus=resources[where].get("GPU", 0.0),
            )
            for where, each in found.items()
        ]
        trials = [] if root is None else _try_everywhere(ray, answering, root)
        return Visit(nodes, said, trials, silent)


def _named(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} ({node['NodeID'][:6]})"


def _send(ray: Any, node: Mapping[str, Any]) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=strategy)(Inspector).remote()


def _answers(ray: Any, calls: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the calls return, and why others return nothing; all of them share the time."""
    ray.wait(list(calls.values()), num_returns=len(calls), timeout=ANSWER_SECONDS)
    found: dict[str, Any] = {}
    silent: dict[str, str] = {}
    for where, call in calls.items():
        try:
            found[where] = ray.get(call, timeout=0)
        except ray.exceptions.GetTimeoutError:
            silent[where] = f"nothing within {ANSWER_SECONDS:.0f} s"
        except ray.exceptions.RayError as error:
            silent[where] = str(error).strip().splitlines()[-1]
    return found, silent


def _offset(ray: Any, inspector: Any) -> float:
    """Seconds by which the node's clock is ahead; 0 where it lies between asking and hearing."""
    before = time.time()
    there = float(ray.get(inspector.now.remote(), timeout=ANSWER_SECONDS))
    return max(there - time.time(), 0.0) + min(there - before, 0.0)


def _try_everywhere(ray: Any, inspectors: Mapping[str, Any], root: str) -> list[Trial]:
    """Every machine writes, then every node reads what all wrote, then the probes go."""
    probes = {where: _probe() for where in ("driver", *inspectors)}
    written = {"driver": storage.write(root, *probes["driver"], "driver")}
    found, silent = _answers(
        ray, {where: each.write.remote(root, *probes[where], where) for where, each in inspectors.items()}
    )
    written |= found | {where: Trial(where, error=reason) for where, reason in silent.items()}
    expected = {where: probes[where] for where, trial in written.items() if trial.error is None}
    seen, _ = _answers(ray, {where: each.unseen.remote(root, expected) for where, each in inspectors.items()})
    storage.delete(root, [name for name, _ in probes.values()])
    return [replace(written[where], unseen=tuple(seen.get(where, ()))) for where in inspectors]
