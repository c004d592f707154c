"""Prints CPU seconds of a training epoch in float32 and in bf16, model by model, on data of Amazon Baby's size.

Usage: python tests/benchmarks/precision_cost.py [FOLDER] [batches=12] [model ...]

FOLDER as in `epoch_time.py`, which also says what the data and the settings are. One thread. Both precisions take turns
in one process, batch by batch, after two batches of each that are not counted; an epoch is the median batch, times the
batches of an epoch. The first line says whether the CPU has instructions for bfloat16 that oneDNN uses: without them
factors are rounded one by one, which costs time and saves none.
"""

import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from epoch_time import baby_folder, configuration, in_child

from search.cluster import ALLOCATOR
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.layers.dense import _onednn_rounds
from trainables.models import MODELS
from trainables.precision import matrix_products
from trainables.trainer import Trainer

WARMING = 2
PRECISIONS = ("float32", "bf16")


def measure(config: TrialConfig, data: DataBundle, batches: int) -> dict[str, float]:
    """CPU seconds of an epoch, and the first batch's loss, by precision."""
    trainers = {name: Trainer(_in_precision(config, name), data) for name in PRECISIONS}
    seconds: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    losses: dict[str, float] = {}
    for trainer in trainers.values():
        trainer._start_epoch(1)
    groups = trainers["float32"]._groups(1)
    for batch in range(WARMING + batches):
        for name, trainer in trainers.items():
            start = time.process_time()
            with matrix_products(trainer.config.train.precision):
                (step,) = trainer._run_steps([groups[batch]], 1)
            losses.setdefault(f"{name} loss", float(step.total))
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found[WARMING:]) * len(groups) for name, found in seconds.items()} | losses


def _in_precision(config: TrialConfig, name: str) -> TrialConfig:
    return replace(config, train=config.train.model_copy(update={"precision": name}))


def line(model: str, found: dict[str, float]) -> str:
    """One line of the table."""
    plain, rounded = (found[name] for name in PRECISIONS)
    losses = " ".join(f"{found[f'{name} loss']:12.6f}" for name in PRECISIONS)
    return f"{model:>10s} {plain:10.2f} {rounded:10.2f} {plain / rounded:6.2f} {losses}"


def main() -> None:
    """Prints the table."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    models = [argument for argument in sys.argv[1:] if argument in MODELS]
    counts = [int(argument.removeprefix("batches=")) for argument in sys.argv[1:] if argument.startswith("batches=")]
    named = [argument for argument in sys.argv[1:] if argument not in MODELS and not argument.startswith("batches=")]
    batches = counts[0] if counts else 12
    folder: Path = baby_folder(named)
    torch.set_num_threads(1)
    data = load(configuration(folder, "lightgcn").data, cache=folder.with_name(f"{folder.name}-graphs"))
    print(f"torch {torch.__version__}, one thread; bfloat16 in the CPU's instructions: {_onednn_rounds()}")
    print(f"{'model':>10s} {'float32 s':>10s} {'bf16 s':>10s} {'times':>6s} {'first loss':>12s} {'in bf16':>12s}")
    for model in models or [name for name, kind in MODELS.items() if kind.uses_features]:
        config = configuration(folder, model)
        in_child(lambda config=config: Trainer(config, data).batches_per_epoch)  # leaves its graphs in the cache
        print(line(model, in_child(lambda config=config: measure(config, data, batches))), flush=True)


if __name__ == "__main__":
    main()
