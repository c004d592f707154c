"""A sweep whose store and checkpoints are at an s3:// address."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_sweeps import SLOW, Sweeps, assert_same, ok, wait_until
from pyarrow import fs

from search.store import Store

pytestmark = pytest.mark.slow

KEY, SECRET = "AKIDFAULTS", "secret-of-faults"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a folder on an S3-compatible server of the test's own, with the credentials in it."""
    pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "server").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_until(lambda: _answers(port), 60, "the S3 server answers")
            options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
            base = f"s3://{KEY}:{SECRET}@sweeps"
            files, _ = fs.FileSystem.from_uri(f"{base}?{options}&allow_bucket_creation=true")
            files.create_dir("sweeps")
            yield f"{base}/deep/store?{options}"
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_sweep_on_an_object_store_is_killed_and_resumed(sweeps: Sweeps, whole: Path, address: str) -> None:
    place = {"RECSWEEP_STORE": address}
    driver = sweeps.start("launch", sweeps.file(), faults=SLOW, **place)
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > 8)
    assert driver.running, driver.output
    driver.kill()
    before = len(sweeps.epochs())
    resumed = ok(sweeps.run("resume", "faults", **place))
    assert len(sweeps.epochs()) - before < 4 * 20
    assert_same(address, whole)
    status = ok(sweeps.run("status", "--json", **place))
    assert json.loads(status.out)["ended"]
    query = ok(sweeps.run("query", "select count(*) as n from trials", "--format", "json", **place))
    assert json.loads(query.out) == [{"n": 4}]
    outputs = [driver.output, resumed.output, status.output, query.output]
    stored = Store(address).table("trials_all").to_pylist() + Store(address).table("events").to_pylist()
    assert SECRET not in "".join(outputs) + str(stored)
