"""What one machine says of itself; runs on the driver and on every node, and changes nothing."""

import importlib.metadata
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from search.cluster.authentication import token_file
from search.cluster.connection import ALLOCATOR

LIBRARIES = ("recsweep", "ray", "torch", "optuna")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
RAY_PROCESSES = {"gcs_server": "gcs_server", "dashboard.py": "dashboard", "ray.util.client.server": "client server"}
"""What a command line says, and what the process is; those that take calls from outside their machine."""

METRICS_PORT = int(os.environ.get("DASHBOARD_METRIC_PORT", "44227"))
"""The dashboard's counters for Prometheus are on every interface whatever its host is, and take no calls."""


@dataclass(frozen=True)
class Listener:
    """A process of Ray and an address that it takes calls at."""

    process: str
    host: str
    port: int


@dataclass(frozen=True)
class Facts:
    """What one machine says of itself.

    Attributes:
        where: `driver`, or `node` and its address.
        versions: of Python and `LIBRARIES`; None for what is not installed.
        unmet: requirements of recsweep that what is installed does not meet.
        code: digest of recsweep's sources; None where it was not asked for.
        auth_mode: $RAY_AUTH_MODE; "" where it is not set.
        token_access: permission bits of the token file; None where there is none.
        listeners: of Ray's processes that this user may see.
        disks: free bytes and size in bytes, by what lies there.
        cpus: that this process may use.
        environment: of `THREADS`, the allocator's settings and LD_PRELOAD, where they are set.
        cards: GPUs with memory and driver, as nvidia-smi says; None where there is no nvidia-smi.
        card_error: why nvidia-smi or torch cannot use them; None where they can, or where there are none.
        shared_memory: size of /dev/shm in bytes; None where there is none.
        open_files: how many this process may have open.
        clock: seconds by which its clock is ahead of the driver's.
        ray_cpus, ray_gpus: that the node offers in the cluster.
    """

    where: str
    versions: dict[str, str | None]
    unmet: tuple[str, ...]
    code: str | None
    auth_mode: str
    token_access: int | None
    listeners: tuple[Listener, ...]
    disks: dict[str, tuple[int, int]]
    cpus: int
    environment: dict[str, str]
    cards: tuple[str, ...] | None
    card_error: str | None
    shared_memory: int | None
    open_files: int
    clock: float = 0.0
    ray_cpus: float | None = None
    ray_gpus: float | None = None


def gather(where: str, folders: dict[str, str], *, session: str | None = None, code: bool = False) -> Facts:
    """Looks at this machine.

    Args:
        where: its name in reports.
        folders: local folders whose disks matter, by what lies there; one that is missing stands for its parent.
        session: name of the Ray session whose processes are meant; None for all of this machine.
        code: whether to digest recsweep's sources, which imports it whole.
    """
    cards, card_error = _cards()
    return Facts(
        where=where,
        versions={"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        unmet=tuple(_unmet("recsweep")),
        code=_code() if code else None,
        auth_mode=os.environ.get("RAY_AUTH_MODE", "").lower(),
        token_access=_access(token_file()),
        listeners=tuple(_listeners(session)),
        disks={name: _disk(Path(folder)) for name, folder in folders.items()},
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        environment={name: os.environ[name] for name in (*THREADS, *ALLOCATOR, "LD_PRELOAD") if name in os.environ},
        cards=cards,
        card_error=card_error,
        shared_memory=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def now() -> float:
    """This machine's clock, in seconds since 1970."""
    return time.time()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet(package: str) -> Iterable[str]:
    try:
        wanted = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found = _version(requirement.name)
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                yield f"{requirement.name}{requirement.specifier} ({found or 'not installed'})"


def _code() -> str:
    from search.provenance import code_digest

    return code_digest()


def _access(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _listeners(session: str | None) -> Iterable[Listener]:
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            kind = next((name for part, name in RAY_PROCESSES.items() if part in command), None)
            if kind is None or "ray" not in command or (session is not None and session not in command):
                continue
            for entry in process.net_connections("tcp"):
                if entry.status == psutil.CONN_LISTEN and entry.laddr.port != METRICS_PORT:
                    yield Listener(kind, entry.laddr.ip.removeprefix("::ffff:"), entry.laddr.port)
        except psutil.Error:
            continue


def _disk(folder: Path) -> tuple[int, int]:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def _cards() -> tuple[tuple[str, ...] | None, str | None]:
    if shutil.which("nvidia-smi") is None:
        return None, None
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    found = _said_by(query)
    if isinstance(found, Exception):
        return (), f"nvidia-smi fails: {found}"
    cards = tuple(line.strip() for line in found.splitlines() if line.strip())
    # In a process of its own: a CUDA context would take memory of the card for as long as this one lives.
    usable = _said_by([sys.executable, "-c", "import torch; print(torch.cuda.is_available(), torch.version.cuda)"])
    if isinstance(usable, Exception):
        return cards, f"torch cannot be asked: {usable}"
    available, built = usable.split()[:2]
    return cards, None if available == "True" else f"torch cannot use them (it is built for CUDA {built})"


def _said_by(command: list[str]) -> Any:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return error
    return result.stdout
