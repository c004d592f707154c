"""Prints what a grid's best validation score costs: the grid as the field runs it against `recsweep launch`.

Usage: python tests/benchmarks/cost_to_score.py grid MODEL DATA_ROOT FOLDER [share=1/2]
       python tests/benchmarks/cost_to_score.py search MODEL DATA_ROOT FOLDER [seeds=999,1,2,3,4] [until=best] [K=V ...]

MODEL is lightgcn or freedom, on lfm2k below DATA_ROOT. `grid` trains every point of a grid (the published one times
learning rates) to its own early stop, one after the other in one process with one thread, validating every epoch. It
trains with our own trainer, so that what differs is the search alone, and never touches the test split, where MMRec
would also rank it every epoch. Results go to FOLDER/MODEL-grid.jsonl as they come; called again, it goes on. With
`share=1/2` beside `share=2/2` two processes train half of it each, which changes no number but the waiting.

`search` runs TPE and ASHA over ranges that contain the grid, from a fresh process, on all cores, and stops when a trial
has reached the grid's best score; it prints seconds and gradient evaluations from the start of that process (imports
and Ray included) to that moment, and to the moment when a trial came within 1 % of that score: the best of a grid's
points owes something to luck. With `until=near` it ends there. K=V change the sweep. Its seconds are those of a clock,
the grid's those of the CPU, which a busy machine leaves alone.
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

MODALITIES = ("text", "audio")
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "lightgcn": {
        "model.num_layers": (1, 2, 3, 4),
        "model.reg_weight": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        "optimizer.learning_rate": (5e-4, 1e-3, 5e-3),
    },
    # Slower rates (5e-4 takes 7 minutes a point) would only make the grid dearer.
    "freedom": {
        "model.reg_weight": (0.0, 1e-3, 1e-4, 1e-5),
        "optimizer.learning_rate": (1e-3, 2e-3, 5e-3, 1e-2),
        "model.dropout": (0.8, 0.9),
        "model.num_item_layers": (1, 2),
    },
}
NARROW: dict[str, dict[str, Any]] = {
    "lightgcn": {},
    "freedom": {"model.num_item_layers": {"kind": "int", "low": 1, "high": 2}},
}
"""Hyperparameters of the grid that the preset's ranges lack."""

TRIALS = 81
NEAR = 0.99
MAX_EPOCHS = 1000


