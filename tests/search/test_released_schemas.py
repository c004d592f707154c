"""Files of every released schema version are read as they were written, for as long as there is a recsweep.

`tests/golden/stores/version_N` was written by the code of that version: a store, and what its views showed then. A
change that needs another expectation here breaks the stores of users. A new version adds a folder.
"""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from search.report.frames import read_frames
from search.schema import SCHEMA_VERSION, VIEWS
from search.store import Store

STORES = Path(__file__).parents[1] / "golden" / "stores"
VERSIONS = sorted(STORES.iterdir(), key=lambda folder: int(folder.name.partition("_")[2]))


@pytest.fixture(params=VERSIONS, ids=lambda folder: folder.name)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, dict[str, list[dict[str, Any]]]]:
    """A copy of the store of a version, and what its views showed."""
    shutil.copytree(request.param / "store", tmp_path / "store")
    return Store(tmp_path / "store"), json.loads((request.param / "views.json").read_text())


def shown(store: Store, view: str) -> list[dict[str, Any]]:
    rows = store.table(view).to_pylist()
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]


def in_order(rows: list[dict[str, Any]], view: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [str(row[name]) for name in VIEWS[view].identity])


def test_every_version_up_to_this_one_has_its_files() -> None:
    assert [folder.name for folder in VERSIONS] == [f"version_{each}" for each in range(1, SCHEMA_VERSION + 1)]


def test_every_value_is_read_as_it_was_and_columns_that_came_later_are_null(released: Any) -> None:
    store, expected = released
    for view, rows in expected.items():
        found = in_order(shown(store, view), view)
        for now, then in zip(found, in_order(rows, view), strict=True):
            assert {name: now[name] for name in then} == then
            assert {now[name] for name in now.keys() - then.keys()} <= {None}


def test_new_rows_stand_beside_the_old_ones_also_once_they_are_merged(released: Any) -> None:
    store, expected = released
    (old,) = expected["sweeps"]
    later = {**old, "sweep": "later", "started": datetime.fromisoformat(old["started"]), "job": "job-1"}
    del later["written"]
    store.append("sweeps", [later])
    assert store.sweep_names() == ["frozen", "later"] or store.sweep_names() == ["later", "frozen"]
    assert store.compact("sweeps") == 2
    for name, job in (("frozen", None), ("later", "job-1")):
        (row,) = store.table("sweeps", name).to_pylist()
        assert (row["job"], row["digest"]) == (job, old["digest"])


def test_reports_can_be_made_of_it(released: Any) -> None:
    store, expected = released
    frames = read_frames(store, "frozen")
    assert len(frames.trials) == len(expected["trials"]) and len(frames.confirmations)
