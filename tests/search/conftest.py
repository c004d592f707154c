"""A real result store with made-up sweeps in it, for the tests that read results rather than produce them."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.names import trial_name
from search.spec import parse, studies
from search.store import Store
from search.study_spec import StudySpec
from spaces.params import Value

START = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


class RandomPoints:
    """A Suggester that draws like random search."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))) if log else self.rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self.rng.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Value | None]) -> Value | None:
        return choices[int(self.rng.integers(len(choices)))]


class SweepWriter:
    """Writes one sweep into a store, trial by trial, as a driver would; clock and costs are made up."""

    def __init__(self, root: Path, raw: Mapping[str, object], **changes: object) -> None:
        """`changes` replace sections of the stored specification without a check, for what no file could say."""
        self._store = Store(root, create=True)
        self._pending: dict[str, list[Mapping[str, object]]] = {}
        self.spec: dict[str, Any] = {**parse(raw).model_dump(mode="json"), **changes}
        self.name = str(self.spec["name"])
        self.studies: dict[str, StudySpec] = {each.cell: each for each in studies(parse(raw))}
        self.clock = START
        self.rng = np.random.default_rng(7)
        self.written: set[str] = set()
        self.candidates = Counter[str]()
        self.add("sweeps", [self._start()])

    @property
    def store(self) -> Store:
        """The store, with all rows of this sweep so far in it."""
        self.flush()
        return self._store

    def flush(self) -> None:
        """Write what was added: a part per table and not per row, which would take minutes to read."""
        for table, rows in self._pending.items():
            self._store.append(table, rows)
        self._pending = {}

    def add(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows as they are."""
        self._pending.setdefault(table, []).extend(rows)

    def trial(
        self,
        cell: str,
        score: float | None,
        *,
        status: str = "finished",
        seed: int = 999,
        point: Mapping[str, Value] | None = None,
        epochs: int = 30,
        passes: int = 100,
        **columns: object,
    ) -> str:
        """Write a trial with its parameters and, where it has a score, its learning curve; return its name."""
        study = self.studies[cell]
        drawn = study.space.suggest(RandomPoints(self.rng))
        config = study.config({**drawn, **(point or {})}, seed)
        name = str(columns.pop("trial", trial_name(config)))
        assert name not in self.written, f"the trial {name} is already in the sweep"
        self.written.add(name)
        started, seconds = self.clock, 0.02 * passes * epochs
        self.clock += timedelta(seconds=seconds + 1)
        row: dict[str, object] = {
            **{"sweep": self.name, "trial": name, "attempt": 0, "cell": cell, "dataset": study.dataset},
            **{"candidate": self.candidates[cell]},
            **{"model": study.model, "objective": study.objective, "update": study.update},
            **{"optimizer": study.optimizer, "data_digest": f"digest of {study.dataset}", "seed": seed},
            **{"status": status, "config_json": json.dumps(config), "metric": self.spec["goal"]["metric"]},
            **{"mode": self.spec["goal"]["mode"], "best_score": score, "epochs": epochs},
            **{"best_epoch": None if score is None else max(1, epochs - 5)},
            **{"gradient_evaluations": passes * epochs, "device_seconds": seconds, "train_seconds": 0.9 * seconds},
            **{"device": "NVIDIA H200", "worker": "trainer-1:4711", "started": started, "ended": self.clock},
            **columns,
        }
        self.candidates[cell] += 1
        self.add("trials", [row])
        self._add_params(study, name, {key: config[key] for key in study.space.parameters})  # type: ignore[misc]
        if score is not None and np.isfinite(score):
            self._add_curve(name, score, epochs, passes)
        return name

    def sample(self, cell: str, trials: int, quality: Callable[[Mapping[str, Value]], float], passes: int) -> None:
        """Write finished trials at random points, scored by `quality` plus the luck of a seed."""
        for _ in range(trials):
            point = self.studies[cell].space.suggest(RandomPoints(self.rng))
            score = quality(point) + 0.003 * self.rng.normal()
            self.trial(cell, float(score), point=point, epochs=int(self.rng.integers(18, 60)), passes=passes)

    def confirm(self, trial: str, score: float) -> None:
        """Write five retrainings of a trial's configuration, somewhat worse than `score`, on both splits."""
        common = {"sweep": self.name, "trial": trial, "metric": self.spec["goal"]["metric"], "candidates": 180}
        for split, loss in (("valid", 0.006), ("test", 0.011)):
            unsealed = self.clock if split == "test" else None
            values = {seed: score - loss + 0.001 * (seed % 3) for seed in range(1000, 1005)}
            rows = [
                {**common, "seed": seed, "split": split, "value": value, "unsealed": unsealed, "host": "trainer-1"}
                for seed, value in values.items()
            ]
            self.add("confirmations", rows)

    def _start(self) -> dict[str, object]:
        return {
            "sweep": self.name,
            "digest": "5f" * 32,
            "spec_json": json.dumps(self.spec),
            "started": START,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": False,
            "versions_json": json.dumps({"python": "3.11.9", "torch": "2.9.0", "ray": "2.60.0"}),
            "data_json": json.dumps({name: {f"{name}.inter": "ab" * 32} for name in self.spec["data"]["names"]}),
            "host": "trainer-1",
        }

    def _add_params(self, study: StudySpec, trial: str, values: Mapping[str, Value]) -> None:
        tuned = study.space.tuned()
        rows: list[dict[str, object]] = []
        for name, value in values.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            row = {"sweep": self.name, "trial": trial, "name": name, "tuned": name in tuned}
            rows.append(
                {**row, "number": float(value) if is_number else None, "text": None if is_number else str(value)}
            )
        self.add("params", rows)

    def _add_curve(self, trial: str, score: float, epochs: int, passes: int) -> None:
        best = max(1, epochs - 5)
        rows: list[dict[str, object]] = []
        for epoch in range(1, epochs + 1):
            progress = (1 - np.exp(-4 * epoch / best)) / (1 - np.exp(-4))
            value = score * progress - 0.02 * abs(epoch - best) / best * abs(score)
            row = {
                "sweep": self.name,
                "trial": trial,
                "attempt": 0,
                "epoch": epoch,
                "gradient_evaluations": passes * epoch,
            }
            row |= {"device_seconds": 0.02 * passes * epoch, "train_seconds": 0.018 * passes * epoch}
            rows.append({**row, "split": "valid", "metric": self.spec["goal"]["metric"], "value": float(value)})
            rows.append({**row, "split": "valid", "metric": "ndcg@50", "value": 0.98765})
            rows.append({**row, "split": "train", "metric": "loss", "value": 1 / epoch})
        self.add("metrics", rows)


def start_sweep(root: Path, stored: Mapping[str, object] | None = None, **sections: object) -> SweepWriter:
    """Return a writer of a small sweep; `sections` replace those of its file, `stored` those that the store gets."""
    raw: dict[str, object] = {
        "name": "sample",
        "data": {"names": ["lfm2k"], "root": "/data"},
        "axes": {"model": ["vbpr"], "update": ["descent", "sam"]},
        "space": {"preset": "extended", "tune": ["update", "optimizer"]},
        "search": {"sampler": "random", "trials": 16, "seeds": [999]},
        "train": {"max_epochs": 200, "patience": 10, "batch_size": 1024},
        **sections,
    }
    return SweepWriter(root, raw, **(stored or {}))


@pytest.fixture
def new_sweep(tmp_path: Path) -> Callable[..., SweepWriter]:
    """Return `start_sweep` for this test's own store."""
    return partial(start_sweep, tmp_path / "store")


def quality(point: Mapping[str, Value], lift: float = 0.0) -> float:
    """Return a score that is best at a learning rate of 2e-3 and, where there is one, a radius of 0.4."""
    rate, radius = float(point["optimizer.learning_rate"]), float(point.get("update.rho", 0.0))
    gain = 0.03 * np.exp(-(np.log(radius / 0.4) ** 2)) if radius else 0.0
    return float(0.31 - 0.012 * np.log(rate / 2e-3) ** 2 + gain + lift)


@pytest.fixture(scope="session")
def full_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepWriter:
    """Return a sweep with every kind of ending, to be read only: ten cells, 222 trials, confirmations of the best."""
    writer = start_sweep(
        tmp_path_factory.mktemp("full"),
        name="mg-sam-bsam",
        axes={"model": ["vbpr", "freedom"], "update": ["descent", "mirror_gradient", "sam", "bsam", "bsam_plus"]},
        search={"sampler": "random", "trials": 24, "seeds": [999], "scheduler": {"kind": "asha"}},
    )
    for cell, study in writer.studies.items():
        passes = {"descent": 50, "mirror_gradient": 67, "bsam_plus": 75}.get(study.update, 100)
        lift = 0.02 if study.model == "freedom" else 0.0
        writer.sample(cell, 18, lambda point, lift=lift: quality(point, lift), passes)  # type: ignore[misc]
        for score in (0.15, 0.175, 0.2):
            writer.trial(cell, score, status="pruned", epochs=6, passes=passes)
        writer.trial(cell, None, status="diverged", epochs=2, passes=passes, error="Diverged: loss is NaN in epoch 2")
    writer.trial(cell, None, status="failed", epochs=0, error="MemoryError: <b>out of memory</b>\n  File trainer.py")
    writer.trial(cell, 0.21, status="lost", epochs=9)
    trials = writer.store.frame("trials", writer.name)
    best = trials.loc[trials["best_score"].idxmax()]
    writer.confirm(str(best["trial"]), float(best["best_score"]))
    return writer
