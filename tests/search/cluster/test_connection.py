import os
import socket

import psutil
import pytest

from search import cluster
from search.cluster.authentication import knock, read_token
from search.cluster.connection import ALLOCATOR, joined, resolve
from search.errors import SearchError
from search.spec import load


@pytest.fixture(autouse=True)
def _token_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))


@pytest.mark.parametrize(
    ("given", "variable", "meant"),
    [
        (None, None, None),
        (None, "head:6379", "head:6379"),
        ("local", "head:6379", None),
        ("auto", "head:6379", "head:6379"),
        ("other:6379", "head:6379", "other:6379"),
        ("ray://head:10001", None, "ray://head:10001"),
    ],
)
def test_which_cluster_is_meant(monkeypatch, given, variable, meant):
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert resolve(given) == meant


def test_auto_asks_ray_where_this_machine_belongs(monkeypatch):
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {"10.0.0.1:6379"})
    monkeypatch.setattr(services, "find_bootstrap_address", lambda temp_dir: None)
    assert resolve("auto") == "10.0.0.1:6379"
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    with pytest.raises(SearchError, match="none was found"):
        resolve("auto")


@pytest.mark.parametrize(
    ("address", "says"), [("http://head:8265", "is one for --submit"), ("head", "must be host:port")]
)
def test_what_is_no_address_of_a_cluster(address, says):
    with pytest.raises(SearchError, match=says):
        resolve(address)


def test_nobody_at_the_address_is_one_sentence():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(SearchError, match=f"'127.0.0.1:{port}' does not answer"), joined(f"127.0.0.1:{port}"):
        pass


def listeners() -> dict[str, set[str]]:
    """The addresses that the processes of this one's cluster listen on."""
    found: dict[str, set[str]] = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for entry in process.net_connections("tcp"):
            if entry.status == psutil.CONN_LISTEN:
                found.setdefault(process.name(), set()).add(entry.laddr.ip.removeprefix("::ffff:"))
    return found


@pytest.mark.slow
def test_a_cluster_of_its_own_is_on_loopback_and_asks_for_the_token(tmp_path):
    spec = load("quickstart")
    with cluster.connection(spec, None, verbose=False):
        import ray

        address = ray.get_runtime_context().gcs_address
        assert ray.is_initialized() and os.environ["RAY_AUTH_MODE"] == "token"
        seen = listeners()
        assert {"gcs_server", "raylet"} <= set(seen)
        assert set().union(*seen.values()) == {"127.0.0.1"}
        assert [knock(address, token) for token in (None, read_token())] == ["closed", "open"]
        token = read_token()
        commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
        assert token and not [line for line in commands if token in line]
        with joined("nobody:1") as again:
            assert again is ray
        assert ray.is_initialized()
    assert not ray.is_initialized()


@pytest.mark.slow
def test_workers_of_a_cluster_of_its_own_get_their_settings(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def look():
        return {name: os.environ.get(name) for name in settings}

    settings = {**ALLOCATOR, "OMP_NUM_THREADS": "2"}
    with cluster.connection(load("quickstart", ["resources.cpu=2"]), None, verbose=False):
        import ray

        assert ray.get(ray.remote(look).remote()) == settings
        assert os.environ["OMP_NUM_THREADS"] == "7" and not ALLOCATOR.keys() & os.environ.keys()


@pytest.mark.slow
def test_a_trial_that_fits_nowhere_is_refused_and_the_cluster_closed():
    spec = load("quickstart", ["resources.cpu=10000"])
    wrong = pytest.raises(SearchError, match="a trial must fit on one node")
    with wrong, cluster.connection(spec, None, verbose=False):
        pass
    import ray

    assert not ray.is_initialized()
