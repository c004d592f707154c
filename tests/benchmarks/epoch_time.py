"""Prints a table of seconds an epoch, model by model, beside the reference library's way and beside the floor.

Usage: python tests/benchmarks/epoch_time.py [FOLDER] [steps=N] [model ...]

FOLDER is a data set in MMRec's format, made on the first run with the size of Amazon Baby (19,445 users, 7,050 items,
160,792 interactions, image 4,096 and text 384 columns); default: a folder below the system's temporary one. One thread,
batch 2,048, float32, exact mathematics, the numbers of the published timing (`reference_way.py`), plain objective,
descent, the allocator settings that the launcher gives its workers. The first epoch is not counted. All times are CPU
seconds of the one thread, which on an idle machine are seconds: other work disturbs them less. With steps=N only the
first N batches of an epoch are trained, and their time stands for the others'.

LightGCN is first trained the reference way; its seconds over the published ones scale the published figures of all
models ("reference s", "times" faster). Dense products scale otherwise than sparse ones: "by vbpr" is the ratio where
VBPR trained the reference way gives the scale, which suits models that spend their time in projections. "floor s" is
what the model's arithmetic takes at the rates that this machine reached just before (`floor.py` has counts and rates),
"over" how many times that the epoch took; "design s" is the floor that performance.md gives for its machine. "beyond"
is the memory that training and validation took at their peak above data and imports, less 16 bytes a weight (itself,
gradient, Adam's two moments).
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from floor import DESIGN, Machine, Sizes, epoch_floor, measure_machine, sizes
from reference_way import PUBLISHED, lightgcn_seconds, vbpr_seconds

from search.cluster import ALLOCATOR
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.synthetic import RECIPES, synthesize, write_folder
from trainables.models import MODELS
from trainables.trainer import Trainer

COUNTED_EPOCHS = 2
SETTINGS = {"lightgcn": {"model.num_layers": 3}}
COLUMNS = {
    "model": 10,
    "epoch s": 8,
    "least to most": 15,
    "reference s": 12,
    "times": 6,
    "by vbpr": 7,
    "floor s": 8,
    "over": 5,
    "design s": 9,
    "validation s": 13,
    "build s": 8,
    "M weights": 10,
    "beyond MB": 10,
}


def memory(field: str) -> float:
    """This process's memory in MB: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def reset_peak() -> None:
    """Makes the peak start from now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def configuration(folder: Path, model: str) -> TrialConfig:
    """The model's trial on the data set in the folder."""
    flat = {"data.name": folder.name, "data.root": str(folder.parent), "model.name": model}
    return TrialConfig.from_flat(flat | SETTINGS.get(model, {}))


def epoch_seconds(trainer: Trainer, epoch: int, steps: int | None) -> float:
    """CPU seconds of an epoch's training, its first batches standing for all where `steps` says so."""
    start = time.process_time()
    trainer._start_epoch(epoch)
    groups = trainer._groups(epoch)
    drawn = time.process_time()
    trainer._run_steps(groups[:steps], epoch)
    return drawn - start + (time.process_time() - drawn) * len(groups) / len(groups[:steps])


def measure(config: TrialConfig, data: DataBundle, steps: int | None) -> dict[str, Any]:
    """Seconds and memory of one model, whose graphs have been built before, as for most trials of a sweep."""
    for features in data.features.values():
        features.sum()  # touches every page, so that mapped files count as data
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first optimiser imports a compiler
    start, before = time.process_time(), memory("VmRSS")
    trainer = Trainer(config, data)
    built = time.process_time() - start
    reset_peak()
    training, validation = [], []
    for epoch in range(1, 2 + COUNTED_EPOCHS):
        training.append(epoch_seconds(trainer, epoch, steps))
        trained = time.process_time()
        trainer._validate()
        validation.append(time.process_time() - trained)
    weights = sum(p.numel() for p in trainer.stepper.params)
    return {
        "training": training[1:],
        "validation": statistics.median(validation[1:]),
        "build": built,
        "weights": weights,
        "beyond": memory("VmHWM") - before - 16 * weights / 2**20,
    }


