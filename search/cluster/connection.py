"""The connection to Ray: a cluster on this machine, or one that is already running."""

import importlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from search.cluster import authentication
from search.cluster.capacity import check_fits
from search.errors import SearchError
from search.spec import SweepSpec

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
}
"""Ray reads these when it is imported or started; what the user has set stays."""

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "2147483648",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
"""glibc then keeps the memory of large temporaries instead of faulting it in anew at every batch (performance.md).

An aligned block, which every tensor is, leaves a few bytes free on either side. In a thread's cache these never join
the block again when it is freed, and no tensor of the same size fits in its place: a heap of twice the memory in use.
"""


@contextmanager
def connection(spec: SweepSpec, address: str | None, *, verbose: bool, insecure: bool = False) -> Iterator[None]:
    """A Ray connection for one sweep, closed afterwards where it was opened here.

    Args:
        address: of a running cluster, as `resolve` takes it; None starts one on this machine, on loopback and without a
            dashboard.
        insecure: joins a cluster on a network even where it lets anyone in.

    Raises:
        SearchError: no cluster answers at the address, it is not one that may be joined, or no node can hold a trial.
    """
    threads = {"OMP_NUM_THREADS": str(spec.resources.cpu), "MKL_NUM_THREADS": str(spec.resources.cpu)}
    with joined(address, environment=ALLOCATOR | threads, verbose=verbose, insecure=insecure) as ray:
        check_fits(spec, ray.nodes())
        yield


@contextmanager
def joined(
    address: str | None, *, environment: dict[str, str] | None = None, verbose: bool = False, insecure: bool = False
) -> Iterator[Any]:
    """The module `ray`, connected: as it is already, else to the address, else to a cluster of its own.

    Args:
        environment: variables of the workers.

    Raises:
        SearchError: no cluster answers at the address, or it is not one that may be joined.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    mode = os.environ.get("RAY_AUTH_MODE")
    try:
        with nullcontext() if verbose else _silence():
            _start(ray, resolve(address), environment or {}, verbose=verbose, insecure=insecure)
            yield ray
    finally:
        ray.shutdown()
        authentication.use(mode)


def connected() -> bool:
    """Whether this process is connected to Ray, as when a caller has opened the connection before."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps Ray from printing what nodes and workers say as they die; `log_to_driver` does not."""
    worker: Any = importlib.import_module("ray._private.worker")
    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *anything, **more: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def resolve(address: str | None) -> str | None:
    """The address of the cluster that is meant, as host:port or ray://host:port; None for one of its own.

    Args:
        address: one of these, `auto` for the cluster that this machine belongs to, or `local` for one of its own. None
            is $RAY_ADDRESS where that is set, else `local`; $RAY_ADDRESS also stands behind `auto`, as in Ray itself.

    Raises:
        SearchError: it is none of these, or `auto` finds no cluster.
    """
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address or "local"
    if address == "local":
        return None
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        try:
            return str(canonicalize_bootstrap_address("auto"))
        except ConnectionError:
            raise SearchError("--address auto must be given where a Ray cluster runs, but none was found") from None
    if urlsplit(address).scheme in ("http", "https"):
        raise SearchError(f"--address must be host:port, but {address!r} is one for --submit")
    authentication.host_of(address)
    return address


def _start(ray: Any, address: str | None, environment: dict[str, str], *, verbose: bool, insecure: bool) -> None:
    options: dict[str, Any] = {
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
    }
    if address is None:
        authentication.secure_own()
        # Workers inherit these. With a runtime_env Ray would start others in place of those that it has started ahead.
        with _on_loopback(), _environment(environment):
            # `local`, because Ray would otherwise join what an earlier `ray start` on this machine left behind.
            ray.init(address="local", include_dashboard=False, **options)
        return
    options["runtime_env"] = {"env_vars": environment}
    check_answers(address)
    authentication.secure_join(address, insecure=insecure)
    try:
        with _on_loopback() if _only_on_loopback(ray, address) else nullcontext():
            ray.init(address=address, **options)
    except ConnectionError as error:
        raise SearchError(f"--address must be that of a running Ray cluster, but {address!r}: {error}") from None


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _only_on_loopback(ray: Any, address: str) -> bool:
    """Whether the cluster is reached at 127.0.0.1 alone, where Ray would look at the machine's own address instead."""
    host, _, port = address.rpartition(":")
    if "://" in address or not authentication.is_loopback(host):
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), int(port)), timeout=5).close()
    except OSError:
        return True
    return False


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A cluster that is started within listens on 127.0.0.1 alone, as on macOS; for Linux Ray has no option."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def check_answers(address: str) -> None:
    """Returns if something listens at host:port; Ray itself would try for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5).close()
    except OSError as error:
        raise SearchError(
            f"--address must be that of a running Ray cluster, but {address!r} does not answer: {error}"
        ) from None
