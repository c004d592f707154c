"""The page over all sweeps of a store: newest first, with links to what is there, and without a script."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from search.cli import run
from search.report import write_index, write_report
from search.store import Store

NewSweep = Callable[..., Any]
SAM = "lfm2k/vbpr/plain/sam/adam"


@pytest.fixture
def two_sweeps(new_sweep: NewSweep) -> Any:
    """Return a store with an older sweep and a newer one; "newer" alone has a failed trial."""
    older, newer = new_sweep(name="older"), new_sweep(name="newer")
    older.trial(SAM, 0.25)
    newer.trial(SAM, 0.3)
    newer.trial(SAM, None, status="failed")
    older.flush()
    started = newer.store.table("sweeps", "newer").to_pylist()[0]
    del started["written"]
    newer.add("sweeps", [{**started, "started": started["started"] + timedelta(hours=1)}])
    return newer.store


def test_sweeps_stand_newest_first_with_what_they_came_to(two_sweeps: Any, tmp_path: Path) -> None:
    page = write_index(two_sweeps, tmp_path / "reports").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", page, re.DOTALL)
    assert len(rows) == 2
    assert "newer" in rows[0] and "1 finished,\n1 failed" in rows[0] and "lfm2k: recall@20 0.3000" in rows[0]
    assert "older" in rows[1] and "1 finished<" in rows[1] and "lfm2k: recall@20 0.2500" in rows[1]
    assert "2 sweeps with 3 trials" in page


def test_a_sweep_leads_to_its_report_where_that_lies_below_the_folder(two_sweeps: Any, tmp_path: Path) -> None:
    write_report(two_sweeps, "older", tmp_path / "reports" / "older")
    page = write_index(two_sweeps, tmp_path / "reports").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+)"', page) == ["older/report.html"]
    assert "Of 1 sweep no report lies below" in page


def test_the_index_runs_no_script_and_loads_nothing(two_sweeps: Any, tmp_path: Path) -> None:
    page = html.unescape(write_index(two_sweeps, tmp_path).read_text(encoding="utf-8"))
    assert "<script" not in page and "src=" not in page and "url(" not in page
    assert "default-src 'none'; script-src 'none'" in page


def test_an_empty_store_has_an_index_too(tmp_path: Path) -> None:
    page = write_index(Store(tmp_path / "empty", create=True), tmp_path).read_text(encoding="utf-8")
    assert "0 sweeps with 0 trials" in page and "<table" not in page


def test_names_in_the_index_are_text_and_their_addresses_are_quoted(new_sweep: NewSweep, tmp_path: Path) -> None:
    evil = "<b>&?#"
    writer = new_sweep(stored={"name": evil})
    writer.trial(SAM, 0.2)
    write_report(writer.store, evil, tmp_path / "reports" / evil)
    page = write_index(writer.store, tmp_path / "reports").read_text(encoding="utf-8")
    assert "<b>" not in page and 'href="%3Cb%3E%26%3F%23/report.html"' in page


def test_the_command_writes_the_index_and_refuses_a_sweep_beside_it(
    two_sweeps: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(two_sweeps.root), "-o", str(tmp_path / "r")]
    assert run(["report", "--index", *store]) == 0
    assert str(tmp_path / "r" / "index.html") in capsys.readouterr().out
    assert run(["report", "newer", "--index", *store]) == 2
    assert "takes a sweep or --index, but got both 'newer' and --index" in capsys.readouterr().err
