"""Stored sweeps as Optuna studies."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search import Store, study
from search.cli import run
from search.errors import StoreError
from search.optuna_studies import export

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


@pytest.fixture
def sweep(new_sweep: Callable[..., Any]) -> Any:
    """Two cells; that of sam has every kind of ending."""
    space = {"tune": ["update", "optimizer"], "fix": {"model.embedding_size": 8}}
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space=space)
    writer.trial(DESCENT, 0.3)
    for number, status in enumerate(("finished", "pruned", "diverged", "failed", "lost", "stopped", "running")):
        score = None if status in ("failed", "diverged") else 0.30 + 0.01 * number
        error = "Diverged: NaN" if status == "diverged" else None
        point = {"update.rho": 0.1 + 0.05 * number}
        writer.trial(SAM, score, status=status, point=point, epochs=6, error=error)
    return writer


def test_a_study_is_told_the_truth_about_every_trial_that_has_ended(sweep: Any) -> None:
    found = study(sweep.store, sweep.name, SAM)
    states = {trial.user_attrs["status"]: trial.state for trial in found.trials}
    assert states == {
        "finished": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        **dict.fromkeys(("diverged", "failed", "lost", "stopped"), TrialState.FAIL),
    }
    frame = sweep.store.trials().set_index("trial")
    for trial in found.trials:
        row = frame.loc[trial.user_attrs["trial"]]
        assert trial.params["update.rho"] == row["update.rho"] and trial.params.keys() == trial.distributions.keys()
        assert trial.datetime_start is not None and trial.duration is not None
        assert trial.datetime_start.astimezone().timestamp() == pytest.approx(row["started"].timestamp())
    assert found.best_value == 0.30 and found.best_trial.params["update.rho"] == pytest.approx(0.1)
    pruned = next(trial for trial in found.trials if trial.state is TrialState.PRUNED)
    curve = sweep.store.sql(
        "select epoch, value from metrics where trial = $trial and metric = $metric order by epoch",
        metric="recall@20",
        trial=pruned.user_attrs["trial"],
    )
    assert pruned.intermediate_values == dict(zip(curve["epoch"], curve["value"], strict=True))
    diverged = next(trial for trial in found.trials if trial.user_attrs["status"] == "diverged")
    assert diverged.user_attrs["error"] == "Diverged: NaN"


def test_ranges_are_those_of_the_space(sweep: Any) -> None:
    space = sweep.studies[SAM].space
    asked = study(sweep.store, sweep.name, SAM).trials[0].distributions
    assert set(asked) == set(space.tuned()), "what is fixed is no range"
    for name in asked:
        parameter = space.parameters[name]
        if parameter.kind in ("float", "int"):
            assert (asked[name].low, asked[name].high, asked[name].log) == (
                parameter.low,
                parameter.high,
                parameter.log,
            )
        else:
            assert set(asked[name].choices) == set(parameter.choices)


PLOTS = ("optimization_history", "intermediate_values", "param_importances", "parallel_coordinate", "slice", "contour")
MORE_PLOTS = ("edf", "rank", "timeline")


def test_optunas_plots_can_be_drawn(new_sweep: Callable[..., Any]) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["sam"]}, space={"tune": ["update", "optimizer"]})
    writer.sample(SAM, 30, lambda point: 0.3 + 0.1 * min(float(point["update.rho"]), 0.5), 50)
    writer.trial(SAM, 0.2, status="pruned", epochs=4)
    found = study(writer.store, writer.name)
    for plot in (*PLOTS, *MORE_PLOTS):
        assert getattr(optuna.visualization, f"plot_{plot}")(found).data


def test_less_is_better_where_the_goal_says_so(new_sweep: Callable[..., Any]) -> None:
    writer = new_sweep(
        axes={"model": ["vbpr"], "update": ["sam"]},
        goal={"metric": "recall@20", "mode": "min"},
    )
    writer.trial(SAM, 0.3)
    writer.trial(SAM, 0.2, point={"update.rho": 0.9})
    assert study(writer.store, writer.name).best_value == 0.2, "the only cell need not be named"


def test_a_cell_that_is_not_there_and_one_that_is_not_named_are_errors(sweep: Any) -> None:
    with pytest.raises(StoreError, match=f"must be named: it has {DESCENT}, {SAM}"):
        study(sweep.store, sweep.name)
    with pytest.raises(StoreError, match=f"did you mean .*{SAM}"):
        study(sweep.store, sweep.name, SAM.replace("sam", "sma"))


def test_a_copy_holds_the_same_studies_and_says_how_to_look_at_them(
    sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, target = sweep.store, tmp_path / "copy.db"
    assert run(["export", "optuna", "--to", str(target), "--store", store.root]) == 0
    said = capsys.readouterr().out
    assert "7 trials of 2 cells" in said and "no" in said and "password" in said and "127.0.0.1" in said
    storage = f"sqlite:///{target}"
    names = optuna.get_all_study_names(storage)
    assert sorted(names) == sorted(f"{sweep.name}/{cell}" for cell in (DESCENT, SAM))
    copied = optuna.load_study(study_name=f"{sweep.name}/{SAM}", storage=storage)
    direct = study(store, sweep.name, SAM)
    assert [(t.state, t.values, t.params, t.intermediate_values, t.user_attrs) for t in copied.trials] == [
        (t.state, t.values, t.params, t.intermediate_values, t.user_attrs) for t in direct.trials
    ]
    assert copied.direction == direct.direction
    assert all(isinstance(trial.datetime_complete, datetime) for trial in copied.trials)


def test_nothing_is_overwritten(sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.db"
    target.write_text("mine")
    assert run(["export", "optuna", "--to", str(target), "--store", sweep.store.root]) == 2
    assert "must go to a new file" in capsys.readouterr().err and target.read_text() == "mine"
    with pytest.raises(StoreError, match="into a folder that exists"):
        export(sweep.store, sweep.name, tmp_path / "nowhere" / "copy.db")


def test_a_copy_that_cannot_be_written_is_one_sentence(sweep: Any) -> None:
    with pytest.raises(StoreError, match=r"^the copy /proc/copy.db cannot be written: [^\n]+$"):
        export(sweep.store, sweep.name, Path("/proc/copy.db"))


def test_a_copy_that_breaks_off_leaves_nothing(sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: optuna.Study, trials: object) -> None:
        raise OSError("No space left on device")

    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(optuna.Study, "add_trials", full)
    with pytest.raises(StoreError, match="No space left on device"):
        export(sweep.store, sweep.name, folder / "copy.db")
    assert list(folder.iterdir()) == []


def test_the_python_readers_are_the_views(sweep: Any) -> None:
    store: Store = sweep.store
    assert list(store.trials()["trial"]) == list(store.table("trials_wide")["trial"].to_pylist())
    assert store.trials(sweep.name)["update.rho"].notna().sum() == 7
    assert len(store.metrics()) == len(store.frame("metrics"))
    counted = store.sql("select status, count(*) as n from trials where cell = $cell group by status", cell=SAM)
    assert dict(zip(counted["status"], counted["n"], strict=True))["pruned"] == 1
