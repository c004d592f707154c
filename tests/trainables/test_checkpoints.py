"""Checkpoints: whole or not at all, the newest that can be read, and nothing in them is executed."""

import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs

from trainables import checkpoints
from trainables.checkpoint_places import remove_all, remove_needless
from trainables.checkpoints import NUMBERS, TENSORS, CheckpointFolder, load, save
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


@pytest.mark.parametrize("entries", [1, 2**18 - 1, 2**18, 3 * 2**18 + 5])
def test_the_digest_is_that_of_the_file_whatever_the_size_of_its_parts(entries: int, tmp_path: Path) -> None:
    weights = torch.rand(entries)
    save(tmp_path / "trial", {"small": torch.ones(3), "large": weights}, {})
    content = (tmp_path / "trial" / TENSORS).read_bytes()
    stored = json.loads((tmp_path / "trial" / NUMBERS).read_bytes())["weights_sha256"]
    assert stored == hashlib.sha256(content).hexdigest()
    assert torch.equal(load(tmp_path / "trial", CPU)[0]["large"], weights)


def test_a_large_part_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with full.open("wb", buffering=0) as file, pytest.raises((OSError, RuntimeError)):
        checkpoints._write_tensors(file, {"large": torch.rand(2**20)})
    assert torch.serialization.get_crc32_options()


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
    set_trap(folder, tmp_path / "sprung", bare)
    with pytest.raises(TrainableError, match="cannot be read"):
        load(folder, CPU)
    assert not (tmp_path / "sprung").exists()


def set_trap(folder: Path, sprung: Path, bare: bool) -> None:
    """Weights that run code where they are unpickled, with the digest that belongs to them."""
    if bare:
        (folder / TENSORS).write_bytes(pickle.dumps({"model": Trap(sprung)}, protocol=2))
    else:
        torch.save({"model": Trap(sprung)}, folder / TENSORS)
    digest = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()
    (folder / NUMBERS).write_text(json.dumps({"weights_sha256": digest, "numbers": {"epoch": 1}}))


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


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a bit of the weights": lambda folder, other: flip(folder / TENSORS),
    "weights cut short": lambda folder, other: truncate(folder / TENSORS),
    "no weights": lambda folder, other: (folder / TENSORS).unlink(),
    "empty weights": lambda folder, other: (folder / TENSORS).write_bytes(b""),
    "numbers cut short": lambda folder, other: truncate(folder / NUMBERS),
    "no numbers": lambda folder, other: (folder / NUMBERS).unlink(),
    "empty numbers": lambda folder, other: (folder / NUMBERS).write_bytes(b""),
    "numbers that are a list": lambda folder, other: (folder / NUMBERS).write_text("[]"),
    "numbers of a version without digests": lambda folder, other: (folder / NUMBERS).write_text('{"epoch": 3}'),
    "numbers of another epoch": lambda folder, other: (folder / NUMBERS).write_bytes((other / NUMBERS).read_bytes()),
    "weights of another epoch": lambda folder, other: (folder / TENSORS).write_bytes((other / TENSORS).read_bytes()),
}


