"""Prints what training takes on a data set of a million users and 300,000 items: seconds and memory at the peak.

Usage: python tests/benchmarks/train_scale.py FOLDER [users=1000000] [items=300000] [interactions=10000000]
           [models=lightgcn,freedom] [batch=65536] [steps=6] [sample=4096]

The data set is made in FOLDER by `recsweep data synthesize` on the first run (features 64 columns wide, image and
text), graphs are built beside it. Every part runs in a process of its own, with one thread: "make" is the synthesis,
"graphs" loads the data and builds a model for the first time, and a model's own line loads it again, takes `steps`
steps of `batch` positives with Adam, and ranks all items for a sample of users, as `train.early_validation` does. The
peak is the process's largest resident memory; files that it maps count where they are in memory. Goal: 16 GB.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from search.cluster import ALLOCATOR
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.trainer import Rehearsal, Trainer

NAME = "large"


def train(argument: str) -> None:
    """Trains and prints what it took as JSON."""
    wanted = json.loads(argument)
    torch.set_num_threads(1)
    clock = time.perf_counter()
    folder = Path(wanted["folder"])
    config = TrialConfig.from_flat(
        {
            "data.name": NAME,
            "data.root": str(folder),
            "model.name": wanted["model"],
            "train.batch_size": wanted["batch"],
            "train.max_epochs": 2,
            "train.early_validation": {"epochs": 1, "users": wanted["sample"]},
        }
    )
    bundle = load(config.data, cache=folder / "graphs")
    loaded = time.perf_counter() - clock
    clock = time.perf_counter()
    trainer = Trainer(config, bundle)
    spent: dict[str, Any] = {"load": loaded, "build": time.perf_counter() - clock}
    if wanted["steps"]:
        spent |= trainer.rehearse(wanted["steps"])._asdict()
    weights = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    print(json.dumps(spent | {"weights": weights, "peak": peak(resource.RUSAGE_SELF)}))


def peak(who: int) -> float:
    """Gigabytes of resident memory at most."""
    return resource.getrusage(who).ru_maxrss * 1024 / 1e9


def in_process(model: str, folder: Path, options: dict[str, Any], steps: int) -> dict[str, Any]:
    """What the training of a model took, in a process of its own with a worker's settings."""
    numbers = {name: int(options[name]) for name in ("batch", "sample")}
    argument = json.dumps({"model": model, "folder": str(folder), "steps": steps} | numbers)
    command = [sys.executable, __file__, "once", argument]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **threads, **ALLOCATOR}
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def make(folder: Path, options: dict[str, Any]) -> None:
    """Makes the data set, and prints what that took."""
    sizes = [f"--{name}={options[name]}" for name in ("users", "items", "interactions")]
    code = "import sys; from search.cli import main; main(sys.argv[1:])"
    command = ["data", "synthesize", str(folder / NAME), *sizes, "--image-width=64", "--text-width=64"]
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *command], check=True)
    print(f"make: {time.perf_counter() - clock:.0f} s, {peak(resource.RUSAGE_CHILDREN):.2f} GB", flush=True)


def main() -> None:
    """Prints a line a part."""
    if sys.argv[1] == "once":
        train(sys.argv[2])
        return
    folder = Path(sys.argv[1]).resolve()
    known = {"users": 1_000_000, "items": 300_000, "interactions": 10_000_000}
    options = known | {"models": "lightgcn,freedom", "batch": 65_536, "steps": 6, "sample": 4096}
    options |= dict(argument.split("=", 1) for argument in sys.argv[2:])
    if not (folder / NAME).exists():
        make(folder, options)
    for model in options["models"].split(","):
        first = in_process(model, folder, options, 0)
        built, used = first["load"] + first["build"], first["peak"]
        print(f"{model}: first built in {built:.0f} s, graphs included, {used:.2f} GB", flush=True)
        took = in_process(model, folder, options, int(options["steps"]))
        step, validation, estimate = (took[name] for name in Rehearsal._fields)
        print(
            f"{model}: {took['weights'] / 1e6:.0f} million weights; loaded and built in "
            f"{took['load'] + took['build']:.0f} s; a step of {options['batch']} {step:.2f} s; a validation "
            f"{validation:.0f} s, of {options['sample']} users {estimate:.1f} s; {took['peak']:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
