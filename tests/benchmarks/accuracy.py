"""Prints validation and test metrics of models on a real data set, trained to early stopping, and the time it took.

Usage: python tests/benchmarks/accuracy.py DATA_ROOT [key=value ...], for example
    python tests/benchmarks/accuracy.py ../shared/data data.name=lfm2k data.modalities=text,audio model.name=vbpr

The only script that opens a test split; it prints the figures and stores nothing.
"""

import sys
import time
from typing import Any

import torch

from search.yaml_loader import parse_scalar
from trainables.config import TrialConfig
from trainables.data.catalog import load, open_test_split
from trainables.trainer import Trainer

CUTOFF = "recall@20"


def configuration(arguments: list[str]) -> dict[str, Any]:
    """The flat trial configuration of the command line."""
    flat: dict[str, Any] = {"data.root": arguments[0], "data.name": "lfm2k"}
    for argument in arguments[1:]:
        key, _, text = argument.partition("=")
        flat[key] = tuple(text.split(",")) if key == "data.modalities" else parse_scalar(text)
    return flat


def main() -> None:
    """Trains one configuration and prints one line."""
    torch.set_num_threads(1)
    config = TrialConfig.from_flat(configuration(sys.argv[1:]))
    trainer = Trainer(config, load(config.data))
    start = time.perf_counter()
    while not trainer.run_epoch().done:
        pass
    seconds = time.perf_counter() - start
    progress = trainer.progress
    test = trainer.evaluate_best(open_test_split(config.data))
    print(
        f"{config.model_name:10s} seed {config.seed}  best validation {CUTOFF} {progress.best_score:.6f} "
        f"(epoch {progress.best_epoch} of {progress.epoch})  test {CUTOFF} {test[CUTOFF]:.6f}  "
        f"{seconds:.0f} s, training {progress.train_seconds / progress.epoch:.3f} s an epoch"
    )


if __name__ == "__main__":
    main()
