"""The connection to Ray: a cluster on this machine, or one that is already running."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
"""glibc then keeps the memory of large temporaries instead of faulting it in anew at every batch (performance.md)."""


@contextmanager
def connection(spec: SweepSpec, address: str | None, *, verbose: bool) -> Iterator[dict[str, float]]:
    """A Ray connection for one sweep, closed afterwards where it was opened here; yields the cluster's resources.

    Args:
        address: of a running cluster; None starts one on this machine, on loopback and without a dashboard.

    Raises:
        SearchError: no cluster answers at the address, or no node can hold a trial.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    own = not ray.is_initialized()
    if own:
        _start(ray, spec, address, verbose=verbose)
    try:
        resources = ray.cluster_resources()
        _check_fits(spec, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        yield resources
    finally:
        if own:
            ray.shutdown()


def _start(ray: Any, spec: SweepSpec, address: str | None, *, verbose: bool) -> None:
    threads = {"OMP_NUM_THREADS": str(spec.resources.cpu), "MKL_NUM_THREADS": str(spec.resources.cpu)}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": ALLOCATOR | threads},
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
    }
    if address is None:
        options |= {"include_dashboard": False}
    else:
        _check_answers(address)
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise SearchError(f"--address must be that of a running Ray cluster, but {address!r}: {error}") from None


def _check_answers(address: str) -> None:
    """Returns if something listens at host:port; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise SearchError(
            f"--address must be that of a running Ray cluster, but {address!r} does not answer: {error}"
        ) from None


def _check_fits(spec: SweepSpec, nodes: list[dict[str, float]]) -> None:
    wanted = spec.resources
    if not any(node.get("CPU", 0) >= wanted.cpu and node.get("GPU", 0) >= wanted.gpu for node in nodes):
        largest = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
        raise SearchError(
            f"resources: a trial must fit on one node, but asks for {wanted.cpu} CPU and {wanted.gpu:g} GPU, and the "
            f"cluster's nodes have {largest}"
        )


def concurrency(spec: SweepSpec, resources: dict[str, float]) -> int:
    """Trials that run at once: as many as the cluster holds, and no more than `resources.max_concurrent`."""
    holds = int(resources.get("CPU", 1) // spec.resources.cpu)
    if gpu := spec.resources.gpu:
        # A trial's share lies on one card: what is left over on several cards holds no further trial. 1 // 0.1 is 9.
        cards = int(resources.get("GPU", 0))
        holds = min(holds, cards * int(1 / gpu + 1e-9) if gpu < 1 else int(cards // gpu))
    wanted = spec.resources.max_concurrent
    return max(1, holds if wanted == "auto" else min(wanted, holds))
