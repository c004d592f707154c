"""The doctor on this machine, and on a real cluster of two nodes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=2, num_gpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def two_nodes(mode: str) -> Iterator[str]:
    """A cluster in processes of its own: a head without trials, and a node with a logical GPU; yields its address."""
    environment = os.environ | {"RAY_AUTH_MODE": mode}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", HEAD], env=environment, **pipes) as head:
        yield head.stdout.readline().strip()
        head.stdin.close()
        head.wait()


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "token"
    path.write_text("a1" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return path


def rows(result: "subprocess.CompletedProcess[str]") -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(result.stdout)["checks"]}


def test_this_machine_as_a_table_and_as_json(recsweep, tmp_path):
    table = recsweep(["doctor", "--store", "mine"])
    assert "authentication" in table.stdout and "how to mend it" in table.stdout
    result = recsweep(["doctor", "--store", "mine", "--json"])
    found = rows(result)
    assert result.returncode == table.returncode == (0 if json.loads(result.stdout)["ok"] else 2)
    assert found["storage"]["state"] == "ok"
    assert not list((tmp_path / "mine").iterdir())


def test_what_is_bad_gives_exit_code_2(recsweep, tmp_path):
    (tmp_path / "mine").write_text("")
    result = recsweep(["doctor", "--store", "mine", "--json"])
    assert result.returncode == 2
    assert rows(result)["storage"]["state"] == "bad"


@pytest.mark.slow
def test_every_node_of_a_real_cluster_is_examined(recsweep, tmp_path, token):
    with two_nodes("token") as address:
        result = recsweep(["doctor", "--address", address, "--store", "mine", "--json"])
        token.write_text("b2" * 32)
        refused = recsweep(["doctor", "--address", address, "--json"])
    found = rows(result)
    assert found["cluster"]["text"] == "2 of 2 nodes alive, all answer"
    for name in ("versions", "storage", "threads", "limits"):
        places = [finding["where"] for finding in found[name]["findings"]]
        assert len(places) == len(set(places)) == 3 and places[0] == "driver"
    assert found["versions"]["state"] == found["storage"]["state"] == found["clocks"]["state"] == "ok"
    assert found["authentication"]["state"] == found["addresses"]["state"] == "ok"
    # The node's GPU is a logical one.
    assert found["gpu"]["state"] == "warning" and "Ray offers 1 GPUs" in found["gpu"]["text"]
    assert not list((tmp_path / "mine").iterdir())
    assert "a1" * 32 not in result.stdout + result.stderr
    row = rows(refused)["cluster"]
    assert row["state"] == "bad" and "this machine has another one" in row["text"]


@pytest.mark.slow
def test_a_cluster_that_lets_in_anyone_is_bad_but_can_be_examined(recsweep):
    with two_nodes("disabled") as address:
        refused = recsweep(["doctor", "--address", address, "--json"])
        examined = rows(recsweep(["doctor", "--address", address, "--insecure-cluster", "--json"]))
    assert refused.returncode == 2
    assert "--insecure-cluster" in rows(refused)["cluster"]["text"]
    assert examined["cluster"]["state"] == "ok"
    assert examined["authentication"]["state"] == examined["addresses"]["state"] == "bad"
