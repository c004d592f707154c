"""Commands that only say something: show, plan, data; in this process, through the same entry as the terminal's."""

import json
from pathlib import Path

import pytest

from search.cli import run
from search.commands.show import REGISTRIES, TOPICS
from search.spec import builtin_sweeps
from spaces.presets import PRESETS
from spaces.settings import SETTINGS


@pytest.mark.parametrize("topic", TOPICS)
def test_show_names_every_entry(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", topic]) == 0
    said = capsys.readouterr().out
    known = {**REGISTRIES, "presets": [*PRESETS, *SETTINGS], "sweeps": builtin_sweeps()}
    assert all(name in said for name in known.get(topic, ["update.rho", "0.01 to 2 (log)"]))


def test_show_presets_spells_out_what_settings_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "presets"]) == 0
    said = capsys.readouterr().out
    for settings in SETTINGS.values():
        assert all(f"{key}={value}" in said for key, value in settings.values.items())


def test_plan_counts_exactly_and_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["search.trials=2", "train.max_epochs=3", "axes.model=[lightgcn]", "axes.update=[descent,sam]"]
    assert run(["plan", "quickstart", *overrides]) == 0
    said = capsys.readouterr().out
    # 17 batches of 512: descent evaluates one gradient a batch, SAM two; two trials of three epochs each.
    assert f"4 trials, {2 * 3 * (17 + 34)} gradient evaluations at the full 3 epochs each." in said
    assert "Predicted: " in said and "max_epochs: 3" in said
    assert run(["launch", "quickstart", *overrides, "--dry-run"]) == 0


def test_synthetic_data_can_be_made_checked_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "synthesize", str(tmp_path / "mine"), "--seed", "3"]) == 0
    assert run(["data", "check", "mine", "--root", str(tmp_path)]) == 0
    assert "mine: every check passed" in capsys.readouterr().out
    assert run(["data", "describe", "mine", "--root", str(tmp_path), "--modalities", "text"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["users"] == 1200 and list(described["modalities"]) == ["text"]
    assert run(["data", "check", "mine", "--root", str(tmp_path), "--modalities", "txt"]) == 2
    assert "did you mean 'text'" in capsys.readouterr().err
