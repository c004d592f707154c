"""A Ray cluster in a process of its own, which takes orders; `runpy.run_path` is given what it needs as globals."""

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

SYSTEM = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}


def main(
    orders: Connection, folder: Path, head: dict[str, Any], nodes: list[dict[str, Any]], variables: dict[str, str]
) -> None:
    """Starts the nodes, sends the address, and does as it is told until it hears `end`."""
    os.setsid()
    os.environ.update(variables)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    from search.cluster.authentication import secure_own

    secure_own()
    from ray.cluster_utils import Cluster

    local = {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**local, "_system_config": SYSTEM, **head})
    members = [cluster.add_node(**local, **node) for node in nodes]
    orders.send(cluster.address)
    while (order := orders.recv()) != "end":
        orders.send(_remove_busiest(cluster, members) if order == "remove" else _kill_head(cluster))
    for each in psutil.Process().children(recursive=True):
        each.kill()
    os._exit(0)


def _busy(node: Any) -> int:
    """Workers of a node that hold a trial."""
    raylet = psutil.Process(_number(node, "raylet"))
    return sum("Trainable" in " ".join(worker.cmdline()) for worker in raylet.children(recursive=True))


def _number(node: Any, kind: str) -> int:
    return int(node.all_processes[kind][0].process.pid)


def _remove_busiest(cluster: Any, members: list[Any]) -> int:
    """Removes the node with most trials without a word; returns how many it had."""
    busiest = max(members, key=_busy)
    trials = _busy(busiest)
    if trials:
        members.remove(busiest)
        cluster.remove_node(busiest, allow_graceful=False)
    return trials


def _kill_head(cluster: Any) -> int:
    for kind in ("gcs_server", "raylet"):
        os.kill(_number(cluster.head_node, kind), signal.SIGKILL)
    return 0


if "orders" in globals():
    main(orders, folder, head, nodes, variables)  # type: ignore[name-defined]
