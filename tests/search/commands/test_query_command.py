"""`recsweep query` as a person or a script calls it: where the SELECT comes from, and where the result goes."""

import io
import json
import math
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.cli import run
from search.store import Store

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCORES = (0.1 + 0.2, 1 / 3, math.nan)


def trial(sweep: str, name: str, score: float) -> dict[str, object]:
    texts = {"dataset": "baby", "model": "vbpr", "objective": "plain", "update": "sam", "optimizer": "adam"}
    place = {"sweep": sweep, "trial": name, "attempt": 1, "cell": "/".join(texts.values()), "status": "finished"}
    goal = {"seed": 1, "config_json": "{}", "metric": "recall@20", "mode": "max", "started": NOW}
    return {**place, **texts, **goal, "best_score": score}


class Terminal:
    """A folder with a store in it, from which `recsweep query` is called."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[bytes]) -> None:
        self.store, self._capsys = store, capsys

    def asks(self, *arguments: str) -> bytes:
        """What a call that succeeds writes to stdout."""
        code = run(["query", "--store", str(self.store), *arguments])
        out, error = self._capsys.readouterr()
        assert (code, error) == (0, b"")
        return out

    def refused(self, *arguments: str) -> str:
        """The sentence of a call with wrong input."""
        code = run(["query", "--store", str(self.store), *arguments])
        out, error = self._capsys.readouterr()
        assert (code, out) == (2, b"") and error.count(b"\n") == 1
        return error.decode()


@pytest.fixture
def terminal(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store", create=True)
    for day, sweep in enumerate(("early", "late"), 1):
        store.append("sweeps", [{"sweep": sweep, "digest": "d", "spec_json": "{}", "started": NOW.replace(day=day)}])
        store.append("trials", [trial(sweep, f"{sweep}-{at}", score * day) for at, score in enumerate(SCORES)])
    return Terminal(tmp_path / "store", capsysbinary)


SCORES_OF = "select best_score from trials where sweep = $sweep order by trial"


def test_a_pipe_gets_csv_with_every_digit(terminal: Terminal) -> None:
    lines = terminal.asks(SCORES_OF, "--param", "sweep=early").decode().splitlines()

    assert lines == ["best_score", "0.30000000000000004", "0.3333333333333333", "nan"]


def test_json_has_null_for_nan_and_every_digit_of_the_others(terminal: Terminal) -> None:
    for form in ("json", "jsonl"):
        out = terminal.asks(SCORES_OF, "--param", "sweep=early", "--format", form).decode()
        rows = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert [row["best_score"] for row in rows] == [0.1 + 0.2, 1 / 3, None]


def test_the_select_comes_from_stdin_or_from_a_file(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "-- who\nselect trial from trials\nwhere trial = 'late-1'\n"
    (tmp_path / "who.sql").write_text(sql)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sql.encode())))

    assert terminal.asks("-") == terminal.asks("-f", "who.sql") == terminal.asks("--", sql) == b"trial\nlate-1\n"


def test_stdin_that_is_no_text_is_refused(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"select '\xff'")))

    assert "stdin must be UTF-8 text" in terminal.refused("-")


def test_a_select_is_given_once(terminal: Terminal) -> None:
    for arguments in ((), ("select 1", "-f", "who.sql")):
        assert "query takes one SELECT: as an argument, in a file (-f), or from stdin (-)" in terminal.refused(
            *arguments
        )
    assert "none.sql must be a readable text file" in terminal.refused("-f", "none.sql")


@pytest.mark.parametrize("form", ["parquet", "json", "csv", "markdown"])
def test_an_output_file_gets_what_stdout_would_get(terminal: Terminal, tmp_path: Path, form: str) -> None:
    asked = (SCORES_OF, "--param", "sweep=early", "--format", form)

    assert terminal.asks(*asked, "-o", "found") == b""
    assert (tmp_path / "found").read_bytes() == terminal.asks(*asked)
    if form == "parquet":
        assert repr(pq.read_table(tmp_path / "found")["best_score"].to_pylist()) == repr(list(SCORES))


def test_a_format_that_lacks_a_type_leaves_the_output_file_as_it_was(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "found").write_text("dear")

    said = terminal.refused("select interval 1 day as span", "--format", "parquet", "-o", "found")

    assert "the result cannot be written as parquet" in said and (tmp_path / "found").read_text() == "dear"


def test_a_named_query_is_about_the_latest_sweep_unless_one_is_named(terminal: Terminal) -> None:
    best = [json.loads(terminal.asks("best", "--format", "json", *more)) for more in ((), ("--param", "sweep=early"))]

    assert [row["trial"] for rows in best for row in rows] == ["late-1", "early-1"]
    assert "has no sweep `erly`; the nearest is `early`" in terminal.refused("best", "--param", "sweep=erly")


def test_a_name_that_is_no_query_is_refused_with_the_nearest(terminal: Terminal) -> None:
    assert "there is no named query `bset`; the nearest is `best`" in terminal.refused("bset")
    assert "there is no named query `zzz`; there is `best`, `compare`, `cost`" in terminal.refused("zzz")


def test_lists_and_schema_come_in_every_format(terminal: Terminal) -> None:
    assert [row["name"] for row in json.loads(terminal.asks("--list", "--format", "json"))] == [
        *("best", "compare", "cost", "curves", "failures")
    ]
    assert b"metrics,train_seconds,double,false,s," in terminal.asks("--schema")


def test_limits_of_time_and_memory_are_options(terminal: Terminal) -> None:
    endless = "select count(*) from range(1000000000000) t(i) where sqrt(i) < 0"
    assert "stopped after its time limit of 0.1 s" in terminal.refused(endless, "--timeout", "0.1")
    large = "select i from range(1000000000) t(i)"
    assert "larger than its memory limit of 47.6 MiB" in terminal.refused(large, "--memory", "50MB")
    assert "Memory must have a number" in terminal.refused("select 1", "--memory", "lots")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, form: str) -> None:
    Store(tmp_path / "store", create=True)
    command = [sys.executable, "-W", "error", "-m", "search.cli", "query", "select i from range(300000) t(i)"]
    line = f"{shlex.join([*command, '--format', form, '--store', str(tmp_path / 'store')])} | head -n 1"
    shell = ["bash", "-c", f"set -o pipefail; {line}"]

    done = subprocess.run(shell, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (b"i\n" if form == "csv" else b'{"i": 0}\n')
