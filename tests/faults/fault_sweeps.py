"""Small sweeps in real processes that can be broken, and what is compared afterwards."""

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from search.store import Store

HERE = Path(__file__).parent
EVERY_EPOCHS = 2

SWEEP: Mapping[str, Any] = {
    "name": "faults",
    "data": {"names": ["synthetic"]},
    "axes": {"model": ["lightgcn"], "update": ["descent", "bsam_plus"]},
    "space": {"tune": ["update", "optimizer"], "fix": {"model.embedding_size": 8}},
    "search": {"sampler": "random", "trials": 2},
    "train": {"max_epochs": 20, "batch_size": 1024},
    "checkpoint": {"every_epochs": EVERY_EPOCHS},
    "resources": {"max_concurrent": 2},
    "watch": {"disk_floor_gb": 0},
}

SLOW = ({"name": "slow", "point": "epoch", "action": "slow"},)
"""A fault that makes a sweep long enough to be hit in its middle."""

PRELOADED = ["search.cli", "search.driver", "search.live", "trainables.trainable", "ray.tune", "optuna"]
"""What drivers import before they are forked: it takes longer than most of what is tested here."""


@dataclass
class Driver:
    """A command line in a process of its own, in a session of its own, with its output in files."""

    process: ForkServerProcess
    folder: Path

    @property
    def pid(self) -> int:
        """Number of the process: for sweeps the parent, whose child drives."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def wait(self, seconds: float = 400) -> int:
        """Its exit code, minus the signal where one ended it; a process that does not end fails the test."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.kill()
            raise AssertionError(f"the command did not end in {seconds} s:\n{self.output}")
        return code

    def kill(self) -> None:
        """Kills it as `kill -9` does, and waits until all that it started has gone with it."""
        started = family(self.pid)
        kill_if_there(self.pid)
        self.process.join()
        wait_gone(started, 60)

    @property
    def output(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.out + self.err

    @property
    def out(self) -> str:
        """What it wrote to stdout."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it wrote to stderr."""
        return (self.folder / "err").read_text()


def kill_if_there(pid: int) -> None:
    """SIGKILL to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def family(pid: int) -> list[psutil.Process]:
    """A process's descendants, without Ray's agents: these notice the end of their raylet only after a while."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [each for each in found if not _is_agent(each)]


def _is_agent(process: psutil.Process) -> bool:
    try:
        return "agent" in " ".join(process.cmdline()).lower()
    except psutil.Error:
        return False


def wait_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Returns when none of the processes lives; one that survives is a test's error."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, f"these outlived what started them: {alive}"


def wait_until(condition: Callable[[], object], seconds: float = 300, what: str = "") -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {seconds} s: {what or condition}"
        time.sleep(0.05)


@dataclass
class Sweeps:
    """Runs command lines in a folder, each in a process forked from one that has imported everything.

    Attributes:
        folder: where they run.
        marks: what faults leave behind; see `fault_injection`.
    """

    folder: Path
    server: Any
    started: list[Driver] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Makes the folders, with the faults' code where every Python process finds it."""
        self.marks = self.folder / "marks"
        self.marks.mkdir()
        (self.folder / "site").mkdir()
        shutil.copy(HERE / "fault_injection.py", self.folder / "site/sitecustomize.py")

    def file(self, name: str = "faults", **sections: Any) -> str:
        """Writes SWEEP with some of its sections changed, key by key, and returns the file."""
        sweep: dict[str, Any] = {"name": name}
        for section in dict.fromkeys((*SWEEP, *sections)):
            if section != "name":
                sweep[section] = {**SWEEP.get(section, {}), **sections.get(section, {})}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sweep))
        return str(path)

    def start(
        self,
        *arguments: str,
        faults: Sequence[Mapping[str, Any]] = (),
        constants: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> Driver:
        """Starts `recsweep` with these arguments.

        Args:
            faults: what breaks; see `fault_injection`.
            constants: what is replaced; see there, too.
            environment: further variables.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder, prefix="output-"))
        variables = {"COLUMNS": "160", **self.variables(faults, constants or {}), **environment}
        request = {"arguments": arguments, "folder": self.folder, "place": place, "variables": variables}
        process = self.server.Process(target=runpy.run_path, args=(str(HERE / "forked.py"), request))
        process.start()
        driver = Driver(process, place)
        self.started.append(driver)
        return driver

    def variables(self, faults: Sequence[Mapping[str, Any]], constants: Mapping[str, Any]) -> dict[str, str]:
        """The environment of processes that are to break."""
        return {
            "PYTHONPATH": str(self.folder / "site"),
            "RECSWEEP_FAULTS": json.dumps(list(faults)),
            "RECSWEEP_CONSTANTS": json.dumps(dict(constants)),
            "RECSWEEP_MARKS": str(self.marks),
        }

    def run(self, *arguments: str, seconds: float = 400, **options: Any) -> Driver:
        """Runs `recsweep` with these arguments to its end; `exit_code` of what it returns is set."""
        driver = self.start(*arguments, **options)
        driver.wait(seconds)
        return driver

    def close(self) -> None:
        """Ends what still runs."""
        for driver in self.started:
            if driver.running:
                driver.kill()

    def epochs(self) -> list[dict[str, Any]]:
        """Every epoch that was trained so far: which trial's, by which process, and its number."""
        log = self.marks / "epochs"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def struck(self, name: str) -> int:
        """How often the fault of that name struck."""
        return len(list(self.marks.glob(f"{name}-*")))


def fork_server() -> Any:
    """The context whose processes are forked from one that has imported everything."""
    from search.cluster.connection import SETTINGS

    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def ok(driver: Driver, code: int = 0) -> Driver:
    """The driver, if it ended with that exit code and without a traceback."""
    assert driver.wait() == code, driver.output
    assert "Traceback" not in driver.output, driver.output
    return driver


def metrics_of(store: Path | str, sweep: str = "faults") -> pd.DataFrame:
    """Every metric of every trial, without what depends on the clock or on restarts."""
    frame = Store(store).frame("metrics", sweep)
    assert not frame.duplicated(["trial", "epoch", "split", "metric"]).any()
    kept = frame[["trial", "epoch", "split", "metric", "value", "gradient_evaluations"]]
    return kept.sort_values(["trial", "epoch", "split", "metric"]).reset_index(drop=True)


def trials_of(store: Path | str, sweep: str = "faults") -> pd.DataFrame:
    """What every trial came to, without what depends on the clock or on restarts."""
    frame = Store(store).frame("trials", sweep)
    assert not frame["trial"].duplicated().any()
    columns = ["trial", "candidate", "cell", "status", "config_json", "best_score", "best_epoch", "epochs"]
    counted = ["gradient_evaluations", "optimizer_steps", "samples"]
    return frame[columns + counted].sort_values("trial").reset_index(drop=True)


def assert_same(store: Path | str, whole: Path | str, sweep: str = "faults", *, of: str = "faults") -> None:
    """Both sweeps have the same trials with the same metrics, to the bit."""
    pd.testing.assert_frame_equal(trials_of(store, sweep), trials_of(whole, of), check_exact=True)
    pd.testing.assert_frame_equal(metrics_of(store, sweep), metrics_of(whole, of), check_exact=True)


def parts_of(store: Path, table: str) -> set[str]:
    """The names of a table's parts."""
    folder = store / table
    return {each.name for each in folder.glob("[!.]*.parquet")} if folder.is_dir() else set()


def checkpoints_of(store: Path) -> dict[str, list[Path]]:
    """The checkpoints of every trial that has some, by its name, oldest first."""
    found: dict[str, list[Path]] = {}
    for numbers in sorted(store.glob("checkpoints/*/*/epoch_*/progress.json")):
        found.setdefault(numbers.parents[1].name, []).append(numbers.parent)
    return found


def workers_of(pid: int) -> list[psutil.Process]:
    """The workers among a process's descendants that hold a trial; Ray names them after the method that they run."""
    found = []
    for process in family(pid):
        try:
            if "Trainable" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def ray_cluster(
    sweeps: Sweeps,
    head: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]] = (),
    faults: Sequence[Mapping[str, Any]] = (),
) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """A cluster's address, and what gives it orders: `remove` (the busiest node) or `kill` (the head)."""
    ours, theirs = multiprocessing.Pipe()
    place = Path(tempfile.mkdtemp(dir=sweeps.folder, prefix="cluster-"))
    request = {
        "orders": theirs,
        "folder": place,
        "head": dict(head),
        "nodes": [dict(node) for node in nodes],
        "variables": sweeps.variables(faults, {}),
    }
    process = sweeps.server.Process(target=runpy.run_path, args=(str(HERE / "ray_cluster.py"), request))
    process.start()
    theirs.close()

    def order(what: str) -> Any:
        ours.send(what)
        assert ours.poll(60), (place / "err").read_text()
        return ours.recv()

    try:
        assert ours.poll(90), (place / "err").read_text()
        yield ours.recv(), order
    finally:
        started = family(process.pid)
        with suppress(OSError):
            ours.send("end")
        ours.close()
        process.join(20)
        process.kill()
        wait_gone(started, 60)
