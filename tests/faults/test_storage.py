"""Disks that are full or read-only, checkpoints and parts that are damaged."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fault_sweeps import SLOW, Driver, Sweeps, assert_same, checkpoints_of, metrics_of, ok, parts_of, wait_until

from search.store import DamagedPart, Store

pytestmark = pytest.mark.slow

IMPATIENT = {"search.supervision.STORE_PATIENCE_SECONDS": 4.0}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _remount(disk: Path, options: str) -> None:
    """Changes the disk; it may be busy for a moment."""
    command = ["mount", "-o", f"remount,{options}", str(disk)]
    wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 30, options)


def _fill(disk: Path) -> None:
    """Leaves no byte free."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


def _in_the_middle(sweeps: Sweeps, store: Path, **options: Any) -> Driver:
    driver = sweeps.start("launch", sweeps.file(), "--store", str(store), faults=SLOW, **options)
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > 6)
    assert driver.running, driver.output
    return driver


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_takes_no_more_breaks_the_sweep_off(sweeps: Sweeps, whole: Path, disk: Path, fault: str) -> None:
    driver = _in_the_middle(sweeps, disk / "s", constants=IMPATIENT)
    if fault == "full":
        _fill(disk)
    else:
        _remount(disk, "ro")
    ok(driver, 5)
    reason = "No space left on device" if fault == "full" else "Read-only file system"
    assert reason in driver.output and "recsweep resume faults" in driver.output
    _remount(disk, "rw,size=64m")
    ok(sweeps.run("resume", "faults", "--store", str(disk / "s")))
    assert_same(disk / "s", whole)


def test_a_sweep_whose_last_rows_were_not_stored_is_not_called_done(sweeps: Sweeps, whole: Path, disk: Path) -> None:
    driver = _in_the_middle(sweeps, disk / "s", constants={"search.supervision.STORE_PATIENCE_SECONDS": 600.0})
    _fill(disk)
    ok(driver, 5)
    assert "No space left on device" in driver.output and "recsweep resume faults" in driver.output
    (disk / "ballast").unlink()
    ok(sweeps.run("resume", "faults", "--store", str(disk / "s")))
    assert_same(disk / "s", whole)


@pytest.fixture
def half(sweeps: Sweeps) -> Path:
    """The store of a sweep that was killed while its first two trials were in epoch 13, with two checkpoints each."""
    stuck = [{"name": "stuck", "point": "epoch", "action": "hang", "epoch": 13}]
    store = sweeps.folder / "s"
    driver = sweeps.start("launch", sweeps.file(), "--store", "s", faults=stuck)
    wait_until(lambda: not driver.running or (sweeps.struck("stuck") and _epochs(store) == [12, 12]))
    assert driver.running, driver.output
    driver.kill()
    found = checkpoints_of(store)
    assert [[each.name for each in trial] for trial in found.values()] == [["epoch_000010", "epoch_000012"]] * 2
    (sweeps.marks / "epochs").unlink()
    return store


def _epochs(store: Path) -> list[int]:
    if not parts_of(store, "metrics"):
        return []
    return sorted(Store(store).frame("metrics").groupby("trial")["epoch"].max().tolist())


def test_a_damaged_checkpoint_gives_way_to_the_one_before(sweeps: Sweeps, whole: Path, half: Path) -> None:
    (_, first), (_, second) = checkpoints_of(half).values()
    os.truncate(first / "weights.pt", (first / "weights.pt").stat().st_size // 2)
    os.truncate(second / "progress.json", 100)
    ok(sweeps.run("resume", "faults", "--store", "s"))
    assert_same(half, whole)
    begun = sorted(line["epoch"] for line in sweeps.epochs())
    assert begun[:3] == [1, 1, 2] and begun.count(11) == 4 and begun.count(10) == 2


def _last_byte_of_a_page(part: Path) -> int:
    """Where the values of a part's first column end in its file."""
    column = pq.read_metadata(part).row_group(0).column(0)
    first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return int(first + column.total_compressed_size - 1)


def test_damaged_parts_are_named_passed_over_and_kept(sweeps: Sweeps, whole: Path, half: Path) -> None:
    damaged = []
    for table in ("metrics", "trials"):
        part = half / table / min(parts_of(half, table))
        content = bytearray(part.read_bytes())
        if table == "metrics":
            content[_last_byte_of_a_page(part)] ^= 0xFF
        part.write_bytes(content if table == "metrics" else content[: len(content) // 2])
        damaged.append((part, bytes(part.read_bytes())))
    for command, table in ((["status"], "trials"), (["query", "select * from metrics"], "metrics")):
        reader = ok(sweeps.run(*command, "--store", "s"))
        named = [part for part, _ in damaged if part.name in reader.err]
        assert [part.parent.name for part in named] == [table], reader.err
    ok(sweeps.run("resume", "faults", "--store", "s"))
    for part, content in damaged:
        assert part.read_bytes() == content
    with pytest.warns(DamagedPart, match="is damaged"):
        assert len(metrics_of(half)) > 0
        assert_same(half, whole)
