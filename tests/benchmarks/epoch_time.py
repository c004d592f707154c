"""Prints a table of seconds an epoch and a validation, model by model, on data of a published size.

Usage: python tests/benchmarks/epoch_time.py [FOLDER] [model ...]

FOLDER is a data set in MMRec's format, made on the first run with the size of Amazon Baby (19,445 users, 7,050 items,
160,792 interactions, image 4,096 and text 384 columns); default: a folder below the system's temporary one. One thread,
batch 2,048, float32, default numbers of each model, plain objective, descent. The first epoch is not counted.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from search.cluster import ALLOCATOR
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.data.synthetic import RECIPES, synthesize, write_folder
from trainables.models import MODELS
from trainables.trainer import Trainer

COUNTED_EPOCHS = 3
COLUMNS = {
    "model": 10,
    "epoch s": 9,
    "least to most": 16,
    "validation s": 13,
    "build s": 8,
    "M weights": 10,
    "peak GB": 9,
}


def measure(model: str, folder: Path) -> str:
    """One line of the table."""
    config = TrialConfig.from_flat({"data.name": folder.name, "data.root": str(folder.parent), "model.name": model})
    data = load(config.data)
    start = time.perf_counter()
    trainer = Trainer(config, data)
    built = time.perf_counter() - start
    training, validation = [], []
    for _ in range(1 + COUNTED_EPOCHS):
        before = trainer.progress.train_seconds, trainer.progress.evaluation_seconds
        trainer.run_epoch()
        training.append(trainer.progress.train_seconds - before[0])
        validation.append(trainer.progress.evaluation_seconds - before[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    count = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    middle, judged = statistics.median(training[1:]), statistics.median(validation[1:])
    spread = f"{min(training[1:]):.2f} to {max(training[1:]):.2f}"
    return f"{model:>10s} {middle:9.2f} {spread:>16s} {judged:13.2f} {built:8.2f} {count:10.1f} {peak:9.2f}"


def main() -> None:
    """Prints the table; every model in a process of its own, so that peaks of memory do not add up."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "recsweep-benchmark" / "baby"
    if not folder.exists():
        write_folder(folder, synthesize(RECIPES["baby"], seed=999))
    torch.set_num_threads(1)
    tuned = all(os.environ.get(name) == value for name, value in ALLOCATOR.items())
    print(f"torch {torch.__version__}, one thread, allocator settings of the workers: {'on' if tuned else 'off'}")
    print(" ".join(f"{name:>{width}s}" for name, width in COLUMNS.items()))
    for model in sys.argv[2:] or MODELS:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, measure(model, folder).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        print(os.read(reading, 4096).decode(), flush=True)


if __name__ == "__main__":
    main()
