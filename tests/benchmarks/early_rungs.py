"""Prints how far early validations are from full ones, what rungs decide on them, and what they save.

Usage: python tests/benchmarks/early_rungs.py DATA_ROOT [models=lightgcn,vbpr] [data=lfm2k] [configurations=16]
           [samples=200] [timed=lfm2k,baby]

Random configurations of the extended space (model and optimizer) are trained for 15 epochs on each data set of `data`;
lfm2k lies below DATA_ROOT, baby is synthetic data of Amazon Baby's size (`RECIPES`), made on the first run. After
epochs 5 and 15 all users are ranked in every precision, and of these ranks the estimates of so many random samples of
users are made as `train.early_validation` makes them. "bf16" is its precision; "bf16 sums" is what PyTorch's own
product of bfloat16 matrices gives, whose sums are rounded, too.

Per model, rung, sample size and precision, of Recall@20:
bias        mean over configurations and samples of estimate - full, in per cent of the mean full score
offset      standard deviation over the samples of that of one sample, which all trials share; per cent, too
error       standard deviation over the configurations of what is left, which is what rungs suffer from; per cent, too
Spearman    rank correlation of estimates and full scores over the configurations; mean over the samples
differ      per cent of configurations that a rung keeps (best third) or stops where on full scores it would not
best lost   per cent of samples on which the rung stops the configuration with the best full score

"CPU ms" are of one validation by `Trainer`, representations included, on each data set of `timed`, with one thread and
the allocator settings of a worker: the least of seven. A last column has those of a training epoch.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from search.cluster import ALLOCATOR
from search.points import planned_points
from search.spec import parse, studies
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.synthetic import RECIPES, synthesize, write_folder
from trainables.errors import Diverged
from trainables.precision import matrix_products
from trainables.seeding import numpy_stream
from trainables.trainer import Trainer

RUNGS = (5, 15)
GOAL = "recall@20"
SIZES: Mapping[str, tuple[int, ...]] = {"lfm2k": (256, 512, 1024), "baby": (512, 1024, 2048, 4096)}
MODALITIES: Mapping[str, tuple[str, ...] | None] = {"lfm2k": ("text", "audio"), "baby": None}
COLUMNS = {
    "users": 6,
    "precision": 10,
    "bias %": 7,
    "offset %": 8,
    "error %": 7,
    "Spearman": 8,
    "differ %": 8,
    "best lost %": 11,
}
PRECISIONS = ("float32", "bf16", "bf16 sums")
HOME = Path(tempfile.gettempdir()) / "recsweep-benchmark"


def bundle(name: str, root: str) -> DataBundle:
    """The data set of that name."""
    folder = Path(root) / name if name == "lfm2k" else HOME / name
    if not folder.exists():
        write_folder(folder, synthesize(RECIPES[name], seed=999))
    flat = {"data.name": name, "data.root": str(folder.parent), "data.modalities": MODALITIES[name]}
    return load(TrialConfig.from_flat(flat).data, cache=HOME / "graphs")


def configurations(name: str, model: str, number: int) -> list[dict[str, Any]]:
    """Flat configurations at random points of the extended space."""
    raw = {
        "name": "rungs",
        "data": {"names": [name], "root": "/"},
        "axes": {"model": [model], "update": ["descent"]},
        "space": {"preset": "extended", "tune": ["model", "optimizer"]},
        "search": {"trials": number},
        "train": {"max_epochs": max(RUNGS) + 1, "validate_every": max(RUNGS) + 1},
    }
    (study,) = studies(parse(raw))
    points = planned_points(study, "random", 999)
    assert points is not None
    return [study.config(point, 999) for point in points]


def recalls(trainer: Trainer) -> np.ndarray:
    """Recall@20 of every user in every precision: [precisions, users]."""
    with torch.no_grad():
        hidden = trainer.model.eval().extract(trainer.model.fuse())
        scorer = trainer.model.scorer(hidden)
        users, items = hidden.users.bfloat16(), hidden.items.bfloat16().T
        rank = trainer.evaluator.per_user
        exact = rank(scorer, trainer.device)[GOAL]
        with matrix_products("bf16"):
            rounded = rank(scorer, trainer.device)[GOAL]
        return np.stack([exact, rounded, rank(lambda some: (users[some] @ items).float(), trainer.device)[GOAL]])


def train(config: TrialConfig, data: DataBundle) -> dict[int, np.ndarray]:
    """By rung, what `recalls` finds; nothing from where the training diverged on."""
    trainer, found = Trainer(config, data), {}
    try:
        for epoch in range(1, max(RUNGS) + 1):
            trainer.run_epoch()
            if epoch in RUNGS:
                found[epoch] = recalls(trainer)
    except Diverged:
        pass
    return found


def kept(scores: np.ndarray) -> np.ndarray:
    """Which configurations are among the best third: bool [configurations]."""
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.argsort(-scores, kind="stable")[: -(-len(scores) // 3)]] = True
    return chosen


def figures(full: np.ndarray, estimates: np.ndarray) -> list[float]:
    """The columns of a line from full scores [configurations] and estimates [samples, configurations]."""
    errors = 100 * (estimates - full) / full.mean()
    shared = errors.mean(axis=1, keepdims=True)
    ranks = [spearmanr(row, full).statistic for row in estimates]
    decisions = np.stack([kept(row) for row in estimates])
    lost = ~decisions[:, np.argmax(full)]
    spread = shared.std(ddof=1) if len(estimates) > 1 else 0.0
    noise = np.sqrt((errors - shared).var(axis=1, ddof=1).mean())
    differ = decisions != kept(full)
    return [errors.mean(), spread, noise, np.mean(ranks), 100 * differ.mean(), 100 * lost.mean()]


def print_bias(name: str, data: DataBundle, model: str, number: int, samples: int) -> None:
    """Trains the configurations and prints a line per rung, sample size and precision."""
    flats = configurations(name, model, number)
    found = [train(TrialConfig.from_flat(flat), data) for flat in flats]
    for rung in RUNGS:
        values = np.stack([each[rung] for each in found if rung in each])  # [configurations, precisions, users]
        users = values.shape[2]
        full = values[:, 0].mean(axis=1)
        span = f"{GOAL} {full.min():.4f} to {full.max():.4f}"
        print(f"\n{name}, {model}, epoch {rung}: {len(values)} configurations, {span}")
        print(" ".join(f"{heading:>{width}s}" for heading, width in COLUMNS.items()))
        for size, (place, precision) in itertools.product((*SIZES[name], users), enumerate(PRECISIONS)):
            if size == users and precision == "float32":
                continue
            drawn = [numpy_stream(seed, "early users").permutation(users)[:size] for seed in range(samples)]
            estimates = np.stack([values[:, place][:, sample].mean(axis=1) for sample in drawn])
            row = figures(full, estimates if size < users else estimates[:1])
            cells = zip((f"{size:d}", precision, *map("{:.2f}".format, row)), COLUMNS.values(), strict=True)
            print(" ".join(f"{cell:>{width}s}" for cell, width in cells), flush=True)


def cpu_ms(task: Callable[[], Any], times: int) -> float:
    """The least CPU milliseconds of the task, after one more."""
    spent = []
    for _ in range(times + 1):
        start = time.process_time()
        task()
        spent.append(1000 * (time.process_time() - start))
    return min(spent[1:])


def print_seconds(name: str, data: DataBundle, models: Sequence[str]) -> None:
    """Prints what each kind of validation costs each model."""
    print(f"\nCPU ms of a validation, {name}")
    print(f"{'users':>6s} {'precision':>10s} " + " ".join(f"{model:>9s}" for model in models))
    trainers = [Trainer(TrialConfig.from_flat({"data.name": name, "model.name": model}), data) for model in models]
    users = len(trainers[0].evaluator.users)
    for size, precision in itertools.product((*SIZES[name], users), PRECISIONS[:2]):
        spent = []
        for trainer in trainers:
            evaluator = trainer.evaluator.of_some(size, numpy_stream(999, "early users"))
            rounded = precision == "bf16"
            spent.append(cpu_ms(lambda t=trainer, e=evaluator, r=rounded: t.evaluate(e, rounded=r), 7))  # type: ignore[misc]
        print(f"{size:6d} {precision:>10s} " + " ".join(f"{each:9.1f}" for each in spent), flush=True)
    epochs = [cpu_ms(lambda t=trainer: t._train_epoch(1), 2) for trainer in trainers]  # type: ignore[misc]
    print(f"{'training epoch':>17s} " + " ".join(f"{each:9.1f}" for each in epochs), flush=True)


def main() -> None:
    """Prints the tables."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    root, *rest = sys.argv[1:]
    given = {
        "models": "lightgcn,vbpr",
        "data": "lfm2k",
        "configurations": "16",
        "samples": "200",
        "timed": "lfm2k,baby",
    }
    given |= dict(argument.split("=", 1) for argument in rest)
    models = given["models"].split(",")
    torch.set_num_threads(1)
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    print(f"torch {torch.__version__}, one thread, bfloat16 products in hardware: {bf16}")
    for name in filter(None, given["timed"].split(",")):
        print_seconds(name, bundle(name, root), models)
    for name, model in itertools.product(filter(None, given["data"].split(",")), models):
        print_bias(name, bundle(name, root), model, int(given["configurations"]), int(given["samples"]))


if __name__ == "__main__":
    main()
