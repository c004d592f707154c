"""What follows from the facts: every check is a pure function from facts to findings, one for each machine or more."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search.cluster.authentication import Door, is_loopback
from search.cluster.connection import ALLOCATOR
from search.doctor.facts import LIBRARIES, THREADS, Facts
from search.doctor.storage import Trial

State = Literal["ok", "warning", "bad"]
STATES: Sequence[State] = ("ok", "warning", "bad")

GB = 10**9
DISK_BAD, DISK_LOW = 1 * GB, 10 * GB
DISK_FULL = 0.95
"""Ray spills no object to a disk that is fuller."""
CLOCK_BAD, CLOCK_OFF = 20.0, 2.0
"""Seconds. A driver counts as dead on other machines after 60 s without a sign of life."""
SHARED_MEMORY_LOW = GB
FILES_BAD, FILES_LOW = 1024, 4096
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """What a check says of one machine.

    Attributes:
        where: the machine, or "" for the cluster as a whole.
        remedy: how to mend it; "" where nothing is wrong.
    """

    where: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One row of the report: a check over all machines."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """The worst that was found."""
        return max((finding.state for finding in self.findings), key=STATES.index, default="ok")

    @property
    def text(self) -> str:
        """What is wrong, machine by machine; where nothing is, what was found on the first and on how many more."""
        wrong = [finding for finding in self.findings if finding.state != "ok"]
        if not wrong:
            first, more = self.findings[0].text, len(self.findings) - 1
            return f"{first} (and {more} more)" if more else first
        said = [f"{finding.where}: {finding.text}" if finding.where else finding.text for finding in wrong[:SHOWN]]
        return "; ".join(said) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")

    @property
    def remedy(self) -> str:
        """How to mend it, every way once."""
        return "; ".join(dict.fromkeys(finding.remedy for finding in self.findings if finding.remedy))


def versions(driver: Facts, nodes: Sequence[Facts]) -> Iterator[Finding]:
    """The driver meets recsweep's requirements, and every node has what the driver has."""
    said = ", ".join(f"{name} {version or 'missing'}" for name, version in driver.versions.items())
    if driver.unmet:
        remedy = "install recsweep again in this environment: pip install --upgrade recsweep"
        yield Finding(driver.where, "bad", f"recsweep needs {', '.join(driver.unmet)}", remedy)
    else:
        yield Finding(driver.where, "ok", said)
    for node in nodes:
        yield _same_versions(driver, node)


def _same_versions(driver: Facts, node: Facts) -> Finding:
    differ = [name for name in ("python", *LIBRARIES) if _compared(name, driver) != _compared(name, node)]
    if differ:
        said = ", ".join(
            f"{name} {node.versions[name] or 'missing'} (driver {driver.versions[name]})" for name in differ
        )
        state: State = (
            "bad" if {"python", "ray", "recsweep"} & set(differ) or node.versions["torch"] is None else "warning"
        )
        return Finding(node.where, state, said, "install the same wheel and the same versions on driver and nodes")
    if driver.code != node.code:
        remedy = "install the wheel that the driver runs on every node"
        return Finding(node.where, "bad", "has other source code of recsweep under the same version", remedy)
    return Finding(node.where, "ok", "as on the driver")


def _compared(name: str, facts: Facts) -> str | None:
    version = facts.versions[name]
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


def authentication(driver: Facts, nodes: Sequence[Facts], door: Door | None, address: str | None) -> Iterator[Finding]:
    """Token mode everywhere, token files private, and the cluster turns away who has no token."""
    for facts in (driver, *nodes):
        shared = facts.token_access is not None and facts.token_access & 0o077
        if facts.auth_mode == "disabled":
            yield Finding(facts.where, "warning", "RAY_AUTH_MODE is disabled", "unset RAY_AUTH_MODE or set it to token")
        elif shared:
            said = f"the token file has mode {facts.token_access:04o}, so others can read it"
            yield Finding(facts.where, "warning", said, "chmod 600 ~/.ray/auth_token (or $RAY_AUTH_TOKEN_PATH)")
        else:
            private = "token file of mode 0600" if facts.token_access is not None else "made at the first start"
            yield Finding(facts.where, "ok", f"token mode, {private}" if facts is driver else "token mode")
    if address is not None and door == "open":
        remedy = "start all nodes with RAY_AUTH_MODE=token and the same token"
        yield Finding("", "bad", f"the cluster {address} lets in anyone who reaches it", remedy)
    elif address is not None and door == "closed":
        yield Finding("", "ok", "the cluster turns away who has no token")


