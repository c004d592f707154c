"""Prints what samplers, schedulers and their settings cost on recorded learning curves, to choose defaults by.

Usage: python tests/benchmarks/search_defaults.py MODEL FOLDER [seeds=200] [workers=2,16] [only=TEXT]

FOLDER/MODEL-grid.jsonl is what `cost_to_score.py grid` left there: a validation curve to its early stop for every point
of a grid. Our own searcher and scheduler are run against these curves in simulated time: they propose points of the
ranges of a real sweep, and the nearest point of the grid answers, its epochs one after the other, so many trials at
once. No training, no Ray: 200 searches a line, where real ones would be five. What the simulation cannot show is noise
between trainings at one point, and landscapes finer than the grid.

Per line, over the search seeds:
reached     per cent of the searches that came within 1 % of the grid's best score in TRIALS trials
half, 90 %  gradient evaluations of all trials until then, of half and of nine tenths of the searches ("-": more of
            them never came so far), in per cent of what the grid takes
time        median simulated time until then, in per cent of that of the grid's points one after the other
score       best score when all trials had ended, mean, in per cent of the grid's best
whole       evaluations of whole searches, mean, in per cent of the grid's
"""

import contextlib
import heapq
import itertools
import math
import statistics
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import optuna
from cost_to_score import GRIDS, MAX_EPOCHS, NEAR, read, sweep
from optuna.trial import TrialState

from search import searchers
from search.schedulers import STOP, CellScheduler
from search.spec import SweepSpec, parse, studies

TRIALS = 32
SET_UP = 0.3
"""Seconds between two trials of a worker."""

Sampler = Callable[[int], optuna.samplers.BaseSampler]
SAMPLERS: Mapping[str, Sampler | None] = {
    "random": None,
    "tpe": None,
    "tpe, 5 random first": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5),
    "tpe, univariate": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
    "tpe, running ignored": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=False),
    "tpe, pruned as complete": None,
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
"""What proposes; None where the searcher's own sampler does. Optuna 5's TPE is multivariate and counts running trials
among the bad ones ("constant liar") unless told otherwise. "Pruned as complete" is what Tune's OptunaSearch tells."""

DEFAULT = (5, 3)
SCHEDULERS: Mapping[str, tuple[int, int] | None] = {
    "fifo": None,
    **{
        f"asha, {grace} epochs, 1/{reduction}": (grace, reduction)
        for grace, reduction in ((1, 3), (2, 3), (3, 3), (5, 2), DEFAULT, (5, 4), (10, 2), (10, 3), (10, 4), (20, 3))
    },
}


@dataclass(frozen=True)
class Curves:
    """A grid's learning curves.

    Attributes:
        places: every point's place: its hyperparameters, logarithms where the space's range is logarithmic, each
            scaled to [0, 1] over the grid; one row a point.
        names: the hyperparameters, in the order of the columns.
        steps: gradient evaluations an epoch.
    """

    rows: Sequence[Mapping[str, Any]]
    names: Sequence[str]
    places: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    logarithmic: frozenset[str]

    @property
    def target(self) -> float:
        return max(float(row["score"]) for row in self.rows)

    @property
    def evaluations(self) -> int:
        return sum(row["gradient_evaluations"] for row in self.rows)

    @property
    def seconds(self) -> float:
        return math.fsum(row["seconds"] for row in self.rows)

    def nearest(self, flat: Mapping[str, Any]) -> Mapping[str, Any]:
        """The grid's point that answers for a configuration."""
        place = (_raw([flat], self.names, self.logarithmic) - self.offset) / self.scale
        return self.rows[int(np.abs(self.places - place).sum(axis=1).argmin())]


def _raw(points: Sequence[Mapping[str, Any]], names: Sequence[str], logarithmic: frozenset[str]) -> np.ndarray:
    # A weight of 0 acts like the smallest of a logarithmic range (spaces/models.py).
    return np.array(
        [[math.log10(max(p[name], 1e-6)) if name in logarithmic else p[name] for name in names] for p in points]
    )


def curves(file: Path, spec: SweepSpec) -> Curves:
    """Reads a grid's curves, placed as the sweep's space sees them."""
    rows = read(file)
    (study,) = studies(spec)
    # A hyperparameter of which the file has one value decides nothing here.
    names = [name for name in rows[0]["point"] if len({row["point"][name] for row in rows}) > 1]
    logarithmic = frozenset(name for name in names if getattr(study.space.parameters[name], "log", False))
    raw = _raw([row["point"] for row in rows], names, logarithmic)
    offset, scale = raw.min(axis=0), np.ptp(raw, axis=0)
    return Curves(rows, names, (raw - offset) / scale, offset, scale, logarithmic)


