"""Trials of earlier drivers, as the store shows them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from search.errors import StoreError
from search.history import ENDED, past_trials, stored_spec
from search.schema import STATUSES
from search.spec import parse

New = Callable[..., Any]
START = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)  # of every sweep that `new_sweep` writes


def cells(writer: Any) -> tuple[str, str]:
    first, second = writer.studies
    return first, second


def test_a_sweep_without_a_trial_has_no_past(new_sweep: New) -> None:
    writer = new_sweep()
    assert past_trials(writer.store, stored_spec(writer.store, writer.name)) == []


def test_a_past_trial_is_what_the_store_holds_of_it(new_sweep: New) -> None:
    writer = new_sweep()
    cell, _ = cells(writer)
    name = writer.trial(cell, 0.3, epochs=4, passes=10, attempt=2)
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    row = writer.store.table("trials").to_pylist()[0]
    assert (trial.name, trial.cell, trial.candidate, trial.attempt, trial.status) == (name, cell, 0, 2, "finished")
    assert (trial.best_score, trial.gradient_evaluations, trial.device_seconds) == (0.3, 40, row["device_seconds"])
    assert trial.started == START and trial.row == row and trial.ended
    study = writer.studies[cell]
    point = {key: trial.flat[key] for key in study.space.parameters}
    assert study.config(point, 999) == trial.flat


def test_scores_are_the_validations_of_the_goal_in_order_and_exact(new_sweep: New) -> None:
    writer = new_sweep()
    cell, _ = cells(writer)
    name = writer.trial(cell, 1 / 3, epochs=12)
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    shown = [row for row in writer.store.table("metrics").to_pylist() if row["metric"] == "recall@20"]
    assert trial.scores == tuple((row["epoch"], row["value"]) for row in sorted(shown, key=lambda row: row["epoch"]))
    assert [epoch for epoch, _ in trial.scores] == list(range(1, 13)) and 0.98765 not in dict(trial.scores).values()
    assert trial.epochs == frozenset(range(1, 13)) and trial.name == name


def test_epochs_without_a_validation_are_known_and_have_no_score(new_sweep: New) -> None:
    writer = new_sweep()
    cell, _ = cells(writer)
    name = writer.trial(cell, None, status="running", epochs=2)
    row = {"sweep": writer.name, "trial": name, "attempt": 0, "gradient_evaluations": 1, "train_seconds": 1.0}
    row |= {"device_seconds": 1.0, "metric": "loss", "value": 0.5, "split": "train"}
    writer.add("metrics", [{**row, "epoch": epoch} for epoch in (1, 2)])
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert (trial.scores, trial.epochs, trial.best_score) == ((), frozenset({1, 2}), None)


def test_a_trial_that_reported_nothing_has_cost_nothing(new_sweep: New) -> None:
    writer = new_sweep()
    writer.trial(cells(writer)[0], None, status="running", gradient_evaluations=None, device_seconds=None)
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert (trial.gradient_evaluations, trial.device_seconds, trial.epochs) == (0, 0.0, frozenset())


def test_trials_come_by_cell_candidate_and_seed_whenever_they_were_written(new_sweep: New) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 16, "seeds": [5, 3]})
    first, second = cells(writer)
    for cell, candidate, seed in ((second, 0, 3), (first, 10, 5), (first, 2, 3), (second, 0, 5), (first, 2, 5)):
        writer.trial(cell, 0.3, candidate=candidate, seed=seed, epochs=1)
    trials = past_trials(writer.store, stored_spec(writer.store, writer.name))
    order = [(trial.cell, trial.candidate, trial.flat["seed"]) for trial in trials]
    assert order == [(first, 2, 5), (first, 2, 3), (first, 10, 5), (second, 0, 5), (second, 0, 3)]


def test_of_a_trial_that_began_again_the_last_attempt_counts_with_the_epochs_of_all(new_sweep: New) -> None:
    writer = new_sweep()
    cell, _ = cells(writer)
    name = writer.trial(cell, 0.3, status="lost", epochs=3)
    row = writer.store.table("trials").to_pylist()[0]
    del row["written"]
    writer.add("trials", [row | {"attempt": 1, "status": "running", "started": START + timedelta(hours=1)}])
    metric = {"sweep": writer.name, "trial": name, "attempt": 1, "epoch": 4, "split": "valid", "metric": "recall@20"}
    writer.add(
        "metrics",
        [metric | {"value": 0.5, "gradient_evaluations": 1, "train_seconds": 1.0, "device_seconds": 1.0}],
    )
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert (trial.status, trial.attempt, trial.started) == ("running", 1, START + timedelta(hours=1))
    assert trial.epochs == frozenset({1, 2, 3, 4}) and dict(trial.scores)[4] == 0.5 and len(trial.scores) == 4


def test_trials_of_other_sweeps_are_not_of_this_one(new_sweep: New, tmp_path: Path) -> None:
    writer, other = new_sweep(), new_sweep(name="other")
    name = writer.trial(cells(writer)[0], 0.3, epochs=1)
    other.trial(cells(other)[0], 0.4, epochs=1)
    other.flush()
    trials = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert [trial.name for trial in trials] == [name]


@pytest.mark.parametrize("status", STATUSES)
def test_running_stopped_and_lost_trials_go_on_and_the_others_have_ended(status: str, new_sweep: New) -> None:
    writer = new_sweep()
    writer.trial(cells(writer)[0], 0.3, status=status, epochs=1)
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert trial.ended is (status not in ("running", "stopped", "lost")) is (status in ENDED)


def test_a_sweep_of_an_older_version_is_refused_in_one_sentence(new_sweep: New) -> None:
    writer = new_sweep()
    writer.trial(cells(writer)[0], 0.3, epochs=1, candidate=None)
    with pytest.raises(StoreError, match=r"^sweep sample was recorded by an older recsweep .*; launch it anew$"):
        past_trials(writer.store, stored_spec(writer.store, writer.name))


def test_the_specification_is_the_one_of_the_last_start(new_sweep: New) -> None:
    writer = new_sweep()
    changed = parse({**writer.spec, "checkpoint": {"every_epochs": 9}})
    later = writer._start() | {"started": START + timedelta(hours=1), "spec_json": changed.model_dump_json()}
    writer.add("sweeps", [later])
    assert stored_spec(writer.store, writer.name) == changed


def test_estimates_are_among_the_scores_and_no_other_metric_is(new_sweep: New) -> None:
    """A resumed scheduler fills its rungs, and a sampler its study, with what they were shown."""
    writer = new_sweep()
    name = writer.trial(cells(writer)[0], None, status="pruned", epochs=2)
    row = {"sweep": writer.name, "trial": name, "attempt": 0, "gradient_evaluations": 1, "train_seconds": 1.0}
    row |= {"device_seconds": 1.0, "split": "valid"}
    values = {"estimate/recall@20": 0.25, "estimate/ndcg@20": 0.9, "ndcg@20": 0.8}
    writer.add("metrics", [{**row, "epoch": 1, "metric": metric, "value": value} for metric, value in values.items()])
    writer.add("metrics", [{**row, "epoch": 2, "metric": "recall@20", "value": 0.125}])
    (trial,) = past_trials(writer.store, stored_spec(writer.store, writer.name))
    assert trial.scores == ((1, 0.25), (2, 0.125)) and trial.best_score is None
