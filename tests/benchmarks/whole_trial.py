"""Prints what a whole trial is made of, on a cold worker and on a warm one, and what memory a worker holds alone.

Usage: python tests/benchmarks/whole_trial.py DATA_ROOT [models=lightgcn,vbpr,freedom] [epochs=3] [FOLDER]

DATA_ROOT holds lfm2k; FOLDER is a data set of Amazon Baby's size as in `epoch_time.py`, made on the first run. Every
trial runs in a fresh process, one thread, with the variables that the launcher gives its workers. The data set reaches
it as it reaches a worker: arrays in memory that this process maps, too, and graphs from a folder that an earlier trial
has filled. "warm" is the next trial in the same process. Times are wall seconds / CPU seconds, an epoch, a validation
and a checkpoint each the quickest of `epochs`; a busy machine shows in the first number alone. With epochs=0 there are
no times: memory is measured after 12 steps and a validation, both twice.

"alone" is memory that no other process shares (smaps: private and written to; files that are mapped do not count), in
MB: after the imports; what the data and the trial, trained, add to it; of that, weights, gradients and Adam's moments
(16 bytes a trained weight), and the best weights (4 bytes); the rest is what a second worker on the node costs beyond
these, mostly what a step keeps for its gradients, and holes in the heap.
"""

import json
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

PARTS = ("import", "data", "graphs", "build", "first step", "first epoch", "epoch", "validation", "checkpoint")
MEMORY_STEPS = 12
MEMORY = ("imports", "added", "of weights", "rest")

Result = TypeVar("Result")
Times = dict[str, tuple[float, float]]


def timed(task: Callable[[], Result]) -> tuple[Result, tuple[float, float]]:
    """The task's result, and the wall and CPU seconds that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = task()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def private_megabytes() -> float:
    """Memory that this process alone holds; pages of mapped files are the system's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Private_Dirty"))


def lay_out(data: Any, folder: Path) -> None:
    """Writes a bundle as the object store holds it: the arrays one behind the other, the rest as a pickle."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    sizes = []
    with (folder / "arrays").open("wb") as file:
        for buffer in buffers:
            sizes.append(file.write(buffer.raw()))
            file.write(bytes(-file.tell() % 64))
    (folder / "head").write_bytes(pickle.dumps((head, sizes)))


def take_up(folder: Path) -> Any:
    """The bundle, its arrays mapped."""
    head, sizes = pickle.loads((folder / "head").read_bytes())
    with (folder / "arrays").open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    buffers, place = [], 0
    for size in sizes:
        buffers.append(content[place : place + size])
        place += size + -size % 64
    return pickle.loads(head, buffers=buffers)


def live(trainable: Any, start: Callable[[], Any], epochs: int, folder: Path) -> Times:
    """A trial from its configuration on; `start` builds it."""
    graphs = trainable.bundles[trainable.name].graphs
    before = graphs.seconds
    _, built = timed(start)
    spent = tuple(now - then for now, then in zip(graphs.seconds, before, strict=True))
    trainer = trainable.actor.runner.trainer
    _, step = timed(lambda: trainer._run_steps(trainer._groups(1)[:1], 1))
    times = {"graphs": spent, "build": (built[0] - spent[0], built[1] - spent[1]), "first step": step}
    found: list[Times] = []
    for _ in range(1 + epochs):
        passes: dict[str, Callable[[], Any]] = {"epoch": trainer.run_epoch, "validation": trainer._validate}
        passes["checkpoint"] = lambda: folder_of(folder).save(trainer.progress.epoch, *trainer.state())
        found.append({name: timed(task)[1] for name, task in passes.items()})
    quickest = {name: tuple(map(min, zip(*(each[name] for each in found[1:]), strict=True))) for name in found[0]}
    return {**times, "first epoch": found[0]["epoch"], **quickest}  # type: ignore[dict-item]


def work(trainer: Any) -> None:
    """Enough of a trial for its memory to be what it will be: two starts of an epoch, each with a validation."""
    for epoch in (1, 2):
        trainer._start_epoch(epoch)
        trainer._run_steps(trainer._groups(epoch)[:MEMORY_STEPS], epoch)
        trainer._validate()


def folder_of(folder: Path) -> Any:
    """The trial's checkpoints."""
    from trainables.checkpoints import CheckpointFolder

    return CheckpointFolder(str(folder))


