import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search.cluster.connection import ALLOCATOR
from search.doctor import checks, examine, storage
from search.doctor.checks import Check, Finding
from search.doctor.facts import THREADS, Facts, Listener, gather
from search.doctor.storage import Trial
from search.store import Store

GB = 10**9
VERSIONS = {"python": "3.11.7", "recsweep": "0.1.0", "ray": "2.60.0", "torch": "2.9.0", "optuna": "5.0.0"}
WELL = Facts(
    where="driver",
    versions=VERSIONS,
    unmet=(),
    code="digest",
    auth_mode="token",
    token_access=0o600,
    listeners=(),
    disks={"the store": (100 * GB, 1000 * GB)},
    cpus=4,
    environment={**ALLOCATOR, **dict.fromkeys(THREADS, "1")},
    cards=None,
    card_error=None,
    shared_memory=8 * GB,
    open_files=65536,
)
NODE = replace(WELL, where="node", ray_cpus=4.0, ray_gpus=0.0)
ABROAD = Listener("gcs_server", "::", 6379)


def states(findings) -> list[str]:
    return [finding.state for finding in findings]


def only(findings) -> Finding:
    (finding,) = findings
    return finding


def changed(**versions: str | None) -> Facts:
    return replace(NODE, versions={**VERSIONS, **versions})


def test_the_same_versions_everywhere_are_well():
    assert states(checks.versions(WELL, [NODE, changed(python="3.11.9")])) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("node", "state", "says"),
    [
        (changed(python="3.12.1"), "bad", "python 3.12.1 (driver 3.11.7)"),
        (changed(ray="2.59.0"), "bad", "ray 2.59.0 (driver 2.60.0)"),
        (changed(recsweep=None), "bad", "recsweep missing (driver 0.1.0)"),
        (changed(torch=None), "bad", "torch missing"),
        (changed(torch="2.8.0"), "warning", "torch 2.8.0 (driver 2.9.0)"),
        (changed(optuna=None), "warning", "optuna missing"),
        (replace(NODE, code="other"), "bad", "other source code"),
    ],
)
def test_other_versions_on_a_node_are_named(node, state, says):
    found = list(checks.versions(WELL, [node]))[1]
    assert (found.where, found.state) == ("node", state)
    assert says in found.text and found.remedy


def test_requirements_that_are_not_met_are_named():
    found = only(checks.versions(replace(WELL, unmet=("ray<2.61,>=2.60 (2.59.0)",)), []))
    assert found.state == "bad" and "recsweep needs ray<2.61,>=2.60 (2.59.0)" in found.text


@pytest.mark.parametrize(
    ("facts", "state", "says"),
    [
        (WELL, "ok", "token mode, token file of mode 0600"),
        (replace(WELL, auth_mode="", token_access=None), "ok", "made at the first start"),
        (replace(WELL, auth_mode="disabled"), "warning", "disabled"),
        (replace(WELL, token_access=0o644), "warning", "mode 0644"),
        (replace(WELL, token_access=0o640), "warning", "mode 0640"),
    ],
)
def test_authentication_of_a_machine(facts, state, says):
    found = only(checks.authentication(facts, [], None, None))
    assert found.state == state and says in found.text


@pytest.mark.parametrize(("door", "expected"), [("open", ["ok", "bad"]), ("closed", ["ok", "ok"]), ("unknown", ["ok"])])
def test_authentication_of_a_cluster(door, expected):
    assert states(checks.authentication(WELL, [], door, "head:6379")) == expected


@pytest.mark.parametrize(
    ("listeners", "door", "mode", "state"),
    [
        ((), None, "", "ok"),
        ((Listener("gcs_server", "127.0.0.1", 6379), Listener("dashboard", "127.0.0.1", 8265)), None, "", "ok"),
        ((ABROAD,), "closed", "", "ok"),
        ((ABROAD,), "open", "token", "bad"),
        ((ABROAD,), None, "token", "ok"),
        ((ABROAD,), None, "", "warning"),
        ((Listener("dashboard", "0.0.0.0", 8265),), "closed", "token", "warning"),
    ],
)
def test_where_ray_listens(listeners, door, mode, state):
    facts = replace(WELL, listeners=listeners, auth_mode=mode)
    assert only(checks.addresses(facts, [], door)).state == state
    assert only(checks.addresses(WELL, [replace(facts, where="node")], door)).state == state


