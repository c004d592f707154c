"""Prints a table of seconds an epoch, model by model, beside what the reference library would need on this machine.

Usage: python tests/benchmarks/epoch_time.py [FOLDER] [model ...]

FOLDER is a data set in MMRec's format, made on the first run with the size of Amazon Baby (19,445 users, 7,050 items,
160,792 interactions, image 4,096 and text 384 columns); default: a folder below the system's temporary one. One thread,
batch 2,048, float32, exact mathematics, the numbers of the published timing (`reference_way.py`), plain objective,
descent, the allocator settings that the launcher gives its workers. The first epoch is not counted.

LightGCN is first trained the reference way; its seconds over the published ones scale the published figures of all
models ("reference s", "times" faster). Dense products scale otherwise than sparse ones: "by vbpr" is the ratio where
VBPR trained the reference way gives the scale, which suits models that spend their time in projections. "beyond" is the
memory that training and validation took at their peak above data and imports, less 16 bytes a weight (itself, gradient,
Adam's two moments).
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
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


def measure(config: TrialConfig, data: DataBundle) -> dict[str, Any]:
    """Seconds and memory of one model, whose graphs have been built before, as for most trials of a sweep."""
    for features in data.features.values():
        features.sum()  # touches every page, so that mapped files count as data
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first optimiser imports a compiler
    start, before = time.perf_counter(), memory("VmRSS")
    trainer = Trainer(config, data)
    built = time.perf_counter() - start
    reset_peak()
    training, validation = [], []
    for _ in range(1 + COUNTED_EPOCHS):
        spent = trainer.progress.train_seconds, trainer.progress.evaluation_seconds
        trainer.run_epoch()
        training.append(trainer.progress.train_seconds - spent[0])
        validation.append(trainer.progress.evaluation_seconds - spent[1])
    weights = sum(p.numel() for p in trainer.model.parameters())
    return {
        "training": training[1:],
        "validation": statistics.median(validation[1:]),
        "build": built,
        "weights": weights / 1e6,
        "beyond": memory("VmHWM") - before - 16 * weights / 2**20,
    }


def line(model: str, figures: dict[str, Any], scales: dict[str, float]) -> tuple[str, list[float]]:
    """One line of the table, and how many times faster than the reference, by each of the scales."""
    training = figures["training"]
    middle = statistics.median(training)
    times = [PUBLISHED[model] * scale / middle for scale in scales.values()] if model in PUBLISHED else []
    beside = f"{'-':>12s} {'-':>6s} {'-':>7s}"
    if times:
        beside = f"{PUBLISHED[model] * scales['lightgcn']:12.1f} {times[0]:6.1f} {times[1]:7.1f}"
    spread = f"{min(training):.2f} to {max(training):.2f}"
    rest = f"{figures['validation']:13.2f} {figures['build']:8.2f} {figures['weights']:10.1f} {figures['beyond']:10.0f}"
    return f"{model:>10s} {middle:8.2f} {spread:>15s} {beside} {rest}", times


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
    folder = baby_folder(sys.argv[1:2])
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
    print(" ".join(f"{name:>{width}s}" for name, width in COLUMNS.items()))
    ratios = []
    for model in sys.argv[2:] or MODELS:
        config = configuration(folder, model)
        in_child(lambda config=config: Trainer(config, data).batches_per_epoch)  # leaves its graphs in the cache
        text, times = line(model, in_child(lambda config=config: measure(config, data)), scales)
        print(text, flush=True)
        ratios += [times] if times else []
    for place, name in enumerate(scales):
        if ratios:
            mean = statistics.geometric_mean(times[place] for times in ratios)
            print(f"geometric mean of {len(ratios)} models, scaled by {name}: {mean:.2f} times faster")


if __name__ == "__main__":
    main()
