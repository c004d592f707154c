import logging
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from search.cluster import authentication
from search.errors import SearchError


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch, deaf_ray):
    """A home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))


def token_path(tmp_path: Path) -> Path:
    return tmp_path / ".ray" / "auth_token"


def write_token(path: Path, text: str, access: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(access)
    return path


def test_a_cluster_of_its_own_gets_a_token_that_others_cannot_read(tmp_path):
    authentication.secure_own()
    path = token_path(tmp_path)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(path.read_text()) == 64
    assert [entry.name for entry in path.parent.iterdir()] == ["auth_token"]


def test_a_token_that_is_there_stays(tmp_path):
    write_token(token_path(tmp_path), "mine")
    authentication.secure_own()
    authentication.make_token()
    assert token_path(tmp_path).read_text() == "mine"


def test_two_makers_agree_on_one_token(tmp_path):
    seen: list[str | None] = []

    def make() -> None:
        authentication.make_token()
        seen.append(authentication.read_token())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and len(set(seen)) == 1 and seen[0]


def test_the_umask_does_not_matter(tmp_path):
    before = os.umask(0)
    try:
        authentication.make_token()
    finally:
        os.umask(before)
    assert stat.S_IMODE(token_path(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("access", [0o644, 0o640, 0o604, 0o602])
def test_a_token_file_that_others_can_use_is_mended_in_one_sentence(tmp_path, caplog, access):
    path = write_token(token_path(tmp_path), "secret", access)
    with caplog.at_level(logging.WARNING):
        assert authentication.read_token() == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(caplog.messages) == 1 and f"{access:04o}" in caplog.messages[0] and "secret" not in caplog.messages[0]


def test_a_token_file_that_cannot_be_mended_is_refused(tmp_path, monkeypatch):
    write_token(token_path(tmp_path), "secret", 0o644)

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(SearchError, match="must have mode 0600, but has 0644") as caught:
        authentication.read_token()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"\xff\xfe", "must be readable text")])
def test_a_token_file_without_a_token_is_refused(tmp_path, content, says):
    write_token(token_path(tmp_path), "").write_bytes(content)
    with pytest.raises(SearchError, match=says):
        authentication.read_token()


def test_the_variables_come_before_the_file(tmp_path, monkeypatch):
    write_token(token_path(tmp_path), "default")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(write_token(tmp_path / "elsewhere", "named\n")))
    assert authentication.read_token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert authentication.read_token() == "given"


def test_a_token_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file" / "token"))
    with pytest.raises(SearchError, match=r"the system says 'Not a directory'"):
        authentication.secure_own()


def test_the_users_choice_of_no_authentication_stays_for_a_cluster_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    authentication.secure_own()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not token_path(tmp_path).exists()


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "tokens")
    with pytest.raises(SearchError, match="must be token or disabled, but is 'tokens'"):
        authentication.secure_own()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.200.3.4", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback(host):
    assert authentication.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "192.0.2.7", "fe80::1", "::ffff:10.0.0.1", "no.such.invalid"]
)
def test_not_loopback(host):
    assert not authentication.is_loopback(host)


def test_a_name_with_one_address_elsewhere_is_not_loopback(monkeypatch):
    entries = [(0, 0, 0, "", ("127.0.0.1", 0)), (0, 0, 0, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: entries)
    assert not authentication.is_loopback("both")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("head:6379", "head"),
        ("ray://head:10001", "head"),
        ("[::1]:6379", "::1"),
        ("http://head:8265", "head"),
        ("https://head", "head"),
    ],
)
def test_the_host_of_an_address(address, host):
    assert authentication.host_of(address) == host


@pytest.mark.parametrize("address", ["", "head", ":6379", "head:x", "head:70000", "ray://head", "[::1:6379"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(SearchError, match="must be host:port"):
        authentication.host_of(address)


@pytest.mark.parametrize("address", ["192.0.2.7:6379", "ray://192.0.2.7:10001", "http://192.0.2.7:8265"])
def test_a_cluster_on_a_network_is_not_joined_without_a_token(address):
    with pytest.raises(SearchError, match=r"must ask for a token, but for .* there is none here"):
        authentication.secure_join(address)


def test_nor_with_a_token_where_the_user_has_disabled_authentication(tmp_path, monkeypatch):
    write_token(token_path(tmp_path), "mine")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(SearchError, match="there is none here"):
        authentication.secure_join("192.0.2.7:6379")


@pytest.mark.parametrize(("door", "says"), [("open", "lets in anyone"), ("unknown", "does not say whether")])
def test_nor_one_that_does_not_ask_for_the_token(tmp_path, monkeypatch, door, says):
    write_token(token_path(tmp_path), "mine")
    asked: list[str | None] = []
    monkeypatch.setattr(authentication, "knock", lambda address, token: asked.append(token) or door)
    with pytest.raises(SearchError, match=says):
        authentication.secure_join("192.0.2.7:6379")
    assert asked == [None]
    authentication.secure_join("192.0.2.7:6379", insecure=True)
    assert os.environ["RAY_AUTH_MODE"] == ("disabled" if door == "open" else "token")


def dashboard(token: str | None) -> Callable[[str, str | None], tuple[int, bytes]]:
    """Answers like Ray's dashboard."""

    def answer(path: str, given: str | None) -> tuple[int, bytes]:
        code = 200 if token is None or given == f"Bearer {token}" else 401 if given is None else 403
        return (code if path == "/api/version" else 404), b""

    return answer


