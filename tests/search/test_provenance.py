"""Where results come from, and what of it can change a number."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from search import provenance, schema
from search.provenance import changes, code_digest, sweep_row
from search.spec import SweepSpec, load
from trainables.data.bundle import DataBundle

COMMITS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture
def row(toy: DataBundle) -> dict[str, Any]:
    return sweep_row(load("quickstart"), {"toy": toy})


def test_a_start_has_a_row_that_the_store_takes(row: dict[str, Any]) -> None:
    stored = schema.to_arrow("sweeps", [row], datetime.now(UTC)).to_pylist()[0]
    assert stored["code_digest"] == code_digest() and SweepSpec.model_validate_json(stored["spec_json"])
    assert {"python", "torch", "ray", "optuna"} <= json.loads(stored["versions_json"]).keys()


def test_nothing_has_changed_between_two_starts_of_the_same(row: dict[str, Any], toy: DataBundle) -> None:
    assert changes(row, sweep_row(load("quickstart"), {"toy": toy})) == []


def test_changed_code_is_named_with_its_commits(row: dict[str, Any]) -> None:
    then = row | {"git_commit": COMMITS[0], "git_dirty": False}
    now = row | {"code_digest": "other", "git_commit": COMMITS[1], "git_dirty": True}
    said = "the code of spaces and trainables (commit 0123456789ab, now commit fedcba987654 with changes)"
    assert changes(then, now) == [said]


def test_another_commit_with_the_same_code_is_no_change(row: dict[str, Any]) -> None:
    assert changes(row | {"git_commit": COMMITS[0]}, row | {"git_commit": COMMITS[1], "git_dirty": True}) == []


def test_libraries_that_reach_numbers_are_named_and_others_are_not(row: dict[str, Any]) -> None:
    versions = json.loads(row["versions_json"])
    then = row | {
        "versions_json": json.dumps(versions | {"torch": "1.0", "optuna": "1.1", "ray": "0.1", "pandas": "0"})
    }
    assert changes(then, row) == [
        f"torch (1.0, now {versions['torch']})",
        f"optuna (1.1, now {versions['optuna']})",
    ]


@pytest.mark.parametrize(
    ("before", "names"),
    [
        ({"a.inter": "1", "b.npy": "9"}, "b.npy"),
        ({"a.inter": "1"}, "b.npy"),
        ({}, "a.inter, b.npy"),
        ({"a.inter": "1", "b.npy": "2", "c.npy": "3"}, "c.npy"),
    ],
)
def test_changed_files_of_data_are_named(before: dict[str, str], names: str, row: dict[str, Any]) -> None:
    now = row | {"data_json": json.dumps({"baby": {"a.inter": "1", "b.npy": "2"}})}
    then = row | {"data_json": json.dumps({"baby": before})}
    assert changes(then, now) == [f"the data set baby ({names})"]


def test_several_changes_come_in_one_order(row: dict[str, Any]) -> None:
    versions = json.dumps(json.loads(row["versions_json"]) | {"numpy": "1.0"})
    then = row | {"code_digest": "other", "versions_json": versions, "data_json": json.dumps({"toy": {"a": "1"}})}
    code, library, data = changes(then, row)
    assert code.startswith("the code") and library.startswith("numpy (1.0") and data == "the data set toy (a)"


def test_the_digest_of_the_code_is_of_its_sources_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of where they lie, nor of other files among them."""
    monkeypatch.setattr(provenance, "CODE", ("some_code",))

    def tree(name: str, changes: Mapping[str, str]) -> str:
        for path, text in {"__init__.py": "", "deep/part.py": "x = 1", **changes}.items():
            place = tmp_path / name / "some_code" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        monkeypatch.syspath_prepend(tmp_path / name)
        return code_digest()

    plain = tree("plain", {})
    assert tree("elsewhere", {"deep/notes.txt": "about", "deep/__pycache__/part.cpython-311.pyc": "x"}) == plain
    changed = {tree("changed", {"deep/part.py": "x = 2"}), tree("added", {"deep/other.py": ""})}
    moved = tree("moved", {"deep/part.py": "", "part.py": "x = 1"})
    assert len({plain, moved, *changed}) == 4
