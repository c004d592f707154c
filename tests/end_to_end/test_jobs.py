"""Sweeps sent to a running cluster over Ray's Jobs API, with its token: a real head node with its dashboard."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from search.store import Store

pytestmark = pytest.mark.slow

HEAD = """
import sys
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster
dashboard, agent = map(int, sys.argv[2:])
arguments = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": dashboard}
# Jobs are started by the node's agent, whose own default port another Ray of this machine may have.
arguments |= {"num_cpus": 2, "dashboard_agent_listen_port": agent, "temp_dir": sys.argv[1]}
head = Cluster(initialize_head=True, head_node_args=arguments)
# As `ray start` does; its jobs would else join any Ray that runs on this machine.
write_ray_address(head.address, sys.argv[1])
print("up", flush=True)
sys.stdin.read()
head.shutdown()
"""
LONG = (
    "train.max_epochs=3000",
    "train.patience=3000",
    "search.trials=1",
    "axes.model=[lightgcn]",
    "axes.update=[descent]",
)
PATIENCE_SECONDS = 180


@dataclass(frozen=True)
class Cluster:
    """A head node with two CPUs, and how to use it."""

    address: str
    folder: Path
    environment: Mapping[str, str]

    def recsweep(self, *arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs the command as a client of the cluster."""
        command = [sys.executable, "-m", "search.cli", *map(str, arguments)]
        environment = {**self.environment, **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def send(self, sweep: Path, store: Path, *overrides: str, **variables: str) -> str:
        """Sends a sweep to it, and returns what is said then."""
        arguments = ("launch", sweep, *overrides, "--store", store, "--submit", self.address)
        sent = self.recsweep(*arguments, **variables)
        assert sent.returncode == 0, sent.stderr
        return sent.stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's folder: paths of sockets may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rs-"))
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    environment = {
        **os.environ,
        **{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"},
        **{"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "160"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RECSWEEP_STORE"):
        environment.pop(name, None)
    ports = free_ports(2)
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(folder / "ray"), *map(str, ports)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdout is not None
    assert head.stdout.readline() == "up\n"
    # Clients have neither RAY_AUTH_MODE nor the same home by chance, but the token file.
    client = {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}
    running = Cluster(f"http://127.0.0.1:{ports[0]}", folder, client)
    wait_for_agent(running.address, token.read_text())
    yield running
    head.communicate("")
    shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_agent(address: str, token: str) -> None:
    """Waits until the head takes jobs, which is some seconds after it is up."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})

    def takes_jobs() -> bool:
        try:
            client.submit_job(entrypoint="true")
        except RuntimeError:
            return False
        return True

    eventually(takes_jobs)


def eventually(holds: Callable[[], bool], state: Callable[[], object] = lambda: "it never came to that") -> None:
    """Waits until it holds; where it never does, the state says why."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, state()
        time.sleep(0.5)


def statuses(store: Path) -> Sequence[str]:
    return Store(store).table("trials")["status"].to_pylist() if (store / "trials").is_dir() else []


def last_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


def test_a_sweep_is_sent_followed_and_read_from_the_store(cluster: Cluster, sweep_file: Callable[[str], Path]) -> None:
    store = cluster.folder / "sent"
    submit = ("--submit", cluster.address)

    # A client that belongs to another cluster still sends the sweep to this one.
    said = cluster.send(sweep_file("sent"), store, RAY_ADDRESS="127.0.0.1:1")

    assert "Sent as job recsweep-sent-" in said
    assert len(statuses(store)) < 8 or "running" in statuses(store), "it must return before the sweep has ended"
    followed = cluster.recsweep("logs", "sent", "--follow", *submit)
    assert followed.returncode == 0, followed.stderr
    assert "Sweep sent: 8 finished" in followed.stdout
    assert followed.stdout.splitlines()[-1].endswith(": SUCCEEDED, exit code 0")
    assert statuses(store) == ["finished"] * 8
    assert followed.stderr == "", "nothing of Ray's own"
    assert last_line(cluster.recsweep("logs", *submit)) == followed.stdout.splitlines()[-1], "the latest job"
    progress = json.loads(cluster.recsweep("status", "--json", "--store", store).stdout)
    assert progress["ended"]
    asked = cluster.recsweep("status", "sent", "--json", *submit)
    assert json.loads(asked.stdout) == progress, "the store is found by the job, and read on the cluster"


def test_of_two_sweeps_of_one_name_the_status_is_that_of_the_last_one_sent(
    cluster: Cluster, sweep_file: Callable[[str], Path]
) -> None:
    store, submit = cluster.folder / "twice", ("--submit", cluster.address)
    short = ("train.max_epochs=1", "search.trials=1", "axes.model=[lightgcn]", "axes.update=[descent]")
    for trials in (1, 2):
        cluster.send(sweep_file("twice"), store, *short, f"search.trials={trials}")
        cluster.recsweep("logs", "twice", "--follow", *submit)

    said = cluster.recsweep("status", "twice", *submit)

    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Job recsweep-twice-") and "SUCCEEDED, exit code 0" in said.stdout
    assert "twice-2: ended" in said.stdout and "lightgcn" in said.stdout


def test_a_sweep_that_never_began_is_an_error_that_says_what_the_cluster_knows(
    cluster: Cluster, sweep_file: Callable[[str], Path]
) -> None:
    submit = ("--submit", cluster.address)
    cluster.send(sweep_file("empty"), cluster.folder / "empty", "data.names=[nowhere]", "data.root=/nowhere")
    failed = cluster.recsweep("logs", "empty", "--follow", *submit)
    assert last_line(failed).endswith("FAILED, exit code 2")

    said = cluster.recsweep("status", "empty", *submit)

    assert (said.returncode, "FAILED" in said.stdout) == (2, True)
    (sentence,) = said.stderr.splitlines()
    assert "cannot tell how far recsweep-empty-" in sentence and "has no sweep `recsweep-empty-" in sentence


def test_a_job_is_stopped_at_once_and_a_driver_at_its_checkpoints(
    cluster: Cluster, sweep_file: Callable[[str], Path]
) -> None:
    store = cluster.folder / "long"
    submit = ("--submit", cluster.address)
    cluster.send(sweep_file("long"), store, *LONG)
    eventually(lambda: "running" in statuses(store), lambda: cluster.recsweep("logs", *submit).stdout)

    stopped = cluster.recsweep("stop", "long", "--wait", *submit)

    assert last_line(stopped).endswith(": STOPPED")
    again = cluster.recsweep("stop", "long", *submit)
    assert (again.returncode, "but recsweep-long-" in again.stderr) == (2, True)

    cluster.send(sweep_file("other"), store, *LONG)
    eventually(lambda: "running" in statuses(store)[1:], lambda: cluster.recsweep("logs", *submit).stdout)

    asked = cluster.recsweep("stop", "other", "--wait", "--store", store)

    assert last_line(asked).endswith("other has stopped.")
    eventually(lambda: "exit code 130" in last_line(cluster.recsweep("logs", "other", *submit)))
    assert "stop" in Store(store).table("events", "other")["kind"].to_pylist()
    assert statuses(store)[1:] == ["stopped"]


def test_a_client_without_the_clusters_token_is_told_so(
    cluster: Cluster, sweep_file: Callable[[str], Path], tmp_path: Path
) -> None:
    other = tmp_path / "token"
    other.write_text("f" * 64)
    other.chmod(0o600)
    arguments = ("launch", sweep_file("refused"), "--store", "/nowhere", "--submit", cluster.address)

    for path, found in ((tmp_path / "none", "there is none"), (other, "this machine has another one")):
        refused = cluster.recsweep(*arguments, RAY_AUTH_TOKEN_PATH=str(path))
        assert (refused.returncode, refused.stdout) == (2, "")
        (sentence,) = refused.stderr.splitlines()
        assert f"the cluster {cluster.address} must be joined with its own token, but {found}" in sentence


def test_a_job_that_is_not_there_is_an_error_with_the_nearest_name(cluster: Cluster) -> None:
    missing = cluster.recsweep("logs", "never-sent", "--submit", cluster.address)

    assert missing.returncode == 2
    assert f"recsweep: the cluster {cluster.address} has no job of the sweep `never-sent`" in missing.stderr
