"""What is sent to a cluster, and what is refused before; tests/end_to_end/test_jobs.py sends it to a real one."""

import importlib.util
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from search.cluster import jobs
from search.errors import SearchError
from search.spec import SweepSpec, builtin_sweeps, load, parse
from search.yaml_loader import read

STORE = "s3://bucket/results"

RECORDER = """#!/bin/sh
echo "$RECSWEEP_JOB" >> "$0.job"
for each in "$@"; do echo "$each" >> "$0.arguments"; done
cat > "$0.input"
exit 3
"""


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A program `python` that writes down its arguments and its standard input, and ends with 3."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(RECORDER)
    program.chmod(0o755)
    return program


def run(entrypoint: str, head: Path) -> tuple[int, list[str], str]:
    """What Ray does with an entrypoint: the exit code, and what `python` was given."""
    environment = {"PATH": f"{head.parent}:{os.environ['PATH']}", "HOME": "/nowhere"}
    code = subprocess.run(entrypoint, shell=True, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    return code, Path(f"{head}.arguments").read_text().splitlines(), Path(f"{head}.input").read_text()


def awkward() -> SweepSpec:
    """A sweep whose texts have meanings for a shell and for YAML."""
    return parse(
        {
            "name": "awkward",
            "data": {"names": ["synthetic"], "root": '/data/it\'s "$HOME" `id` \\ é \U0001f680 # &\nEND\n'},
            "axes": {"model": ["vbpr", "freedom"], "update": ["sam"]},
            "space": {
                "narrow": {"optimizer.learning_rate": {"kind": "float", "low": 1.5e-4, "high": 1e-2, "log": True}}
            },
            "resources": {"gpu": 0.25, "overrides": {"model.freedom": {"gpu": 0.5}}},
            "protocols": {"robustness": {}},
            "budget": {"device_hours": 1e-7},
        }
    )


@pytest.mark.parametrize("spec", [*map(load, builtin_sweeps()), awkward()], ids=lambda spec: spec.name)
def test_the_head_is_given_the_same_sweep(spec: SweepSpec, head: Path) -> None:
    entrypoint = jobs._entrypoint(spec, STORE, "job-1", resume=False, insecure=False)

    code, arguments, text = run(entrypoint, head)

    assert code == 3, "the command's exit code is the job's"
    launch = ["-m", "search.cli", "launch", "/dev/stdin"]
    assert arguments == [*launch, "--address", "auto", "--store", STORE]
    assert parse(read(text, "stdin")) == spec
    assert Path(f"{head}.job").read_text() == "job-1\n"


def test_a_store_comes_through_the_shell_as_it_is(head: Path) -> None:
    store = "/mnt/it's $HOME/results"
    entrypoint = jobs._entrypoint(awkward(), store, "job-1", resume=False, insecure=True)

    assert run(entrypoint, head)[1][-2:] == [store, "--insecure-cluster"]


def test_a_resume_needs_only_the_name(head: Path) -> None:
    entrypoint = jobs._entrypoint(awkward(), STORE, "job-1", resume=True, insecure=False)

    resume = ["-m", "search.cli", "resume", "awkward"]
    assert run(entrypoint, head) == (3, [*resume, "--address", "auto", "--store", STORE], "")


def test_a_sweep_that_is_too_long_for_a_command_is_refused() -> None:
    spec = awkward().model_copy(update={"store": "x" * jobs.LARGEST_BYTES})

    with pytest.raises(SearchError, match=r"at most 100000 bytes of JSON, but has 10\d{4}$"):
        jobs._entrypoint(spec, STORE, "job-1", resume=False, insecure=False)


@pytest.mark.parametrize("store", ["results", "./results", "~/results", ""])
def test_a_store_that_depends_on_where_one_stands_is_refused(store: str) -> None:
    with pytest.raises(SearchError, match=f"must be an absolute path on the cluster .*, but got '{store}'"):
        jobs.submit("http://127.0.0.1:1", awkward(), store)


def test_credentials_do_not_get_into_what_a_cluster_shows() -> None:
    with pytest.raises(SearchError, match="must be without credentials") as caught:
        jobs.submit("http://127.0.0.1:1", awkward(), "s3://key:secret@bucket/results")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:8265", "ray://127.0.0.1:10001", "http://", "http://host:99999"])
def test_what_is_no_address_of_a_dashboard_is_refused(address: str) -> None:
    with pytest.raises(
        SearchError, match=r"must be the http://host:port of the cluster's dashboard, such as .*but got"
    ):
        jobs.submit(address, awkward(), STORE)


def test_an_address_at_which_nothing_listens_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SearchError, match=f"a Ray cluster's dashboard, but none answers at {address}"):
            jobs.find_job(address, "sweep")


def test_a_web_server_that_is_no_dashboard_is_an_error_of_one_sentence(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stranger = serve(lambda path, authorization: (200, b"<html>"))

    with pytest.raises(SearchError, match=f"^the cluster {stranger} did not do what was asked: [^\n]*$"):
        jobs.find_job(stranger, "sweep")


def test_without_rays_client_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiohttp" else found(name))

    with pytest.raises(SearchError, match=r"needs Ray's client for jobs: pip install 'recsweep\[cluster\]'"):
        jobs.submit("http://127.0.0.1:1", awkward(), STORE)