class Worker:
    """A worker's actor, without Ray around it, and what it got."""

    def __init__(self, folder: Path) -> None:
        from trainables.data.graph_cache import GraphCache
        from trainables.shares import Resources
        from trainables.trainable import RecommenderTrainable

        class TimedCache(GraphCache):
            seconds = (0.0, 0.0)

            def fetch(self, *arguments: Any) -> Any:
                graph, more = timed(lambda: GraphCache.fetch(self, *arguments))
                self.seconds = (self.seconds[0] + more[0], self.seconds[1] + more[1])
                return graph

        self.data = take_up(folder)
        object.__setattr__(self.data, "graphs", TimedCache(self.data.graphs.folder))
        self.name, self.bundles = self.data.name, {self.data.name: self.data}
        self.actor, self.resources = RecommenderTrainable.__new__(RecommenderTrainable), Resources()

    def configuration(self, model: str, seed: int) -> dict[str, Any]:
        """A trial as the searcher suggests it; validations are called for apart."""
        flat = {"data.name": self.name, "model.name": model, "seed": seed, "train.validate_every": 10**6}
        return {"name": "trial", "trial": flat}

    def setup(self, model: str) -> None:
        """The first trial."""
        self.actor.setup(self.configuration(model, 999), bundles=self.bundles, resources=self.resources)

    def reset(self, model: str) -> None:
        """The next one."""
        self.actor.reset_config(self.configuration(model, 1))


def child(folder: Path, model: str, epochs: int) -> None:
    """Runs two trials in this process and prints what they took as JSON."""

    def imports() -> None:
        import trainables.trainable
        import trainables.trial_runner  # noqa: F401

    times: dict[str, Any] = {}
    _, times["import"] = timed(imports)
    imported = private_megabytes()
    worker, times["data"] = timed(lambda: Worker(folder))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        if epochs:
            times.update(live(worker, lambda: worker.setup(model), epochs, Path(place)))
        else:
            worker.setup(model)
            work(worker.actor.runner.trainer)
        added = private_megabytes() - imported
        weights = 16 * sum(p.numel() for p in worker.actor.runner.trainer.stepper.params) / 2**20
        weights += sum(value.nbytes for value in worker.actor.runner.trainer.best_weights.values()) / 2**20
        warm = live(worker, lambda: worker.reset(model), epochs, Path(place)) if epochs else {}
    memory = dict(zip(MEMORY, (imported, added, weights, added - weights), strict=True))
    print(json.dumps({"cold": times, "warm": warm, "memory": memory}))


def run(folder: Path, model: str, epochs: int) -> dict[str, Any]:
    """What a fresh process says of the model."""
    from search.cluster import ALLOCATOR

    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", str(folder), model, str(epochs)]
    done = subprocess.run(command, env={**os.environ, **ALLOCATOR, **threads}, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def print_table(title: str, found: dict[str, dict[str, Any]]) -> None:
    """A line a part of a trial, two columns a model."""
    print(f"\n{title:12s}" + "".join(f"{model + ', cold':>18s}{'warm':>14s}" for model in found))
    for part in PARTS if any(figures["warm"] for figures in found.values()) else ():
        cells = []
        for figures in found.values():
            for kind, width in (("cold", 18), ("warm", 14)):
                pair = figures[kind].get(part)
                cells.append(f"{'' if pair is None else f'{pair[0]:.3f} / {pair[1]:.3f}':>{width}s}")
        print(f"{part:12s}" + "".join(cells))
    for name in MEMORY:
        print(
            f"{'alone: ' + name:18s}"
            + "".join(f"{figures['memory'][name]:12.0f}{'':20s}" for figures in found.values())
        )


def measure(config: Any, models: list[str], epochs: int) -> None:
    """One data set's table."""
    from trainables.data.catalog import load
    from trainables.trainer import Trainer

    with tempfile.TemporaryDirectory(prefix="recsweep-whole-trial-") as place:
        folder = Path(place)
        data, loaded = timed(lambda: load(config.data, cache=folder / "graphs"))
        lay_out(data, folder)
        shared = take_up(folder)  # as the object store and another worker would hold it
        for features in shared.features.values():
            features.sum()
        found = {}
        for model in models:
            flat = {"data.name": config.data.name, "data.root": config.data.root, "model.name": model}
            Trainer(type(config).from_flat(flat), data)  # leaves its graphs in the folder
            found[model] = run(folder, model, epochs)
        print_table(config.data.name, found)
        print(f"read and checked from its files, once a sweep: {loaded[0]:.2f} / {loaded[1]:.2f} s")


def main() -> None:
    """Prints both tables."""
    from epoch_time import baby_folder

    from trainables.config import TrialConfig

    root, models, epochs, places = sys.argv[1], ["lightgcn", "vbpr", "freedom"], 3, []
    for argument in sys.argv[2:]:
        key, _, text = argument.partition("=")
        match key:
            case "models":
                models = text.split(",")
            case "epochs":
                epochs = int(text)
            case _:
                places.append(argument)
    folder = baby_folder(places)
    for name, parent in (("lfm2k", root), (folder.name, str(folder.parent))):
        measure(TrialConfig.from_flat({"data.name": name, "data.root": parent}), models, epochs)


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