def grid(model: str, root: str, folder: Path, share: str) -> None:
    """Trains the points of its share ("2/3": the second of three) that FOLDER does not know yet."""
    from trainables.config import TrialConfig
    from trainables.data.catalog import load
    from trainables.trainer import Trainer

    torch.set_num_threads(1)
    file = folder / f"{model}-grid.jsonl"
    known = [row["point"] for row in read(file)]
    names, values = zip(*GRIDS[model].items(), strict=True)
    part, parts = map(int, share.split("/"))
    for numbers in itertools.islice(itertools.product(*values), part - 1, None, parts):
        point = dict(zip(names, numbers, strict=True))
        if point in known:
            continue
        flat = {"data.name": "lfm2k", "data.root": root, "data.modalities": MODALITIES, "model.name": model}
        config = TrialConfig.from_flat(flat | point | {"train.max_epochs": MAX_EPOCHS})
        began = time.process_time()
        trainer = Trainer(config, load(config.data, cache=folder / "graphs"))
        curve: list[float] = []
        done = False
        while not done:
            report = trainer.run_epoch()
            done = report.done
            curve.append((report.validation or {})[config.train.metric])
        progress = trainer.progress
        row = {"point": point, "score": progress.best_score, "epochs": progress.epoch, "curve": curve}
        row |= {"seconds": time.process_time() - began, "gradient_evaluations": progress.gradient_evaluations}
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(f"{row['score']:.4f} {row['epochs']:4d} epochs {row['seconds']:6.1f} s {point}", flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    """The grid's points so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sweep(model: str, root: str, seed: int) -> dict[str, Any]:
    """The sweep that is held against the grid."""
    return {
        "name": f"{model}-{seed}",
        "data": {"names": ["lfm2k"], "root": root, "modalities": list(MODALITIES)},
        "axes": {"model": [model], "update": ["descent"]},
        "space": {"tune": ["model", "optimizer"], "narrow": NARROW[model]},
        "search": {"sampler": "tpe", "trials": TRIALS, "seeds": [seed], "scheduler": {"kind": "asha"}},
        "train": {"max_epochs": MAX_EPOCHS},
    }


def search_once(target: float, until: str, began: float, sections: Mapping[str, Any], changes: list[str]) -> None:
    """Runs one sweep until a trial has reached the target or come near it, and prints what that took as JSON."""
    from search import driver
    from search.control import request_stop
    from search.overrides import apply
    from search.recorder import TrialRecord
    from search.spec import SweepSpec, parse
    from search.store import Store

    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="recsweep-cost-") as folder:
        store = Store(Path(folder) / "store", create=True)
        spec = parse(apply(sections, changes, SweepSpec)[0], "benchmark")

        def changed(records: Mapping[str, TrialRecord]) -> None:
            best = max(record.result.get("best_score") or 0.0 for record in records.values())
            spent = {
                name: sum(record.result.get(name, 0) for record in records.values())
                for name in ("epoch", "gradient_evaluations")
            }
            for name, goal in (("near", NEAR * target), ("best", target)):
                if best >= goal and name not in found:
                    found[name] = {"score": best, "seconds": time.time() - began, "trials": len(records)} | spent
            if until in found:
                request_stop(store, spec.name)

        outcome = driver.run(spec, store, hooks=driver.Hooks(on_change=changed))
        trials = store.trials()
    passes = int(trials["gradient_evaluations"].sum())
    whole = {"score": trials["best_score"].max(), "seconds": outcome.seconds, "trials": len(trials)}
    print(json.dumps(found | {"whole": whole | {"epoch": int(trials["epochs"].sum()), "gradient_evaluations": passes}}))


def search(model: str, root: str, folder: Path, seeds: list[int], until: str, changes: list[str]) -> None:
    """Prints a line a search seed, and the ratios."""
    rows = read(folder / f"{model}-grid.jsonl")
    points = 1
    for values in GRIDS[model].values():
        points *= len(values)
    if len(rows) < points:
        print(f"only {len(rows)} of the grid's {points} points are known: what follows is against these")
    target = max(row["score"] for row in rows)
    seconds, passes = (sum(row[name] for row in rows) for name in ("seconds", "gradient_evaluations"))
    epochs = sum(row["epochs"] for row in rows)
    print(f"grid of {len(rows)}: best {target:.4f}, {seconds:,.0f} s, {epochs:,} epochs, {passes:,} evaluations")
    print(" seed                score  seconds  trials  epochs  evaluations  times seconds  times evaluations")
    ratios: dict[str, list[tuple[float, float]]] = {"near": [], "best": []}
    for seed in seeds:
        argument = json.dumps([target, until, time.time(), sweep(model, root, seed), changes])
        done = subprocess.run(
            [sys.executable, __file__, "once", argument], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        for name, label in (("near", "within 1 %"), ("best", "its best")):
            if until == "near" and name == "best":
                continue
            at = found.get(name, found["whole"])
            times = seconds / at["seconds"], passes / at["gradient_evaluations"]
            if name in found:
                ratios[name].append(times)
            print(
                f"{seed:5d}  {'' if name in found else 'not '}{label:10s}  {at['score']:.4f}  {at['seconds']:7.1f}  "
                f"{at['trials']:6d}  {at['epoch']:6d}  {at['gradient_evaluations']:11,d}  "
                f"{times[0]:13.1f}  {times[1]:17.1f}",
                flush=True,
            )
    for name, label in (("near", "to within 1 %"), ("best", "to its best")):
        if ratios[name]:
            shown = [statistics.median(column) for column in zip(*ratios[name], strict=True)]
            reached = f"{label} in {len(ratios[name])} of {len(seeds)} searches; median of these"
            print(f"{reached}: {shown[0]:.1f} times less wall time, {shown[1]:.1f} times fewer evaluations")


def main() -> None:
    """Runs what the command line asks for."""
    if sys.argv[1] == "once":
        search_once(*json.loads(sys.argv[2]))
        return
    action, model, root, folder, *rest = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    if action == "grid":
        share = rest[0].removeprefix("share=") if rest else "1/1"
        grid(model, str(Path(root).resolve()), Path(folder), share)
        return
    options = {"seeds": "999,1,2,3,4", "until": "best"}
    options |= dict(argument.split("=", 1) for argument in rest if argument.split("=")[0] in options)
    changes = [argument for argument in rest if argument.split("=")[0] not in options]
    seeds = [int(seed) for seed in options["seeds"].split(",")]
    search(model, str(Path(root).resolve()), Path(folder), seeds, options["until"], changes)


if __name__ == "__main__":
    main()
