"""Prints how fast the store takes rows and answers queries at a million metric rows and more, beside other ways.

Usage: python tests/benchmarks/store_scale.py [rows=1000000] [sweeps=4] [repeats=5]

A made-up history: each trial has 50 epochs of 18 metrics in one of eight cells. Goals: 200,000 rows a second appended;
`best` in 100 ms at 1e6 rows and in 300 ms at 1e7, compacted; 1 GB of memory. Each line of the table is measured in a
process of its own, whose peak memory (`ru_maxrss`) is the line's. Times are medians of calls after one that does not
count, each in a store that is opened anew, whose files the system has in memory by then; beside the time on the clock
stands the processors' (of all threads), which other work on the machine does not lengthen as much. Beside the store:
the same answer by pandas from the same Parquet files, and from Ray Tune's own `result.json`, a line an epoch in a
folder a trial. Needs some 40 MB of disk a million rows for those, and removes all at the end.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.query import named_queries, run_query
from search.schema import TABLES
from search.store import Store
from search.writer import PART_ROWS

EPOCHS = 50
METRICS = tuple(f"{name}@{k}" for name in ("recall", "ndcg", "precision", "map") for k in (5, 10, 20, 50))
NAMES = [*(("valid", name) for name in METRICS), ("train", "loss"), ("train", "loss/bpr")]
CELLS = [
    ("lfm2k", model, update) for model in ("vbpr", "lightgcn") for update in ("descent", "sam", "bsam", "bsam_plus")
]
START = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = {"rows": 1_000_000, "sweeps": 4, "repeats": 5}


def history(rows: int, sweeps: int) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """(table, rows) of every trial, in the order in which a driver would bring them."""
    rng = np.random.default_rng(0)
    trials = max(sweeps, rows // (EPOCHS * len(NAMES)))
    for sweep in range(sweeps):
        start = {"sweep": f"s{sweep}", "digest": "d", "spec_json": "{}", "started": START + timedelta(days=sweep)}
        yield "sweeps", [start]
    for number in range(trials):
        sweep, (dataset, model, update) = f"s{number % sweeps}", CELLS[number // sweeps % len(CELLS)]
        name, moment = f"{model}-{update}-{number:08x}", START + timedelta(seconds=number)
        scores = np.sort(rng.uniform(0.1, 0.4, EPOCHS))
        point = {"update.rho": float(rng.uniform()), "optimizer.learning_rate": float(rng.uniform()), "seed": 999}
        common = {"sweep": sweep, "trial": name, "attempt": 1}
        yield (
            "metrics",
            [
                {
                    **common,
                    **{"epoch": epoch, "split": split, "metric": metric, "value": float(scores[epoch - 1])},
                    **{
                        "gradient_evaluations": 100 * epoch,
                        "train_seconds": 2.0 * epoch,
                        "device_seconds": 2.1 * epoch,
                    },
                }
                for epoch in range(1, EPOCHS + 1)
                for split, metric in NAMES
            ],
        )
        yield (
            "params",
            [
                {"sweep": sweep, "trial": name, "name": key, "number": float(value), "tuned": key != "seed"}
                for key, value in point.items()
            ],
        )
        yield (
            "trials",
            [
                {
                    **common,
                    **{"cell": f"{dataset}/{model}/plain/{update}/adam", "dataset": dataset, "model": model},
                    **{"objective": "plain", "update": update, "optimizer": "adam", "seed": 999, "status": "finished"},
                    **{"config_json": json.dumps(point), "metric": "recall@20", "mode": "max", "epochs": EPOCHS},
                    **{"best_score": float(scores[-1]), "best_epoch": EPOCHS, "gradient_evaluations": 100 * EPOCHS},
                    **{"device_seconds": 105.0, "train_seconds": 100.0, "started": moment, "ended": moment},
                }
            ],
        )


def fill(store: Store, rows: int, sweeps: int) -> dict[str, float]:
    """Writes the history in parts as a driver does; the rows of all tables, and what appending them took in seconds."""
    pending: dict[str, list[dict[str, object]]] = {}
    took = {"rows": 0.0, "seconds": 0.0, "cpu_seconds": 0.0}

    def flush(table: str) -> None:
        start, busy = time.perf_counter(), time.process_time()
        store.append(table, pending[table])
        took["seconds"] += time.perf_counter() - start
        took["cpu_seconds"] += time.process_time() - busy
        took["rows"] += len(pending.pop(table))

    for table, found in history(rows, sweeps):
        pending.setdefault(table, []).extend(found)
        if len(pending[table]) >= PART_ROWS:
            flush(table)
    for table in list(pending):
        flush(table)
    return took


def write_results(folder: Path, rows: int, sweeps: int) -> None:
    """The metrics as Ray Tune's own logger writes them."""
    for table, found in history(rows, sweeps):
        if table == "metrics":
            place = folder / str(found[0]["sweep"]) / str(found[0]["trial"])
            place.mkdir(parents=True)
            lines: dict[object, dict[str, object]] = {}
            for row in found:
                line = lines.setdefault(row["epoch"], {"epoch": row["epoch"], "config": {"trial": row["trial"]}})
                line[str(row["metric"])] = row["value"]
            (place / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines.values()))


