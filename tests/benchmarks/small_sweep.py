"""Prints what a small sweep takes from the command to its exit: seconds, processes, memory, and where the time goes.

Usage: python tests/benchmarks/small_sweep.py DATA_ROOT [repeats=3] [K=V ...]

LightGCN on lfm2k below DATA_ROOT, 16 trials, TPE and ASHA, at most 30 epochs, two at a time with a thread each. K=V
changes the sweep. Goal: 60 s, 6 processes of our own, 1.5 GB. The nearest rival, WarpRec 1.4.6, took 925 s for the same
on two cores, with 41 processes and 5.55 GB at the peak.

"Own" processes are the command, its driver and the workers of trials; the others are Ray's: its head's servers, and
workers that it starts ahead. Memory is the proportional set size (pages that n processes share count 1/n in each) of
all of them together, at its peak, looked at every half second.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from search.store import Store

SWEEP = {
    "name": "small",
    "data": {"names": ["lfm2k"]},
    "axes": {"model": ["lightgcn"], "update": ["descent"]},
    "space": {"tune": ["model", "optimizer"]},
    "search": {"sampler": "tpe", "trials": 16, "scheduler": {"kind": "asha"}},
    "train": {"max_epochs": 30},
    "resources": {"max_concurrent": 2},
}


@dataclass
class Footprint:
    """The most processes and bytes seen at once."""

    processes: int = 0
    own: int = 0
    bytes: int = 0
    names: set[str] = field(default_factory=set)

    def look(self, command: psutil.Process) -> None:
        """Takes note of a process and all below it."""
        found = [command, *command.children(recursive=True)]
        own, size = 0, 0
        for process in found:
            try:
                line = process.cmdline()
                size += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            own += any(mark in " ".join(line) for mark in ("search.cli", "Trainable"))
            self.names.add(Path(line[0]).name.split()[0] if line else "")
        self.processes, self.own = max(self.processes, len(found)), max(self.own, own)
        self.bytes = max(self.bytes, size)


@dataclass(frozen=True)
class Run:
    """One sweep: wall seconds in all, up to the first trial's start, and after the last one's end."""

    seconds: float
    before: float
    after: float
    footprint: Footprint
    epochs: int
    best: float


def run(file: Path, store: Path, changes: list[str]) -> Run:
    """Launches the sweep and watches it."""
    began = time.time()
    command = psutil.Popen(
        [sys.executable, "-c", "from search.cli import main; main()", "launch", file, *changes, "--store", store],
        stdout=subprocess.DEVNULL,
    )
    footprint = Footprint()
    while command.poll() is None:
        try:
            footprint.look(command)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.5)
    ended = time.time()
    if command.wait() != 0:
        sys.exit(f"the sweep ended with code {command.returncode}")
    trials = Store(store).trials()
    first, last = trials["started"].min().timestamp(), trials["ended"].max().timestamp()
    return Run(
        ended - began, first - began, ended - last, footprint, int(trials["epochs"].sum()), trials["best_score"].max()
    )


def main() -> None:
    """Prints a line a run, and the medians."""
    root, *rest = sys.argv[1:]
    repeats = next((int(each.removeprefix("repeats=")) for each in rest if each.startswith("repeats=")), 3)
    changes = [f"data.root={Path(root).resolve()}", *(each for each in rest if not each.startswith("repeats="))]
    runs = []
    with tempfile.TemporaryDirectory(prefix="recsweep-small-") as folder:
        file = Path(folder) / "small.yaml"
        file.write_text(yaml.safe_dump(SWEEP))
        print(" seconds  before  trials  after  epochs  processes  own    GB    best")
        for number in range(repeats):
            each = run(file, Path(folder) / f"store-{number}", changes)
            runs.append(each)
            seen = each.footprint
            print(
                f"{each.seconds:8.1f} {each.before:7.1f} {each.seconds - each.before - each.after:7.1f} "
                f"{each.after:6.1f} {each.epochs:7d} {seen.processes:10d} {seen.own:4d} {seen.bytes / 1e9:5.2f} "
                f"{each.best:7.4f}",
                flush=True,
            )
    print(f"median {statistics.median(each.seconds for each in runs):.1f} s from the command to its exit")
    print(f"processes seen: {', '.join(sorted(set().union(*(each.footprint.names for each in runs))))}")


if __name__ == "__main__":
    main()
