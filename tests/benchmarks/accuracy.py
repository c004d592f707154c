"""Prints the best validation Recall@20 of models on a real data set, each trained to early stopping over several seeds.

Usage: python tests/benchmarks/accuracy.py DATA_ROOT [models=NAME,...] [seeds=999,1,2] [jobs=2] [test=true] [K=V ...]

For example, the table in the README beside, and one point of one model:
    python tests/benchmarks/accuracy.py ../shared/data data.modalities=text,audio train.max_epochs=300
    python tests/benchmarks/accuracy.py ../shared/data data.modalities=text,audio models=vbpr seeds=999 test=true

Models train at their default numbers unless a key says otherwise; `jobs` trials run side by side, one thread each.
The only script that opens a test split, and only where `test=true` asks for it; it prints figures and stores nothing.
"""

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import torch

from search.yaml_loader import parse_scalar
from trainables.config import TrialConfig
from trainables.data.catalog import load, open_test_split
from trainables.models import MODELS
from trainables.trainer import Trainer

CUTOFF = "recall@20"


@dataclass
class Arguments:
    """The command line."""

    flat: dict[str, Any]
    models: list[str] = field(default_factory=lambda: list(MODELS))
    seeds: list[int] = field(default_factory=lambda: [999, 1, 2])
    jobs: int = 2
    test: bool = False


@dataclass(frozen=True)
class Figures:
    """What one trial came to."""

    validation: float
    best_epoch: int
    epochs: int
    test: float | None
    epoch_seconds: float


def read(arguments: list[str]) -> Arguments:
    """The command line, parsed."""
    parsed = Arguments({"data.root": arguments[0], "data.name": "lfm2k"})
    for argument in arguments[1:]:
        key, _, text = argument.partition("=")
        match key:
            case "models":
                parsed.models = text.split(",")
            case "seeds":
                parsed.seeds = [int(seed) for seed in text.split(",")]
            case "jobs":
                parsed.jobs = int(text)
            case "test":
                parsed.test = text == "true"
            case _:
                parsed.flat[key] = tuple(text.split(",")) if key == "data.modalities" else parse_scalar(text)
    return parsed


def train(flat: dict[str, Any], with_test: bool) -> Figures:
    """Trains one configuration to its early stop."""
    torch.set_num_threads(1)
    config = TrialConfig.from_flat(flat)
    trainer = Trainer(config, load(config.data))
    while not trainer.run_epoch().done:
        pass
    progress = trainer.progress
    test = trainer.evaluate_best(open_test_split(config.data))[CUTOFF] if with_test else None
    assert progress.best_score is not None and progress.best_epoch is not None
    return Figures(
        progress.best_score, progress.best_epoch, progress.epoch, test, progress.train_seconds / progress.epoch
    )


def main() -> None:
    """Prints a line a trial, then a line a model."""
    arguments = read(sys.argv[1:])
    start = time.perf_counter()
    results: dict[str, list[Figures]] = {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        tasks = {
            pool.submit(train, arguments.flat | {"model.name": model, "seed": seed}, arguments.test): (model, seed)
            for model in arguments.models
            for seed in arguments.seeds
        }
        for task in as_completed(tasks):
            model, seed = tasks[task]
            figures = task.result()
            results.setdefault(model, []).append(figures)
            judged = "" if figures.test is None else f"  test {figures.test:.4f}"
            print(
                f"{model:10s} seed {seed:4d}  {CUTOFF} {figures.validation:.4f} at epoch {figures.best_epoch} of "
                f"{figures.epochs}{judged}  {figures.epoch_seconds:.3f} s an epoch",
                flush=True,
            )
    print(f"\n{'model':10s} {'mean':>7s} {'sd':>7s} {'least':>7s} {'most':>7s}  best epochs")
    for model, found in sorted(results.items(), key=lambda entry: -statistics.mean(f.validation for f in entry[1])):
        scores = [figures.validation for figures in found]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        epochs = ", ".join(str(figures.best_epoch) for figures in found)
        print(
            f"{model:10s} {statistics.mean(scores):7.4f} {spread:7.4f} {min(scores):7.4f} {max(scores):7.4f}  {epochs}"
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
