"""Prints what the driver costs: CPU a trial and a result, memory over time, and how long a flush holds it up.

Usage: python tests/benchmarks/driver_cost.py [trials=1000] [results=2500] [rows=1000000] [K=V ...]

    trials    trials of one epoch, for CPU a trial (goal: 25 ms) and memory; trials=5000 for its goal (flat in 100 MB)
    results   epochs of each of four more trials, for CPU a result (goal: 1 ms)
    rows      rows that are put through the recorder, 2,000 results a second, for the longest time that a loop beside
              the writing is held up (goal: 50 ms)
    K=V       changes to the sweep, such as search.sampler=tpe

0 leaves a part out. The sweeps are `search.driver.run` on real Ray with reused workers and a real store; only the
trainable is another one, whose epochs take no time. CPU is that of the driver's process with all its threads, from the
first result to the last; what the end of the sweep takes (compaction, Ray's own end) is printed apart. On a busy
machine times are longer, and the longest ones are the machine's.
"""

import heapq
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import psutil
from ray import tune

import trainables.trainable
from search import driver
from search.overrides import apply
from search.recorder import Recorder
from search.searchers import CellSearcher
from search.spec import SweepSpec, parse, studies
from search.store import Store
from search.writer import StoreWriter

METRICS = tuple(f"{name}@{k}" for name in ("recall", "ndcg", "precision", "map") for k in (5, 10, 20, 50))
ROWS = len(METRICS) + 2  # of the table `metrics` that an epoch makes
PACE = 2000  # results a second; Ray itself brings about 1,000
SWEEP = {
    "name": "driver-cost",
    "data": {"names": ["synthetic"]},
    "axes": {"model": ["vbpr"], "update": ["descent", "mirror_gradient", "sam", "bsam"]},
    "space": {"tune": ["update", "optimizer"]},
}


def report(epoch: int, last: int) -> dict[str, Any]:
    """What `RecommenderTrainable` returns for an epoch."""
    done = epoch >= last
    score = epoch / (epoch + 1)
    head = {"status": "finished" if done else "running", "error": None, "done": done, "validated": True}
    values = {"losses": {"loss": 1 / epoch, "loss/bpr": 1 / epoch}, "validation": dict.fromkeys(METRICS, score)}
    scores = {"epoch": epoch, "score": score, "best_score": score, "best_epoch": epoch, "misses": 0, "first_loss": 1.0}
    counts = {"gradient_evaluations": epoch, "optimizer_steps": epoch, "forward_passes": epoch, "samples": epoch}
    times = {"train_seconds": 0.001 * epoch, "evaluation_seconds": 0.001 * epoch, "setup_seconds": 0.0}
    rest = {"peak_memory_bytes": 2**28, "device": "cpu", "earlier": [], "warning": None}
    return head | values | scores | counts | times | rest


class TrivialTrainable(tune.Trainable):  # type: ignore[misc]
    """In place of `RecommenderTrainable`: the same results, at once."""

    def setup(self, config: dict[str, Any], **parts: Any) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._epoch, self._last = 0, new_config["trial"]["train.max_epochs"]
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        return report(self._epoch, self._last)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: str) -> None:
        pass