def test_the_door_of_a_dashboard(serve):
    url = serve(dashboard("right"))
    assert [authentication.knock(url, token) for token in (None, "wrong", "right")] == ["closed", "closed", "open"]
    assert authentication.knock(f"{url}/elsewhere", None) == "unknown"
    assert authentication.knock(serve(dashboard(None)), None) == "open"
    assert authentication.knock(f"http://127.0.0.1:{a_free_port()}", None) == "unknown"


RIGHT, WRONG = "a1" * 32, "b2" * 32
"""Tokens: no id that Ray draws at random has one of them in it, as it may have a few of their letters."""

HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": int(sys.argv[1])},
)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

CLIENT = """
import os, sys
from search.cluster.connection import joined
from search.errors import SearchError
try:
    with joined(sys.argv[1], insecure=sys.argv[2:] == ["insecure"]) as ray:
        print(ray.get(ray.remote(lambda: "worked").remote(), timeout=60))
except SearchError as error:
    print(error)
assert os.environ.get("RAY_AUTH_MODE", "") == os.environ.get("BEFORE", "")
"""


def a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def a_cluster(environment: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """A real cluster in processes of its own; yields its address, its client server's, and their command lines."""
    port = a_free_port()
    command = [sys.executable, "-c", HEAD, str(port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as head:
        address = head.stdout.readline().strip()
        lines = [" ".join(child.cmdline()) for child in psutil.Process(head.pid).children(recursive=True)]
        host = address.partition(":")[0]
        yield address, f"{host}:{port}", "\n".join(lines)
        head.stdin.close()
        head.wait()


def join(address: str, environment: dict[str, str], *options: str) -> str:
    """What a client says that has this environment and joins the cluster."""
    command = [sys.executable, "-c", CLIENT, address, *options]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_a_real_cluster_turns_away_who_has_not_its_token(tmp_path):
    right = write_token(tmp_path / "right", RIGHT)
    wrong = write_token(tmp_path / "wrong", WRONG)
    mode = {"RAY_AUTH_MODE": "token"}
    with a_cluster(mode | {"RAY_AUTH_TOKEN_PATH": str(right)}) as (address, client, commands):
        assert "gcs_server" in commands and RIGHT not in commands
        assert not authentication.is_loopback(authentication.host_of(address))
        for each in (address, f"ray://{client}"):
            doors = [authentication.knock(each, token) for token in (None, WRONG, RIGHT)]
            assert doors == ["closed", "closed", "open"]
        assert join(address, {"RAY_AUTH_TOKEN_PATH": str(right)}) == "worked"
        assert "this machine has another one" in join(address, {"RAY_AUTH_TOKEN_PATH": str(wrong)})
        assert "there is none here" in join(address, {})
        assert "there is none at" in join(address, {}, "insecure")
        off = {"RAY_AUTH_TOKEN_PATH": str(right), "RAY_AUTH_MODE": "disabled", "BEFORE": "disabled"}
        assert "RAY_AUTH_MODE is disabled here" in join(address, off, "insecure")


@pytest.mark.slow
def test_a_real_cluster_that_lets_in_anyone_is_refused_on_a_network(tmp_path):
    right = {"RAY_AUTH_TOKEN_PATH": str(write_token(tmp_path / "right", RIGHT))}
    with a_cluster({"RAY_AUTH_MODE": "disabled"}) as (address, client, _):
        assert authentication.knock(f"ray://{client}", None) == "open"
        for environment in ({}, right):
            assert "--insecure-cluster" in join(address, environment)
            assert join(address, environment, "insecure") == "worked"
        assert "lets in anyone" in join(address, right)
