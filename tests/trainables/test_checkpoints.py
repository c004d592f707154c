"""Checkpoints on disk: whole or not at all, and nothing in them is executed."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.checkpoints import NUMBERS, TENSORS, load, save
from trainables.errors import TrainableError

CPU = torch.device("cpu")


def state(value: float) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors = {"model": {"weight": torch.full((2, 3), value)}, "update": {"averages": [None, torch.tensor([value])]}}
    return tensors, {"epoch": int(value), "score": None, "best_score": value / 3}


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path / "trial", *state(7.0))
    tensors, numbers = load(tmp_path / "trial", CPU)
    assert torch.equal(tensors["model"]["weight"], torch.full((2, 3), 7.0))
    assert tensors["update"]["averages"][0] is None and numbers == {"epoch": 7, "score": None, "best_score": 7.0 / 3}


def test_the_folder_above_is_made_and_holds_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "trial", *state(1.0))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["trial"]
    assert sorted(path.name for path in (tmp_path / "a" / "b" / "trial").iterdir()) == [NUMBERS, TENSORS]


def test_a_checkpoint_of_the_same_name_is_replaced_whole(tmp_path: Path) -> None:
    save(tmp_path / "trial", *state(1.0))
    (tmp_path / "trial" / "leftover").touch()
    save(tmp_path / "trial", *state(2.0))
    tensors, numbers = load(tmp_path / "trial", CPU)
    assert numbers["epoch"] == 2 and float(tensors["model"]["weight"][0, 0]) == 2.0
    assert not (tmp_path / "trial" / "leftover").exists()


def test_a_save_that_fails_half_way_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "trial", *state(1.0))
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path / "trial", state(2.0)[0], {"epoch": object()})
    tensors, numbers = load(tmp_path / "trial", CPU)
    assert numbers["epoch"] == 1 and float(tensors["model"]["weight"][0, 0]) == 1.0


@pytest.mark.parametrize("missing", [TENSORS, NUMBERS, "trial"])
def test_a_partial_checkpoint_is_refused(missing: str, tmp_path: Path) -> None:
    save(tmp_path / "trial", *state(1.0))
    if missing == "trial":
        (tmp_path / "trial").rename(tmp_path / "other")
    else:
        (tmp_path / "trial" / missing).unlink()
    with pytest.raises(TrainableError, match=r"trial must hold weights\.pt and progress\.json, but does not$"):
        load(tmp_path / "trial", CPU)


class Trap:
    """Unpickles by making a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, (str(self.folder),))


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_a_checkpoint_is_not_run(bare: bool, tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / NUMBERS).write_text(json.dumps({"epoch": 1}))
    if bare:
        (folder / TENSORS).write_bytes(pickle.dumps({"model": Trap(tmp_path / "sprung")}, protocol=2))
    else:
        torch.save({"model": Trap(tmp_path / "sprung")}, folder / TENSORS)
    with pytest.raises(TrainableError, match="cannot be read"):
        load(folder, CPU)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    save(tmp_path / "trial", *state(1.0))
    weights = tmp_path / "trial" / TENSORS
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(TrainableError, match="must be a whole checkpoint, but cannot be read"):
        load(tmp_path / "trial", CPU)


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path / "trial", state(2.0)[0], {"epoch": object()})
    assert list(tmp_path.iterdir()) == []
