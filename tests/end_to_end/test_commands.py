"""Commands that only say something: show, plan, data; in this process, through the same entry as the terminal's."""

import json
from importlib.metadata import version
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


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"recsweep {version('recsweep')}\n"


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


def test_a_data_set_is_named_by_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        run(["data", "synthesize", str(tmp_path / "below/mine"), "--users=40", "--items=30", "--interactions=400"]) == 0
    )
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "below")
    for named in (str(tmp_path / "below/mine"), "mine", "./mine/", "../below/mine"):
        assert run(["data", "check", named]) == 0
        assert capsys.readouterr().out == f"{named}: every check passed\n"
    monkeypatch.chdir("mine")
    assert run(["data", "describe", "."]) == 0
    assert json.loads(capsys.readouterr().out)["users"] == 40
    (tmp_path / "below/mine/text_feat.npy").write_bytes(b"")
    assert run(["data", "check", str(tmp_path / "below/mine")]) == 2
    assert run(["data", "check", "synthetic"]) == 0
    assert run(["data", "check", "nowhere"]) == 2
    assert f"data set folder {tmp_path}/below/mine/nowhere must exist" in capsys.readouterr().err


def test_published_files_can_be_prepared_checked_and_prepared_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = [
        {"reviewerID": f"A{user}", "asin": f"B{item}", "overall": 5.0, "unixReviewTime": user + item}
        for user in range(8)
        for item in range(8)
    ]
    lines = [*map(json.dumps, reviews), "broken", json.dumps(reviews[0])]
    (tmp_path / "reviews.json").write_text("\n".join(lines))
    command = [
        "data",
        "prepare",
        "amazon",
        "--reviews",
        str(tmp_path / "reviews.json"),
        "--out",
        str(tmp_path / "baby"),
    ]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "1 line of the interactions left out: no JSON object (line 65)." in said
    assert "1 interaction left out: of a user and item that an earlier one has." in said
    assert all(f"{published:,}" in said for published in (19_445, 7_050, 160_792))
    assert "-19,437" in said and "nothing was done" not in said
    assert run(["data", "check", "baby", "--root", str(tmp_path)]) == 0
    assert run(command) == 0
    assert "is already what these files and settings give; nothing was done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--split", "half"], "--split: Input should be 'random', 'leave_one_out' or 'global_time', but got 'half'"),
        (["--like", "babi"], "--like must be one of baby, sports, clothing, pet, office, but got 'babi'; did you mean"),
        (["--images", "none.b"], "none.b must be a file or a folder, but does not exist"),
        (
            ["--core", "9"],
            "must hold users and items with at least 9 interactions each (--core), but of 4 interactions",
        ),
        (["--image-weights", "w.pt", "--images", "."], "--image-weights must be a .safetensors file, but is w.pt"),
    ],
)
def test_what_cannot_be_prepared_is_one_sentence(
    more: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = [{"reviewerID": f"A{place}", "asin": "B", "overall": 5, "unixReviewTime": 1} for place in range(4)]
    (tmp_path / "reviews.json").write_text("\n".join(map(json.dumps, reviews)))
    command = [
        "data",
        "prepare",
        "amazon",
        "--reviews",
        str(tmp_path / "reviews.json"),
        "--out",
        str(tmp_path / "made"),
    ]
    assert run([*command, *more]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_synthetic_data_can_have_sizes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--users", "30", "--items", "20", "--interactions", "290", "--image-width", "7"]
    assert run(["data", "synthesize", str(tmp_path / "mine"), *sizes]) == 0
    capsys.readouterr()
    assert run(["data", "describe", "mine", "--root", str(tmp_path)]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["users"], described["items"], described["interactions"]["total"]) == (30, 20, 290)
    assert {name: each["width"] for name, each in described["modalities"].items()} == {"image": 7, "text": 32}
    assert run(["data", "synthesize", str(tmp_path / "other"), "--users", "9999"]) == 2