def test_storage_names_who_cannot_write_and_who_does_not_see():
    trials = [Trial("driver"), Trial("a", error="read-only"), Trial("b", unseen=("driver", "a"))]
    well, unwritable, alone = checks.storage(trials, "/store")
    assert (well.state, unwritable.state, alone.state) == ("ok", "bad", "bad")
    assert "read-only" in unwritable.text and "driver, a" in alone.text


@pytest.mark.parametrize(
    ("free", "size", "name", "state"),
    [
        (100, 1000, "the store", "ok"),
        (9, 10, "the store", "warning"),
        (0.5, 10, "the store", "bad"),
        (40, 1000, "the store", "ok"),
        (40, 1000, "Ray's temporary files", "warning"),
    ],
)
def test_room_on_disks(free, size, name, state):
    facts = replace(WELL, disks={name: (int(free * GB), int(size * GB))})
    assert only(checks.disks([facts])).state == state


@pytest.mark.parametrize(
    ("cards", "error", "offered", "state"),
    [
        (None, None, None, "ok"),
        (None, None, 0.0, "ok"),
        (("H200, 141 GB, 570",), None, 1.0, "ok"),
        (("H200, 141 GB, 570",), "torch cannot use them", 1.0, "bad"),
        ((), "nvidia-smi fails: no device", 0.0, "bad"),
        (None, None, 2.0, "warning"),
        (("H200, 141 GB, 570",), None, 0.0, "warning"),
    ],
)
def test_cards(cards, error, offered, state):
    facts = replace(NODE, cards=cards, card_error=error, ray_gpus=offered)
    assert only(checks.cards([facts])).state == state


def test_threads():
    bare = replace(NODE, environment={})
    assert states(checks.threads([WELL, NODE], in_cluster=True)) == ["ok", "ok"]
    assert states(checks.threads([replace(WELL, environment={})], in_cluster=False)) == ["ok"]
    lost = list(checks.threads([WELL, bare], in_cluster=True))[1]
    assert lost.state == "warning" and "OMP_NUM_THREADS" in lost.text
    many = only(checks.threads([replace(NODE, ray_cpus=8.0)], in_cluster=True))
    assert many.state == "warning" and "offers 8 CPUs, but 4 are there" in many.text
    preloaded = replace(NODE, environment={**NODE.environment, "LD_PRELOAD": "libjemalloc.so"})
    assert "LD_PRELOAD" in only(checks.threads([preloaded], in_cluster=True)).text


@pytest.mark.parametrize(
    ("offset", "state"), [(0.0, "ok"), (-1.9, "ok"), (2.5, "warning"), (-3, "warning"), (-60, "bad")]
)
def test_clocks(offset, state):
    assert only(checks.clocks([replace(NODE, clock=offset)], [])).state == state
    stored = only(checks.clocks([], [Trial("driver", clock=offset), Trial("node", clock=0.0)]))
    assert (stored.where, stored.state) == ("driver", state)
    assert ("behind" if offset <= 0 else "ahead of") in stored.text


@pytest.mark.parametrize(
    ("memory", "files", "expected"),
    [
        (8 * GB, 65536, ["ok"]),
        (None, 65536, ["ok"]),
        (64 * 2**20, 65536, ["warning"]),
        (8 * GB, 1024, ["warning"]),
        (8 * GB, 256, ["bad"]),
        (64 * 2**20, 256, ["warning", "bad"]),
    ],
)
def test_limits(memory, files, expected):
    assert states(checks.limits([replace(WELL, shared_memory=memory, open_files=files)])) == expected


def test_nodes_that_do_not_answer_are_named():
    nodes = [{"Alive": True}, {"Alive": True}, {"Alive": False}]
    assert "2 of 3 nodes alive" in only(checks.nodes_alive(nodes, {})).text
    silent = only(checks.nodes_alive(nodes, {"node b": "No module named 'search'"}))
    assert (silent.where, silent.state) == ("node b", "bad") and "No module named" in silent.text


def test_a_row_has_the_worst_state_and_each_remedy_once():
    wrong = [Finding(f"n{number}", "warning", "low", "free some") for number in range(7)]
    row = Check("disk", (Finding("driver", "ok", "fine"), *wrong, Finding("n7", "bad", "full", "free more")))
    assert row.state == "bad"
    assert row.text == "n0: low; n1: low; n2: low; n3: low; n4: low; and 3 more"
    assert row.remedy == "free some; free more"
    assert Check("disk", (Finding("driver", "ok", "fine"), Finding("n", "ok", "good"))).text == "fine (and 1 more)"