def line(model: str, figures: dict[str, Any], scales: dict[str, float], floor: float) -> tuple[str, list[float]]:
    """One line of the table, and how many times faster than the reference, by each of the scales."""
    training = figures["training"]
    middle = statistics.median(training)
    times = [PUBLISHED[model] * scale / middle for scale in scales.values()] if model in PUBLISHED else []
    beside = f"{'-':>12s} {'-':>6s} {'-':>7s}"
    if times:
        beside = f"{PUBLISHED[model] * scales['lightgcn']:12.1f} {times[0]:6.1f} {times[1]:7.1f}"
    spread = f"{min(training):.2f} to {max(training):.2f}"
    design = f"{DESIGN[model]:.1f}" if model in DESIGN else "-"
    least = f"{floor:8.2f} {middle / floor:5.1f} {design:>9s}"
    rest = f"{figures['validation']:13.2f} {figures['build']:8.2f}"
    memory = f"{figures['weights'] / 1e6:10.1f} {figures['beyond']:10.0f}"
    return f"{model:>10s} {middle:8.2f} {spread:>15s} {beside} {least} {rest} {memory}", times


def baby_folder(places: Sequence[str]) -> Path:
    """The folder that was named, else one below the system's temporary one; made where it is not there."""
    folder = Path(places[0]) if places else Path(tempfile.gettempdir()) / "recsweep-benchmark" / "baby"
    if not folder.exists():
        write_folder(folder, synthesize(RECIPES["baby"], seed=999))
    return folder


def in_child(task: Callable[[], Any]) -> Any:
    """What the task returns in a process of its own, so that memory and caches do not add up."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            json.dump(task(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.wait()
    return json.loads(text)


def main() -> None:
    """Prints the table."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    named = [argument for argument in sys.argv[1:] if not argument.startswith("steps=")]
    steps = next((int(argument.removeprefix("steps=")) for argument in sys.argv[1:] if argument not in named), None)
    folder = baby_folder(named[:1])
    torch.set_num_threads(1)
    data = load(configuration(folder, "lightgcn").data, cache=folder.with_name(f"{folder.name}-graphs"))
    reference = {
        "lightgcn": min(in_child(lambda: lightgcn_seconds(data, COUNTED_EPOCHS))),
        "vbpr": min(in_child(lambda: vbpr_seconds(data, 2))),
    }
    scales = {name: seconds / PUBLISHED[name] for name, seconds in reference.items()}
    print(f"torch {torch.__version__}, one thread, {len(data.train):,} training pairs")
    for name, seconds in reference.items():
        print(f"{name} the reference way: {seconds:.2f} s, published {PUBLISHED[name]} s, scale {scales[name]:.2f}")
    machine, size = in_child(lambda: (asdict(measure_machine(data)), asdict(sizes(data))))
    machine, size = Machine(**machine), Sizes(**size)
    print(
        f"rates: a hop over the adjacency {1e3 * machine.hop:.2f} ms, inner products along it "
        f"{1e3 * machine.inner:.2f} ms, {1e-9 / machine.flop:.0f} GFLOP/s, {4e-9 / machine.moved:.1f} GB/s, "
        f"a gathered row {1e9 * machine.gathered:.0f} ns, an exponential {1e9 * machine.exponential:.2f} ns"
    )
    print(" ".join(f"{name:>{width}s}" for name, width in COLUMNS.items()))
    ratios = []
    for model in named[1:] or MODELS:
        config = configuration(folder, model)
        in_child(lambda config=config: Trainer(config, data).batches_per_epoch)  # leaves its graphs in the cache
        figures = in_child(lambda config=config: measure(config, data, steps))
        weights = figures["weights"]
        floor = in_child(lambda model=model, weights=weights: epoch_floor(model, machine, size, weights))
        text, times = line(model, figures, scales, floor)
        print(text, flush=True)
        ratios += [times] if times else []
    for place, name in enumerate(scales):
        if ratios:
            mean = statistics.geometric_mean(times[place] for times in ratios)
            print(f"geometric mean of {len(ratios)} models, scaled by {name}: {mean:.2f} times faster")


if __name__ == "__main__":
    main()
