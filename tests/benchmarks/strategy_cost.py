"""Prints what an epoch of every update and objective costs, beside plain descent, at their default numbers.

Usage: python tests/benchmarks/strategy_cost.py DATA_ROOT [models=lightgcn,vbpr] [rounds=7] [K=V ...]

One thread. All trials of a model take turns, epoch by epoch and in another order every round, so that whatever else
the machine does, and what the one before leaves in its caches, hits all of them alike; figures are medians over the
rounds of training seconds, after one round of warm-up. "GE" is gradient evaluations an epoch beside descent's, "time"
seconds beside descent's. The table of strategies.md §11 gives GE.
"""

import random
import statistics
import sys
from typing import Any

import torch

from search.yaml_loader import parse_scalar
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.trainer import Trainer
from trainables.updates import UPDATES


def arms(model: str) -> dict[str, dict[str, str]]:
    """Every update with the plain objective and every objective with descent, by name; descent first."""
    fitting = [name for name in OBJECTIVES if name != "plain" and (name != "amr" or MODELS[model].uses_features)]
    updates = {name: {"update.name": name} for name in UPDATES}
    return updates | {name: {"objective.name": name} for name in fitting}


def epoch(trainer: Trainer) -> tuple[float, int, int]:
    """Training seconds, gradient evaluations and optimiser steps of the trainer's next epoch."""
    before = trainer.progress.as_dict()
    trainer.run_epoch()
    after = trainer.progress.as_dict()
    names = ("train_seconds", "gradient_evaluations", "optimizer_steps")
    seconds, evaluations, steps = (after[name] - before[name] for name in names)
    return seconds, evaluations, steps


def measure(model: str, flat: dict[str, Any], rounds: int) -> None:
    """Prints a line an arm."""
    configs = {name: TrialConfig.from_flat(flat | {"model.name": model} | arm) for name, arm in arms(model).items()}
    data = load(next(iter(configs.values())).data)
    trainers = {name: Trainer(config, data) for name, config in configs.items()}
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in trainers}
    for turn in range(rounds + 1):
        for name, trainer in random.Random(turn).sample(list(trainers.items()), len(trainers)):
            figures = epoch(trainer)
            if turn:
                found[name].append(figures)
    base = statistics.median(seconds for seconds, _, _ in found["descent"])
    evaluations = found["descent"][0][1]
    print(f"\n{model}: descent {base:.3f} s an epoch, {evaluations} gradient evaluations")
    print(f"{'arm':20s} {'GE':>5s} {'steps':>5s} {'time':>5s} {'time/GE':>8s}")
    for name, turns in found.items():
        cost = turns[0][1] / evaluations
        ratio = statistics.median(seconds for seconds, _, _ in turns) / base
        print(f"{name:20s} {cost:5.2f} {turns[0][2]:5d} {ratio:5.2f} {ratio / cost:8.2f}")


def main() -> None:
    """Measures each model."""
    flat: dict[str, Any] = {"data.root": sys.argv[1], "data.name": "lfm2k", "train.validate_every": 1000}
    models, rounds = ["lightgcn", "vbpr"], 7
    for argument in sys.argv[2:]:
        key, _, text = argument.partition("=")
        match key:
            case "models":
                models = text.split(",")
            case "rounds":
                rounds = int(text)
            case _:
                flat[key] = tuple(text.split(",")) if key == "data.modalities" else parse_scalar(text)
    torch.set_num_threads(1)
    for model in models:
        measure(model, flat, rounds)


if __name__ == "__main__":
    main()
