"""What a process that is killed leaves behind: nothing, or a whole folder; and the next one goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from published_files import letters, review_2014

from trainables.data.catalog import check
from trainables.data.config import DataConfig
from trainables.data.preparation import work_folder
from trainables.data.preparation.amazon import AmazonFiles
from trainables.data.preparation.feature_rows import Encoder
from trainables.data.preparation.pipeline import prepare
from trainables.data.preparation.settings import Settings
from trainables.data.preparation.work_folder import write_json
from trainables.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[4]
ITEMS = 8 * 1024

# Encodes one chunk in a few hundredths of a second and leaves a mark for each; then says that it is done.
CHILD = """
import sys, time, pathlib
from trainables.data.preparation.amazon import AmazonFiles
from trainables.data.preparation.feature_rows import Encoder
from trainables.data.preparation.pipeline import prepare
from trainables.data.preparation.settings import Settings
from published_files import letters

folder = pathlib.Path(sys.argv[1])

def encode(texts):
    time.sleep(0.02)
    with (folder / "marks").open("a") as marks:
        marks.write(texts[0] + "\\n")
    return letters(texts)

print("started", flush=True)
files = AmazonFiles(folder / "r.json", folder / "m.json")
prepare(files, folder / "baby", Settings(core=int(sys.argv[2])), text_encoder=Encoder("letters", lambda: encode),
        force=len(sys.argv) > 3)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with reviews and metadata of eight chunks of items."""
    folder = tmp_path_factory.mktemp("killed")
    rows = [(f"U{user}", f"B{item:05d}", 5.0, item) for item in range(ITEMS) for user in range(2)]
    (folder / "r.json").write_text("\n".join(map(review_2014, rows)))
    (folder / "m.json").write_text("\n".join(json.dumps({"asin": row[1], "title": f"t {row[1]}"}) for row in rows[::2]))
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """The bytes of a folder that was made without interruption, by core."""
    encoder = Encoder("letters", lambda: letters)
    files = AmazonFiles(folder / "r.json", folder / "m.json")
    for core in (1, 2):
        prepare(files, folder / f"whole{core}" / "baby", Settings(core=core), text_encoder=encoder)
    return {core: content(folder / f"whole{core}" / "baby") for core in (1, 2)}


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def start(folder, core, *more):
    path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
    command = [sys.executable, "-c", CHILD, str(folder), str(core), *more]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)


def kill_after(child, seconds):
    assert child.stdout.readline() == "started\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.communicate()


def kill_in_next_chunk(child, marks, seconds):
    """Kills a while after the next chunk was begun, or never where the process ends before."""
    size = marks.stat().st_size if marks.exists() else 0
    while child.poll() is None and not (marks.exists() and marks.stat().st_size > size):
        time.sleep(0.002)
    kill_after(child, seconds)


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_no_half_folder_and_the_next_goes_on(folder, expected):
    moments = np.random.default_rng(0).uniform(0.0, 0.6, 10)
    for place, moment in enumerate(moments.tolist()):
        if place % 2:
            kill_in_next_chunk(start(folder, 2), folder / "marks", moment / 10)
        else:
            kill_after(start(folder, 2), moment)
        if (folder / "baby").exists():
            assert content(folder / "baby") == expected[2]
    said, _ = start(folder, 2).communicate(timeout=120)
    assert said == "started\ndone\n"
    assert content(folder / "baby") == expected[2]
    assert check(DataConfig.of_folder(folder / "baby")) == ()
    marks = (folder / "marks").read_text().splitlines()
    # A chunk is encoded again only by the process after the one that was killed in the middle of it.
    assert len(set(marks)) == ITEMS // 1024 <= len(marks) <= ITEMS // 1024 + len(moments)


@pytest.mark.slow
def test_a_replacement_killed_at_any_moment_leaves_the_old_folder_or_the_new_one(folder, expected):
    said, _ = start(folder, 2, "force").communicate(timeout=120)
    assert said.endswith("done\n")
    current = 2
    for moment in np.random.default_rng(1).uniform(0.1, 0.9, 8).tolist():
        kill_after(start(folder, 3 - current, "force"), moment)
        # Between its two renames the old folder stands aside, from where the next process takes it back.
        found = next(path for path in (folder / "baby", folder / ".baby.replaced") if path.exists())
        made = content(found)
        assert made in (expected[1], expected[2])
        current = 2 if made == expected[2] else 1


@pytest.mark.parametrize("left", ["prepare.json", ".prepare.json.part", ".text_feat.npy.part"])
def test_what_a_process_left_that_was_killed_before_its_last_rename_is_no_file_of_the_folder(
    left, tmp_path, reviews, monkeypatch
):
    def prepared(name):
        return prepare(AmazonFiles(reviews), tmp_path / name / "made", Settings())

    prepared("whole")
    with monkeypatch.context() as killed:
        killed.setattr(work_folder, "write_json", end_at_account)
        with pytest.raises(KeyboardInterrupt):
            prepared("killed")
    (partial,) = (tmp_path / "killed").glob(".*.partial")
    (partial / "folder" / left).write_text("{")
    prepared("killed")
    assert content(tmp_path / "killed" / "made") == content(tmp_path / "whole" / "made")
    assert prepared("killed").was_there


def end_at_account(path, told):
    if path.name == work_folder.ACCOUNT:
        raise KeyboardInterrupt
    write_json(path, told)


def test_a_folder_that_was_being_removed_does_not_stop_the_next_replacement(tmp_path, reviews):
    def prepared(core):
        prepare(AmazonFiles(reviews), tmp_path / "made", Settings(core=core), force=True)
        return content(tmp_path / "made")

    first = prepared(1)
    (tmp_path / ".made.replaced").mkdir()
    (tmp_path / ".made.replaced" / "made.inter").write_text("half removed")
    assert prepared(2) != first == prepared(1)
    assert [path.name for path in tmp_path.iterdir() if "replaced" in path.name] == []


def test_of_two_processes_at_one_folder_the_second_is_told(tmp_path, reviews, rows, write_lines):
    def encode_while_another_tries(texts):
        with pytest.raises(
            DataError, match=r"\.busy\.partial must be used by one process at a time, but another one is"
        ):
            prepare(files, tmp_path / "busy", Settings(), text_encoder=Encoder("letters", lambda: letters))
        return letters(texts)

    meta = write_lines("m.json", [json.dumps({"asin": row[1], "title": "t"}) for row in rows])
    files = AmazonFiles(reviews, meta)
    encoder = Encoder("letters", lambda: encode_while_another_tries)
    prepare(files, tmp_path / "busy", Settings(), text_encoder=encoder)
    assert check(DataConfig.of_folder(tmp_path / "busy")) == ()