def timed(repeats: int, function: Callable[[], Any]) -> dict[str, float]:
    """Median milliseconds of a call on the clock and of the processors, after one that does not count."""
    clock, processors = [], []
    for _ in range(repeats + 1):
        start, busy = time.perf_counter(), time.process_time()
        function()
        clock.append(time.perf_counter() - start)
        processors.append(time.process_time() - busy)
    return {"ms": 1000 * statistics.median(clock[1:]), "cpu_ms": 1000 * statistics.median(processors[1:])}


def ask(root: str, name: str) -> None:
    """One named query in a store that is opened for it."""
    run_query(Store(root), named_queries()[name].sql, {"sweep": "s1"}, sweep="s1")


def best_by_pandas(root: Path) -> None:
    """The best trial of each cell, from the Parquet files of the metrics and the trials."""
    metrics = pd.concat(pd.read_parquet(part) for part in (root / "metrics").glob("*.parquet"))
    trials = pd.concat(pd.read_parquet(part) for part in (root / "trials").glob("*.parquet"))
    chosen = metrics[(metrics["sweep"] == "s1") & (metrics["split"] == "valid") & (metrics["metric"] == "recall@20")]
    best = chosen.groupby("trial")["value"].max().rename("best").reset_index().merge(trials, on="trial")
    best.loc[best.groupby("cell")["best"].idxmax()]


def best_by_results(folder: Path) -> None:
    """The best trial of each cell, from the lines of `result.json`."""
    best: dict[str, float] = {}
    for path in (folder / "s1").glob("*/result.json"):
        with path.open() as lines:
            score = max(json.loads(line)["recall@20"] for line in lines)
        cell = path.parent.name.rpartition("-")[0]
        best[cell] = max(score, best.get(cell, 0.0))


def compact(root: str) -> dict[str, float]:
    """Merges all parts of all tables."""
    start, busy = time.perf_counter(), time.process_time()
    merged = sum(Store(root).compact(table, largest_bytes=2**40) for table in TABLES)
    return {"parts": merged, "ms": 1000 * (time.perf_counter() - start), "cpu_ms": 1000 * (time.process_time() - busy)}


def work(task: str, folder: str, rows: int, sweeps: int, repeats: int) -> dict[str, float]:
    """What one task measures."""
    root, results = f"{folder}/store", Path(folder) / "results"
    if task == "append":
        return fill(Store(root, create=True), rows, sweeps)
    if task == "compact":
        return compact(root)
    if task == "pandas":
        return timed(min(2, repeats), lambda: best_by_pandas(Path(root)))
    if task == "write_results":
        write_results(results, rows, sweeps)
        return {}
    if task == "results":
        return timed(min(2, repeats), lambda: best_by_results(results))
    return timed(repeats, lambda: ask(root, task))


def measured(task: str, folder: str, sizes: dict[str, int]) -> dict[str, float]:
    """What one task measures in a process of its own, with the process's peak memory in GB."""
    arguments = [f"{key}={value}" for key, value in {**sizes, "task": task, "folder": folder}.items()]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def line(title: str, *found: dict[str, float]) -> None:
    """Prints one line of the table: milliseconds on the clock, of the processors, and peak memory, for each column."""
    cells = (f"{each['ms']:10,.0f} {each['cpu_ms']:9,.0f} {each['peak']:8.2f}" for each in found)
    print(f"{title:40s} {'  '.join(cells)}", flush=True)


def main() -> None:
    """Prints the table, or in a child process what one task measured."""
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    sizes = {key: int(given.get(key, default)) for key, default in SIZES.items()}
    if "task" in given:
        found = work(given["task"], given["folder"], **sizes)
        print(json.dumps(found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
        return
    with tempfile.TemporaryDirectory(prefix="recsweep-scale-") as folder:

        def child(task: str) -> dict[str, float]:
            return measured(task, folder, sizes)

        shown = {"best": "best per cell", "curves": "curves of a sweep", "cost": "cost per cell"}
        filled = child("append")
        rate, cpu_rate = (filled["rows"] / filled[name] for name in ("seconds", "cpu_seconds"))
        print(f"{filled['rows']:,.0f} rows appended, parts of {PART_ROWS:,}: {rate:,.0f} rows a second,", end=" ")
        print(f"{cpu_rate:,.0f} a second of a processor, peak memory {filled['peak']:.2f} GB", flush=True)
        as_parts = {name: child(name) for name in shown}
        pandas = child("pandas")
        merged = child("compact")
        compacted = {name: child(name) for name in shown}
        child("write_results")
        heads = f"{'ms':>10s} {'CPU ms':>9s} {'peak GB':>8s}"
        print(f"\n{'':40s} {'as parts':>29s}  {'compacted':>29s}\n{'':40s} {heads}  {heads}")
        for name, title in shown.items():
            line(title, as_parts[name], compacted[name])
        line("best per cell, pandas.read_parquet", pandas)
        line("best per cell, Ray's result.json", child("results"))
        line(f"compaction of {merged['parts']:,} parts", merged)


if __name__ == "__main__":
    main()