def addresses(driver: Facts, nodes: Sequence[Facts], door: Door | None) -> Iterator[Finding]:
    """Where Ray listens: the dashboard on loopback, the rest on a network only where it asks for a token."""
    for facts in nodes or [driver]:
        outside = sorted({each for each in facts.listeners if not is_loopback(each.host)}, key=lambda each: each.port)
        said = ", ".join(f"{each.process} on {each.host}:{each.port}" for each in outside)
        guarded = door == "closed" if door is not None else facts.auth_mode == "token"
        if not outside:
            yield Finding(
                facts.where, "ok", "everything is on loopback" if facts.listeners else "nothing of Ray listens"
            )
        elif not guarded:
            remedy = "start Ray with RAY_AUTH_MODE=token, and keep its ports away from other networks"
            state: State = "bad" if door == "open" else "warning"
            yield Finding(facts.where, state, f"{said}, reachable from outside, perhaps without a token", remedy)
        elif any(each.process == "dashboard" for each in outside):
            remedy = "ray start --head --dashboard-host=127.0.0.1, and an SSH tunnel to it"
            yield Finding(facts.where, "warning", f"{said}: the dashboard is reachable from outside", remedy)
        else:
            yield Finding(facts.where, "ok", f"{said}, with a token")


def storage(trials: Sequence[Trial], root: str) -> Iterator[Finding]:
    """Every machine writes into the store, and reads what the others wrote."""
    shared = "the store must be a folder that all nodes share, or at s3:// or gs://, and writable for the user of Ray"
    for trial in trials:
        if trial.error is not None:
            yield Finding(trial.where, "bad", f"{root} cannot be used: {trial.error}", shared)
        elif trial.unseen:
            yield Finding(trial.where, "bad", f"does not see what was written from {', '.join(trial.unseen)}", shared)
        else:
            yield Finding(trial.where, "ok", f"{root} can be written and read")


def disks(machines: Sequence[Facts]) -> Iterator[Finding]:
    """Room for results and for Ray's temporary files."""
    for facts in machines:
        for name, (free, size) in facts.disks.items():
            said = f"{free / GB:.1f} of {size / GB:.0f} GB free for {name}"
            full = name == "Ray's temporary files" and free < (1 - DISK_FULL) * size
            state: State = "bad" if free < DISK_BAD else "warning" if free < DISK_LOW or full else "ok"
            why = f" (Ray spills nothing to a disk that is more than {DISK_FULL:.0%} full)" if full else ""
            remedy = (
                ""
                if state == "ok"
                else "free some space, such as old /tmp/ray/session_* folders, or choose another disk"
            )
            yield Finding(facts.where, state, said + why, remedy)


def cards(machines: Sequence[Facts]) -> Iterator[Finding]:
    """GPUs, their driver, and whether torch can use them; none is no fault."""
    for facts in machines:
        count = len(facts.cards or ())
        said = "; ".join(facts.cards or ()) or "none"
        if facts.card_error is not None:
            remedy = "install a driver that fits torch's CUDA, and in a container run with --gpus all"
            yield Finding(facts.where, "bad", f"{said}: {facts.card_error}", remedy)
        elif facts.ray_gpus is not None and facts.ray_gpus != count:
            remedy = "start Ray without --num-gpus, so that it counts the cards itself"
            yield Finding(facts.where, "warning", f"Ray offers {facts.ray_gpus:g} GPUs, but {count} are there", remedy)
        else:
            yield Finding(facts.where, "ok", said)