def test_this_machine_as_it_is(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("RAY_AUTH_MODE", "Token")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = gather("here", {"x": str(tmp_path / "not" / "there")})
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.versions["ray"] and found.versions["torch"] and found.unmet == () and found.code is None
    assert (found.auth_mode, found.token_access) == ("token", 0o640)
    assert found.environment["OMP_NUM_THREADS"] == "3"
    free, size = found.disks["x"]
    assert 0 < free <= size
    assert found.cpus == len(os.sched_getaffinity(0)) and found.open_files > 0
    assert "secret" not in repr(found)
    assert token.stat().st_mode & 0o777 == 0o640


def test_only_listeners_of_the_session_are_seen():
    # Stands for Ray's head: a process whose command line says so, and that listens.
    body = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    command = [sys.executable, "-c", body, "ray/gcs/gcs_server", "--session-name=session_of_this_test"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as head:
        assert head.stdout is not None
        port = int(head.stdout.readline())
        mine = Listener("gcs_server", "127.0.0.1", port)
        assert gather("here", {}, session="session_of_this_test").listeners == (mine,)
        assert mine in gather("here", {}).listeners
        assert gather("here", {}, session="session_of_another").listeners == ()
        head.communicate("")


FAKE_SMI = """#!/bin/sh
{body}
"""


@pytest.mark.parametrize(
    ("body", "cards", "error"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 570.86.15'", ("NVIDIA H200, 143771 MiB, 570.86.15",), "torch cannot use them"),
        ("exit 9", (), "nvidia-smi fails"),
    ],
)
@pytest.mark.slow
def test_a_card_that_torch_cannot_use_is_seen(tmp_path, monkeypatch, body, cards, error):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(FAKE_SMI.format(body=body))
    smi.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = gather("here", {})
    assert found.cards == cards
    assert found.card_error is not None and error in found.card_error


def test_a_probe_is_written_seen_and_deleted(tmp_path):
    Store(tmp_path, create=True)
    trial = storage.write(str(tmp_path), ".probe", "content", "here")
    assert trial.error is None and trial.clock is not None and abs(trial.clock) < 5
    expected = {"a": (".probe", "content"), "b": (".probe", "other"), "c": (".missing", "content")}
    assert storage.unseen(str(tmp_path), expected) == ["b", "c"]
    assert storage.delete(str(tmp_path), [".probe", ".missing"]) is None
    assert not (tmp_path / ".probe").exists()
    assert storage.unseen(str(tmp_path), expected) == ["a", "b", "c"]


def test_the_stores_clock_is_seen(tmp_path, monkeypatch):
    Store(tmp_path, create=True)
    now = storage.time.time()
    monkeypatch.setattr(storage.time, "time", lambda: now + 100)
    trial = storage.write(str(tmp_path), ".probe", "content", "here")
    assert trial.clock is not None and -101 < trial.clock < -90


def test_a_place_without_a_store_is_an_error(tmp_path):
    assert "there is no result store" in str(storage.write(str(tmp_path / "no"), ".probe", "x", "here").error)
    assert "there is no result store" in str(storage.delete(str(tmp_path / "no"), [".probe"]))
    assert storage.unseen(str(tmp_path / "no"), {"a": (".probe", "x")}) == ["a"]


def by_name(rows: list[Check]) -> dict[str, Check]:
    return {row.name: row for row in rows}


def test_this_machine_and_a_store(tmp_path):
    rows = by_name(examine(None, str(tmp_path / "store")))
    assert {"versions", "authentication", "addresses", "storage", "disk", "gpu", "threads", "limits"} <= set(rows)
    assert "cluster" not in rows
    assert rows["storage"].state == "ok"
    assert list((tmp_path / "store").iterdir()) == []


def test_without_a_store_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "storage" not in by_name(examine(None, None))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    row = by_name(examine(None, str(tmp_path / "file")))["storage"]
    assert row.state == "bad" and "is a file" in row.text and row.remedy


def test_a_cluster_that_does_not_answer_is_a_row(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    row = by_name(examine(address, None))["cluster"]
    assert row.state == "bad" and "does not answer" in row.text


def test_the_package_only_looks(tmp_path: Path):
    # `doctor` must be light enough to be asked first: no torch, no ray.
    code = "import sys, search.doctor; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
