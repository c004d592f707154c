"""Files in a folder and at an object store: whole or not at all, and by the same names."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from pyarrow import fs

from trainables import places
from trainables.places import Place, below, without_secrets


@pytest.fixture(params=["folder", "no renaming", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(tmp_path / "place")
    if request.param == "no renaming":
        return Place("place", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    memory = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory")))
    return Place(f"bucket-{uuid4().hex}/place", memory)


def test_what_was_written_is_there_until_it_is_deleted(place: Place) -> None:
    place.write("a/b", b"one")
    place.write("a/b", memoryview(b"two"))
    place.write("c", b"")
    assert (place.read("a/b"), place.read("c"), place.info("a/b").size) == (b"two", b"", 3)
    assert list(place.listed("a")) == ["a/b"] and sorted(place.listed()) == ["a", "c"]
    place.delete("a/b")
    assert place.info("a/b").type == fs.FileType.NotFound
    place.delete_folder("a")
    place.delete_folder()
    assert place.info().type == fs.FileType.NotFound


def test_what_is_not_there_is_an_empty_list_or_an_error(place: Place) -> None:
    assert place.listed() == {} and place.listed("nowhere") == {}
    for action in (place.read, place.delete, place.delete_folder):
        with pytest.raises(FileNotFoundError):
            action("nowhere")


def test_a_local_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.write("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        place.write("a", b"new")
    assert place.read("a") == b"old" and list(place.listed()) == ["a"]


def test_a_local_file_and_its_folders_are_on_the_disk_before_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync: Callable[[int], None] = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(places.os, "fsync", watch)
    Place(tmp_path / "place").write("a/b", b"content")
    file = tmp_path / "place" / "a" / ".b.tmp"
    assert synced[-2:] == [str(file), str(file.parent)]
    assert str(file.parent.parent) in synced


def test_a_folder_that_is_made_while_it_is_listed_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow asks whether a folder is there, and then for what is in it."""

    class Racing(fsspec.implementations.memory.MemoryFileSystem):  # type: ignore[name-defined,misc]
        def ls(self, path: str, *more: object, **options: object) -> object:
            raise FileNotFoundError(path)

        def info(self, path: str, **options: object) -> object:
            return {"name": path, "size": 0, "type": "directory"}

    assert Place("bucket", fs.PyFileSystem(fs.FSSpecHandler(Racing()))).listed("folder") == {}


def test_addresses() -> None:
    assert below("/results/", "trial") == "/results/trial"
    assert below("s3://bucket/results?region=x", "a/b") == "s3://bucket/results/a/b?region=x"
    assert below("/odd?name", "trial") == "/odd?name/trial"
    assert Place("results").address == os.path.abspath("results") and Place("~/x").base == os.path.expanduser("~/x")


def test_no_message_holds_credentials() -> None:
    assert without_secrets("at s3://key:secret@bucket/a: no") == "at s3://bucket/a: no"
    with pytest.raises(OSError, match="nowhere://bucket") as caught:
        Place("nowhere://key:secret@bucket")
    assert "secret" not in str(caught.value)