def threads(machines: Sequence[Facts], *, in_cluster: bool) -> Iterator[Finding]:
    """CPUs, and the settings that recsweep gives to its workers: threads and the allocator."""
    for facts in machines:
        given = {**ALLOCATOR, **dict.fromkeys(THREADS, "1")}
        lost = [name for name, value in given.items() if facts.environment.get(name) != value]
        if facts.ray_cpus is not None and facts.ray_cpus > facts.cpus:
            remedy = "start Ray without --num-cpus, or with no more than there are"
            yield Finding(
                facts.where, "warning", f"Ray offers {facts.ray_cpus:g} CPUs, but {facts.cpus} are there", remedy
            )
        elif in_cluster and facts.where != "driver" and lost:
            remedy = "let Ray give workers their environment: no runtime_env hook of the cluster may drop it"
            yield Finding(facts.where, "warning", f"workers do not get {', '.join(lost)}", remedy)
        elif "LD_PRELOAD" in facts.environment:
            said = f"{facts.cpus} CPUs; LD_PRELOAD is set: another allocator than glibc's ignores recsweep's settings"
            yield Finding(facts.where, "ok", said)
        else:
            yield Finding(facts.where, "ok", f"{facts.cpus} CPUs; trials get one thread for each of theirs")


def clocks(nodes: Sequence[Facts], trials: Sequence[Trial]) -> Iterator[Finding]:
    """The clocks of nodes against the driver's, and the store's file times against the driver's."""
    remedy = "synchronise the clocks: chrony or systemd-timesyncd on every machine"
    offsets = [(facts.where, "its clock is", facts.clock) for facts in nodes]
    offsets += [("driver", "the store's file times are", each.clock) for each in trials[:1] if each.clock is not None]
    for where, what, offset in offsets:
        state: State = "bad" if abs(offset) > CLOCK_BAD else "warning" if abs(offset) > CLOCK_OFF else "ok"
        said = f"{what} {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the driver's clock"
        yield Finding(where, state, said, "" if state == "ok" else remedy)


def limits(machines: Sequence[Facts]) -> Iterator[Finding]:
    """Shared memory for Ray's object store, and open files."""
    for facts in machines:
        memory = facts.shared_memory
        if memory is not None and memory < SHARED_MEMORY_LOW:
            remedy = "give the container more, such as --shm-size=4g"
            yield Finding(
                facts.where, "warning", f"/dev/shm has only {memory / GB:.2f} GB: Ray puts objects on disk", remedy
            )
        if facts.open_files < FILES_LOW:
            state: State = "bad" if facts.open_files < FILES_BAD else "warning"
            yield Finding(facts.where, state, f"only {facts.open_files} open files are allowed", "ulimit -n 65536")
        if facts.open_files >= FILES_LOW and (memory is None or memory >= SHARED_MEMORY_LOW):
            shown = "no /dev/shm" if memory is None else f"/dev/shm {memory / GB:.1f} GB"
            yield Finding(facts.where, "ok", f"{shown}, {facts.open_files} open files")


def nodes_alive(nodes: Sequence[Mapping[str, object]], silent: Mapping[str, str]) -> Iterator[Finding]:
    """The nodes of the cluster, and those that did not answer."""
    for where, error in silent.items():
        remedy = "look at the node's logs in /tmp/ray/session_latest/logs; recsweep must be installed there"
        yield Finding(where, "bad", f"does not answer: {error}", remedy)
    alive = [node for node in nodes if node["Alive"]]
    if not silent:
        yield Finding("", "ok", f"{len(alive)} of {len(nodes)} nodes alive, all answer")


def collected(
    name: str, check: Callable[..., Iterable[Finding]], *arguments: object, **options: object
) -> Check | None:
    """The check's row, or None where it found nothing to look at."""
    findings = tuple(check(*arguments, **options))
    return Check(name, findings) if findings else None