@dataclass
class Replay:
    """One search in simulated time."""

    known: Curves
    spec: SweepSpec
    workers: int

    def run(self) -> dict[str, float | None]:
        """Returns when and after how many evaluations it came near the best, and how it ended."""
        search, mode = self.spec.search, self.spec.goal.mode
        searcher = searchers.CellSearcher(studies(self.spec), search.sampler, search.seeds, mode)
        scheduler = CellScheduler(search.scheduler, self.spec.train.max_epochs, mode)
        order = itertools.count()
        events: list[tuple[float, int, Any, Mapping[str, Any], int]] = []
        spent, best, near, clock = 0, 0.0, None, 0.0

        def begin(now: float) -> None:
            number = next(order)
            config = searcher.suggest(str(number))
            if isinstance(config, dict):
                trial = SimpleNamespace(config=config, trial_id=str(number))
                row = self.known.nearest(config["trial"])
                scheduler.on_trial_add(None, trial)
                heapq.heappush(events, (now + SET_UP + row["seconds"] / row["epochs"], number, trial, row, 1))

        for _ in range(self.workers):
            begin(0.0)
        while events:
            clock, number, trial, row, epoch = heapq.heappop(events)
            passes = row["gradient_evaluations"] // row["epochs"]
            spent += passes
            best = max(best, row["curve"][epoch - 1])
            if near is None and best >= NEAR * self.known.target:
                near = (spent, clock)
            done = epoch == row["epochs"]
            result = {
                "epoch": epoch,
                "score": row["curve"][epoch - 1],
                "best_score": max(row["curve"][:epoch]),
                "validated": True,
                "gradient_evaluations": epoch * passes,
                "status": "finished" if done else "running",
            }
            if done:
                scheduler.on_trial_complete(None, trial, result)
            elif scheduler.on_trial_result(None, trial, result) != STOP:
                searcher.on_trial_result(trial.trial_id, result)
                heapq.heappush(events, (clock + row["seconds"] / row["epochs"], number, trial, row, epoch + 1))
                continue
            else:
                scheduler.on_trial_remove(None, trial)
            searcher.on_trial_complete(trial.trial_id, result)
            begin(clock)
        return {
            "near": None if near is None else near[0] / self.known.evaluations,
            "time": None if near is None else near[1] / self.known.seconds,
            "score": best / self.known.target,
            "whole": spent / self.known.evaluations,
        }


def quantile(values: Sequence[float | None], share: float) -> str:
    """In per cent, those that never came so far at the end; "-" where the quantile is one of them."""
    ordered = sorted(math.inf if value is None else value for value in values)
    value = ordered[math.ceil(share * len(ordered)) - 1]
    return "-" if value == math.inf else f"{100 * value:.1f}"


def variants(only: str) -> list[tuple[str, str]]:
    """Every sampler with the default scheduler and without one, every scheduler with random points and with TPE."""
    default = f"asha, {DEFAULT[0]} epochs, 1/{DEFAULT[1]}"
    pairs = [(sampler, scheduler) for sampler in SAMPLERS for scheduler in ("fifo", default)]
    pairs += [(sampler, scheduler) for sampler in ("random", "tpe") for scheduler in SCHEDULERS]
    return [pair for pair in dict.fromkeys(pairs) if only in ", ".join(pair)]


def main() -> None:
    """Prints a line a variant and number of workers."""
    model, folder, *rest = sys.argv[1:]
    options = {"seeds": "200", "workers": "2,16", "only": ""} | dict(argument.split("=", 1) for argument in rest)
    sections = sweep(model, ".", 0) | {"train": {"max_epochs": MAX_EPOCHS}}
    known = curves(Path(folder) / f"{model}-grid.jsonl", parse(sections, "benchmark"))
    size = math.prod(len(values) for values in GRIDS[model].values())
    print(f"{model}: {len(known.rows)} of the grid's {size} points, best {known.target:.4f}; {TRIALS} trials a search")
    print(f"{'sampler':24s} {'scheduler':20s} workers  reached  half  90 %  time  score  whole")
    for sampler, scheduler in variants(options["only"]):
        for workers in map(int, options["workers"].split(",")):
            found = [once(known, sections, sampler, scheduler, workers, seed) for seed in range(int(options["seeds"]))]
            near = [each["near"] for each in found]
            reached = 100 * sum(value is not None for value in near) / len(near)
            score, whole = (100 * statistics.mean(each[name] or 0.0 for each in found) for name in ("score", "whole"))
            print(
                f"{sampler:24s} {scheduler:20s} {workers:7d}  {reached:7.0f}  {quantile(near, 0.5):>4s}  "
                f"{quantile(near, 0.9):>4s}  {quantile([each['time'] for each in found], 0.5):>4s}  {score:5.1f}  "
                f"{whole:5.1f}",
                flush=True,
            )


def once(
    known: Curves, sections: Mapping[str, Any], sampler: str, scheduler: str, workers: int, seed: int
) -> dict[str, float | None]:
    """One search with one seed."""
    settings = SCHEDULERS[scheduler]
    section: dict[str, str | int] = {"kind": "fifo"}
    if settings is not None:
        section = {"kind": "asha", "grace_epochs": settings[0], "reduction": settings[1]}
    named = "random" if sampler == "random" else "tpe"
    chosen = {"sampler": named, "trials": TRIALS, "seeds": [seed], "scheduler": section}
    replay = Replay(known, parse({**sections, "search": chosen}, "benchmark"), workers)
    make = SAMPLERS[sampler]
    with contextlib.ExitStack() as changed:
        if make is not None:
            # The searcher makes a sampler for every candidate, from a stream of its own.
            own = mock.patch.object(searchers, "_sampler", lambda name, stream: make(zlib.crc32(stream.encode())))
            changed.enter_context(own)
        if sampler == "tpe, pruned as complete":
            changed.enter_context(mock.patch.object(searchers.CellStudy, "end", _end_as_complete))
        return replay.run()


_end = searchers.CellStudy.end


def _end_as_complete(
    study: searchers.CellStudy, candidate: Any, state: TrialState, score: float | None, *, judged: bool = False
) -> None:
    _end(study, candidate, TrialState.COMPLETE if state is TrialState.PRUNED else state, score, judged=judged)


if __name__ == "__main__":
    main()