@dataclass
class Meter:
    """Looks at the driver's process whenever the recorder tells of a change.

    Attributes:
        samples: of every change: trials begun, time, CPU seconds, resident bytes.
    """

    samples: list[tuple[int, float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._process = psutil.Process()

    def __call__(self, records: Mapping[str, Any]) -> None:
        if not self.samples or self.samples[-1][0] != len(records):
            self._memory = self._process.memory_info().rss  # it takes as long as a tenth of a result
        self.samples.append((len(records), time.monotonic(), time.process_time(), self._memory))

    def cpu(self) -> tuple[float, float]:
        """CPU seconds from the first change to the last, and from there until now."""
        last = self.samples[-1][2]
        return last - self.samples[0][2], time.process_time() - last


def run(trials: int, epochs: int, overrides: list[str]) -> Meter:
    """A sweep of so many trials of so many epochs, and what it cost."""
    cells = len(SWEEP["axes"]["update"])  # type: ignore[index]
    sizes = {"search": {"trials": max(1, trials // cells)}, "train": {"max_epochs": epochs, "patience": epochs}}
    spec = SweepSpec.model_validate(apply({**SWEEP, **sizes}, overrides, SweepSpec)[0])
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = driver.run(spec, Store(folder, create=True), hooks=driver.Hooks(on_change=meter))
        cpu, end = meter.cpu()
    trials = sum(outcome.counts.values())
    states = ", ".join(f"{count} {status}" for status, count in outcome.counts.items())
    print(f"\n{trials} trials of {epochs} epochs, {states}, in {outcome.seconds:.0f} s")
    print(f"CPU ms a trial {1000 * cpu / trials:.2f}, a result {1000 * cpu / trials / epochs:.3f}; ", end="")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{end:.1f} s to end the sweep; at most {peak:.0f} MB, the end included", flush=True)
    return meter


def print_memory(meter: Meter, parts: int = 10) -> None:
    """Resident memory at every tenth of the trials, and its growth after the first."""
    trials = meter.samples[-1][0]
    print("\n trials   resident MB   CPU ms a trial")
    before = meter.samples[0]
    tenths = []
    for part in range(1, parts + 1):
        now = next(sample for sample in meter.samples if sample[0] >= part * trials // parts)
        begun = max(1, now[0] - before[0])
        print(f"{now[0]:7d}   {now[3] / 1e6:11.0f}   {1000 * (now[2] - before[2]) / begun:14.2f}")
        tenths.append(now)
        before = now
    first, last, highest = tenths[0][3], tenths[-1][3], max(sample[3] for sample in meter.samples)
    print(f"growth after the first tenth: {(last - first) / 1e6:.0f} MB, at most {(highest - first) / 1e6:.0f} MB")


@dataclass
class StandIn:
    """The part of a Tune trial that the recorder looks at."""

    trial_id: str
    config: dict[str, Any]
    run_metadata: Any = field(default_factory=SimpleNamespace)


class Stopwatch:
    """Makes calls and keeps the longest times that passed between the ends of two of them."""

    def __init__(self) -> None:
        self._longest = [0.0] * 5
        self._last = time.perf_counter()

    def call(self, function: Callable[[], object] = lambda: None) -> None:
        function()
        now = time.perf_counter()
        heapq.heappushpop(self._longest, now - self._last)
        self._last = now

    def __str__(self) -> str:
        return ", ".join(f"{1000 * seconds:.0f}" for seconds in sorted(self._longest, reverse=True))


def print_blocking(rows: int) -> None:
    """Puts epochs through a recorder at a steady pace, as a loop that never rests, until all are in the store."""
    spec = parse({**SWEEP, "axes": {"model": ["vbpr"], "update": ["sam"]}})
    cells = {study.cell: study for study in studies(spec)}
    searcher = CellSearcher(list(cells.values()), "random", (999,), "max")
    trial = StandIn("t", searcher.suggest("t"))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        writer = StoreWriter(store)
        recorder = Recorder(writer, spec, cells, {"synthetic": "d"}, searcher.suggested)
        recorder.on_trial_start(0, [], trial)
        idle, end = Stopwatch(), time.monotonic() + 10
        while time.monotonic() < end:
            idle.call()
        busy, start = Stopwatch(), time.monotonic()
        for epoch in range(1, rows // ROWS + 1):
            result = report(epoch, rows) | {"hostname": "h", "pid": 1}
            busy.call(partial(recorder.on_trial_result, 0, [], trial, result))
            while epoch > PACE * (time.monotonic() - start):
                busy.call()
        closing = threading.Thread(target=writer.close)
        closing.start()
        while closing.is_alive():
            busy.call()
        seconds = time.monotonic() - start
        stored = len(store.table("metrics"))
    print(f"\n{stored} rows in {seconds:.1f} s; a loop's longest turns beside the writing, in ms: {busy}")
    print(f"with nothing to write: {idle}")


def main() -> None:
    """Prints what the command line asks for."""
    sizes = {"trials": 1000, "results": 2500, "rows": 1_000_000}
    overrides = []
    for argument in sys.argv[1:]:
        key, _, text = argument.partition("=")
        if key in sizes:
            sizes[key] = int(text)
        else:
            overrides.append(argument)
    trainables.trainable.RecommenderTrainable = TrivialTrainable  # type: ignore[misc]
    if sizes["trials"]:
        print_memory(run(sizes["trials"], 1, overrides))
    if sizes["results"]:
        run(4, sizes["results"], overrides)
    if sizes["rows"]:
        print_blocking(sizes["rows"])


if __name__ == "__main__":
    main()
