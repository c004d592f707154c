"""What a sweep goes on with: its stored specification, what may be changed, and whether it would be the same sweep."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from search.errors import ResumeError, SpecError, StoreError
from search.resume import Past, read_past
from search.searchers import CellSearcher
from search.spec import parse

New = Callable[..., Any]
START = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)  # of every sweep that `new_sweep` writes


@pytest.fixture
def writer(new_sweep: New) -> Any:
    return new_sweep()


def past(writer: Any, *overrides: str) -> Past:
    return read_past(writer.store, writer.name, overrides)


def test_a_stored_sweep_is_read_back_as_it_was_started(writer: Any) -> None:
    spec = parse(writer.spec)
    found = past(writer)
    assert found.spec == spec and found.spec.digest == spec.digest and found.trials == ()
    assert {cell.cell: cell for cell in found.cells} == writer.studies
    assert found.started["git_commit"] == "0123456789abcdef0123456789abcdef01234567"


def test_the_last_start_counts(writer: Any) -> None:
    writer.add("sweeps", [writer._start() | {"started": START + timedelta(hours=2), "host": "second"}])
    writer.add("sweeps", [writer._start() | {"started": START + timedelta(hours=1), "host": "first"}])
    assert past(writer).started["host"] == "second"


@pytest.mark.parametrize(
    "override",
    [
        "resources.cpu=2",
        "resources.max_concurrent=3",
        "resources.overrides={model.vbpr: {cpu: 2}}",
        "resources.overrides.update.sam.cpu=2",
        "checkpoint.every_epochs=7",
        "checkpoint={every_epochs: 7}",
        "budget.device_hours=2",
        "budget={amount: 5, unit: trials}",
        "watch.stall_minutes=5",
        "data.root=/elsewhere",
    ],
)
def test_how_a_sweep_is_run_may_change_and_its_digest_does_not(override: str, writer: Any) -> None:
    spec, changed = past(writer).spec, past(writer, override).spec
    assert changed != spec and changed.digest == spec.digest


def test_of_a_changed_section_the_rest_stays(writer: Any) -> None:
    first = past(writer, "checkpoint.every_epochs=7").spec
    row = writer._start() | {"started": START + timedelta(hours=1), "spec_json": first.model_dump_json()}
    writer.add("sweeps", [row])
    second = past(writer, "checkpoint.keep=3").spec
    assert (second.checkpoint.every_epochs, second.checkpoint.keep) == (7, 3)


@pytest.mark.parametrize(
    "override",
    [
        "search.trials=8",
        "train.max_epochs=5",
        "name=other",
        "data.names=[x]",
        "space.fix.update.rho=1",
        "resource=1",
        "store=x",
        "checkpoints.keep=3",
        "=3",
    ],
)
def test_what_makes_it_another_sweep_is_refused_in_one_sentence(override: str, writer: Any) -> None:
    with pytest.raises(SpecError) as caught:
        past(writer, override)
    assert str(caught.value) == (
        "a resume may change resources, checkpoint, budget, watch, data.root, "
        f"but got {override!r}: launch another sweep for it"
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "checkpoint.every_epochs=0",
            "override checkpoint.every_epochs=0: checkpoint.every_epochs: must be at least 1",
        ),
        ("checkpoint.kep=3", "override checkpoint.kep=3: checkpoint.kep: is not a known key; did you mean 'keep'?"),
        ("budget.device_hours", "override budget.device_hours: must have the form key=value"),
    ],
)
def test_a_mistake_in_what_may_be_changed_is_named(override: str, sentence: str, writer: Any) -> None:
    with pytest.raises(SpecError) as caught:
        past(writer, override)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


def test_a_place_of_data_is_relative_to_the_current_folder(
    writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert past(writer, "data.root=mine").spec.data.root == str(tmp_path / "mine")


def test_a_sweep_whose_data_have_moved_goes_on(writer: Any) -> None:
    cell = next(iter(writer.studies))
    name = writer.trial(cell, 0.3, status="running", epochs=2)
    moved = past(writer, "data.root=/elsewhere")
    searcher = CellSearcher(moved.cells, "random", (999,), "max", past=moved.trials)
    proposal = searcher.suggest("t")
    assert isinstance(proposal, dict)
    assert (proposal["name"], proposal["trial"]["data.root"]) == (name, "/elsewhere")


def test_a_sweep_that_is_not_there_is_named(writer: Any) -> None:
    with pytest.raises(StoreError, match=r"has no sweep `sampel`.*`sample`"):
        read_past(writer.store, "sampel")


@pytest.mark.parametrize(
    ("status", "complete"),
    [
        *((status, True) for status in ("finished", "pruned", "failed", "diverged")),
        *((status, False) for status in ("running", "stopped", "lost")),
    ],
)
def test_a_sweep_is_complete_when_every_trial_has_ended_for_good(status: str, complete: bool, new_sweep: New) -> None:
    # Descent has one point, sam two.
    writer = new_sweep(search={"sampler": "random", "trials": 2, "seeds": [1, 2]}, space={"tune": ["update"]})
    descent, sam = writer.studies
    for cell, candidates in ((descent, 1), (sam, 2)):
        for candidate in range(candidates):
            for seed in (1, 2):
                assert not past(writer).complete
                ends = status if (cell, candidate, seed) == (sam, 1, 2) else "finished"
                name = f"{cell.split('/')[3]}-{candidate}-{seed}"
                writer.trial(cell, 0.3, seed=seed, candidate=candidate, epochs=1, status=ends, trial=name)
    assert past(writer).complete is complete


def changed(row: Mapping[str, object], **columns: object) -> dict[str, object]:
    return {**row, **columns}


def test_a_sweep_that_nothing_changed_for_is_the_same(writer: Any) -> None:
    found = past(writer)
    other = changed(found.started, host="another", git_commit="f" * 40, started=START, spec_json="{}")
    assert found.check_same(other, accept=False) is None
    assert found.check_same(other, accept=True) is None


def test_what_changed_is_named_and_must_be_accepted(writer: Any) -> None:
    found = past(writer)
    versions = json.dumps({"python": "3.11.9", "torch": "2.10.0", "ray": "2.61.0"})
    data = json.dumps({"lfm2k": {"lfm2k.inter": "cd" * 32}})
    now = changed(found.started, versions_json=versions, data_json=data)
    with pytest.raises(ResumeError) as caught:
        found.check_same(now, accept=False)
    assert str(caught.value) == (
        "sweep sample must go on with what it was started with, but there changed: torch (2.9.0, now 2.10.0), "
        "the data set lfm2k (lfm2k.inter); --accept-changes goes on all the same"
    )
    accepted = found.check_same(now, accept=True)
    assert accepted == "went on although there changed: torch (2.9.0, now 2.10.0), the data set lfm2k (lfm2k.inter)"