@dataclass
class Place:
    """Where one trial keeps its checkpoints, and the same place as a local folder."""

    folder: CheckpointFolder
    path: Path
    reopen: Callable[[int], CheckpointFolder]

    def save(self, *epochs: int) -> None:
        for epoch in epochs:
            self.folder.save(epoch, *state(float(epoch)))

    def read(self) -> list[int]:
        """The epochs that can be read, in the order in which they are offered."""
        found = []
        for tensors, numbers in self.reopen(2).newest_first(CPU):
            assert float(tensors["model"]["weight"][0, 0]) == numbers["epoch"]
            found.append(int(numbers["epoch"]))
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A local folder, or the same folder behind a file system that knows uploads and no renaming."""
    address = str(tmp_path / "checkpoints" / "trial")
    files = None
    if request.param == "object store":
        address, files = "checkpoints/trial", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def reopen(keep: int) -> CheckpointFolder:
        return CheckpointFolder(address, keep=keep, filesystem=files)

    return Place(reopen(2), tmp_path / "checkpoints" / "trial", reopen)


def test_a_trial_without_checkpoints_has_none(place: Place) -> None:
    assert place.read() == []


def test_the_newest_checkpoint_comes_first_and_bit_for_bit(place: Place) -> None:
    place.save(5, 10)
    assert place.read() == [10, 5]
    tensors, numbers = next(place.folder.newest_first(CPU))
    expected = state(10.0)
    assert torch.equal(tensors["model"]["weight"], expected[0]["model"]["weight"]) and numbers == expected[1]
    assert sorted(path.name for path in (place.path / "epoch_000010").iterdir()) == [NUMBERS, TENSORS]


def test_epochs_are_ordered_as_numbers(place: Place) -> None:
    place.save(999_999, 1_000_000)
    assert place.read() == [1_000_000, 999_999]


def test_the_older_checkpoints_go_once_a_new_one_is_whole(place: Place) -> None:
    seen = []
    for epoch in (1, 2, 3, 4):
        place.save(epoch)
        seen.append(place.read())
    assert seen == [[1], [2, 1], [3, 2], [4, 3]]
    place.reopen(3).save(5, *state(5.0))
    assert place.read() == [5, 4, 3]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(damage: str, place: Place) -> None:
    place.save(1, 2)
    DAMAGES[damage](place.path / "epoch_000002", place.path / "epoch_000001")
    assert place.read() == [1]
    place.save(2)
    assert place.read() == [2, 1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(damage: str, tmp_path: Path) -> None:
    for epoch in (1, 2):
        save(tmp_path / str(epoch), *state(float(epoch)))
    DAMAGES[damage](tmp_path / "2", tmp_path / "1")
    with pytest.raises(TrainableError) as caught:
        load(tmp_path / "2", CPU)
    assert str(caught.value).startswith(f"{tmp_path / '2'} must ") and "\n" not in str(caught.value).strip()


def test_a_trial_that_begins_anew_keeps_its_new_checkpoints_beside_unreadable_later_ones(place: Place) -> None:
    place.save(35, 40)
    for epoch in (35, 40):
        truncate(place.path / f"epoch_{epoch:06d}" / TENSORS)
    assert place.read() == []
    place.save(5)
    assert place.read() == [5]
    place.save(10)
    assert place.read() == [10, 5]


def test_two_checkpoints_that_can_be_read_stay_beside_a_damaged_later_one(place: Place) -> None:
    place.save(10, 15, 20)
    truncate(place.path / "epoch_000020" / TENSORS)
    place.save(16, 17)
    assert place.read() == [17, 16]


def test_a_save_that_fails_leaves_the_checkpoints_before_it(place: Place) -> None:
    place.save(1, 2)
    with pytest.raises(TypeError, match="not JSON serializable"):
        place.folder.save(3, state(3.0)[0], {"epoch": object()})
    assert place.read() == [2, 1]


def test_what_killed_saves_left_behind_is_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path / "trial"))
    folder.save(1, *state(1.0))
    left = Path(tempfile.mkdtemp(prefix=".epoch_000002-", dir=tmp_path / "trial"))
    save(left / "fresh", *state(2.0))
    assert [numbers["epoch"] for _, numbers in folder.newest_first(CPU)] == [1]
    assert [path.name for path in (tmp_path / "trial").iterdir()] == ["epoch_000001"]


def test_an_upload_that_was_cut_off_is_no_checkpoint(tmp_path: Path) -> None:
    files = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    folder = CheckpointFolder("trial", filesystem=files)
    folder.save(1, *state(1.0))
    (tmp_path / "trial" / "epoch_000002" / NUMBERS).mkdir(parents=True)  # nothing can be uploaded to there
    with pytest.raises(OSError, match="Is a directory"):
        folder.save(2, *state(2.0))
    assert (tmp_path / "trial" / "epoch_000002" / TENSORS).exists()
    assert [numbers["epoch"] for _, numbers in folder.newest_first(CPU)] == [1]


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_the_newest_checkpoint_is_not_run_and_the_one_before_serves(
    bare: bool, place: Place, tmp_path: Path
) -> None:
    place.save(1, 2)
    set_trap(place.path / "epoch_000002", tmp_path / "sprung", bare)
    assert place.read() == [1]
    assert not (tmp_path / "sprung").exists()


def test_all_of_a_trial_is_removed_and_nothing_else(place: Place, tmp_path: Path) -> None:
    place.save(1, 2)
    CheckpointFolder(str(place.path.parent / "other")).save(1, *state(1.0))
    if place.folder._place.local:
        remove_all(str(place.path))
        remove_all(str(place.path))
    else:
        for _ in range(2):
            remove_all("checkpoints/trial", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    assert [path.name for path in place.path.parent.iterdir()] == ["other"]
    assert place.read() == []


def test_of_several_trials_the_needless_ones_lose_theirs(tmp_path: Path) -> None:
    for trial in ("a", "b", "c"):
        CheckpointFolder(str(tmp_path / trial)).save(1, *state(1.0))
    remove_needless(str(tmp_path), {"a", "c", "never seen"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    remove_needless(str(tmp_path / "nowhere"), {"a"})


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system_and_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = CheckpointFolder(str(tmp_path / "file" / "trial"))
    assert list(folder.newest_first(CPU)) == []
    with pytest.raises(OSError, match="Not a directory"):
        folder.save(1, *state(1.0))


def test_an_address_that_cannot_be_opened_is_one_sentence_without_its_secrets() -> None:
    with pytest.raises(TrainableError, match=r"^checkpoints cannot be kept at nowhere://bucket/s: ") as caught:
        CheckpointFolder("nowhere://key:secret@bucket/s")
    assert "secret" not in str(caught.value)
