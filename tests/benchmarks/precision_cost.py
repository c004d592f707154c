"""Prints CPU seconds of a training epoch in float32 and in bf16, model by model, on data of Amazon Baby's size.

Usage: python tests/benchmarks/precision_cost.py [FOLDER] [model ...]

FOLDER as in `epoch_time.py`, which also says what the data and the settings are. One thread; both precisions take turns
in one process, epoch by epoch, after one of each that is not counted. The first line says how oneDNN multiplies
bfloat16 here: with the CPU's own instructions, or not at all; then factors are rounded one by one, which costs time.
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
from trainables.trainer import Trainer

COUNTED_EPOCHS = 2
PRECISIONS = ("float32", "bf16")


def measure(config: TrialConfig, data: DataBundle) -> dict[str, list[float]]:
    """CPU seconds of the counted epochs, and the first batch's loss, by precision."""
    trainers = {name: Trainer(_in_precision(config, name), data) for name in PRECISIONS}
    found: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for epoch in range(1, 2 + COUNTED_EPOCHS):
        for name, trainer in trainers.items():
            start = time.process_time()
            trainer._train_epoch(epoch)
            found[name].append(time.process_time() - start)
    losses = {f"{name} loss": [trainer.progress.first_loss or 0.0] for name, trainer in trainers.items()}
    return {name: seconds[1:] for name, seconds in found.items()} | losses


def _in_precision(config: TrialConfig, name: str) -> TrialConfig:
    return replace(config, train=config.train.model_copy(update={"precision": name}))


def line(model: str, found: dict[str, list[float]]) -> str:
    """One line of the table."""
    plain, rounded = (statistics.median(found[name]) for name in PRECISIONS)
    losses = " ".join(f"{found[f'{name} loss'][0]:12.6f}" for name in PRECISIONS)
    return f"{model:>10s} {plain:10.2f} {rounded:10.2f} {plain / rounded:6.2f} {losses}"


def main() -> None:
    """Prints the table."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    named = [argument for argument in sys.argv[1:] if argument not in MODELS]
    models = [argument for argument in sys.argv[1:] if argument in MODELS]
    folder: Path = baby_folder(named)
    torch.set_num_threads(1)
    data = load(configuration(folder, "lightgcn").data, cache=folder.with_name(f"{folder.name}-graphs"))
    print(f"torch {torch.__version__}, one thread; bfloat16 in the CPU's instructions: {_onednn_rounds()}")
    print(f"{'model':>10s} {'float32 s':>10s} {'bf16 s':>10s} {'times':>6s} {'first loss':>12s} {'in bf16':>12s}")
    for model in models or [name for name, kind in MODELS.items() if kind.uses_features]:
        config = configuration(folder, model)
        in_child(lambda config=config: Trainer(config, data).batches_per_epoch)  # leaves its graphs in the cache
        print(line(model, in_child(lambda config=config: measure(config, data))), flush=True)


if __name__ == "__main__":
    main()
