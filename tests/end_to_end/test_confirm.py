"""Confirmations through the command line, and the seal on the test split until then."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.store import Store
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.data.synthetic import Recipe, synthesize, write_folder
from trainables.protocols import confirmation

pytestmark = pytest.mark.slow

SWEEP = """
name: sealed
data: {names: [toy], root: DATA}
axes: {model: [lightgcn], update: [descent, sam]}
space: {tune: [update, optimizer], fix: {model.embedding_size: 8}}
search: {trials: 2, seeds: [2]}
train: {max_epochs: 3, batch_size: 1024}
protocols:
  robustness: {corruptions: [item_embedding], draws: 1}
  landscape: {points: 3, batches: 1, hessian_iterations: 2}
"""


Recsweep = Callable[..., "subprocess.CompletedProcess[str]"]


def write_data(folder: Path, *, other_test: bool) -> None:
    """A data set of synthetic rows; with `other_test` the items of its test rows are other ones."""
    drawn = synthesize(Recipe(150, 60, 1800, {"text": 8}), seed=3)
    items, taken = drawn.items.copy(), set(zip(drawn.users.tolist(), drawn.items.tolist(), strict=True))
    for row in np.flatnonzero(drawn.labels == 2) if other_test else ():
        user = int(drawn.users[row])
        items[row] = next(item for item in range(60) if (user, item) not in taken)
        taken.add((user, int(items[row])))
    write_folder(folder, replace(drawn, items=items))


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, recsweep_in: Recsweep) -> Path:
    """A folder with the stores of one sweep on two data sets that differ in their test rows alone."""
    folder = tmp_path_factory.mktemp("sealed")
    for name, other_test in (("one", False), ("two", True)):
        write_data(folder / name / "toy", other_test=other_test)
        (folder / f"{name}.yaml").write_text(SWEEP.replace("DATA", str(folder / name)))
        done = recsweep_in(folder, "launch", f"{name}.yaml", "--store", f"store-{name}")
        assert done.returncode == 0, done.stderr
    return folder


def test_nothing_before_a_confirmation_depends_on_the_test_split(launched: Path) -> None:
    stores = [Store(launched / f"store-{name}") for name in ("one", "two")]
    digests = [set(store.frame("trials")["data_digest"]) for store in stores]
    assert digests[0] != digests[1], "the files do differ"
    for view, values in (
        ("metrics", ["trial", "epoch", "split", "metric", "value"]),
        ("trials", ["trial", "best_score", "best_epoch", "gradient_evaluations"]),
        ("protocols", ["trial", "protocol", "subject", "metric", "level", "draw", "point", "split", "value"]),
    ):
        one, two = (store.frame(view)[values].sort_values(values).reset_index(drop=True) for store in stores)
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        assert len(one) and ("split" not in one or "test" not in set(one["split"]))


def test_the_best_of_every_cell_is_retrained_on_fresh_seeds_and_judged_on_test(
    launched: Path, recsweep_in: Recsweep
) -> None:
    store = Store(launched / "store-one")
    assert store.frame("confirmations").empty

    first = recsweep_in(launched, "confirm", "sealed", "--seeds", "3", "--store", "store-one")

    assert (first.returncode, first.stderr) == (0, "")
    assert "this opens the test split" in first.stdout and "6 measured, 0 in the store already" in first.stdout
    assert "paired t test over 3 seeds" in first.stdout and "opened for 2 configurations" in first.stdout
    rows = store.frame("confirmations")
    trials = store.frame("trials").set_index("trial")
    assert sorted(rows["seed"].unique()) == [1, 3, 4], "2 was the search's"
    best = trials.groupby("cell")["best_score"].idxmax()
    assert set(rows["trial"]) == set(best) and set(rows["candidates"]) == {2}
    assert rows[rows["split"] == "test"]["unsealed"].notna().all()
    assert rows[rows["split"] == "valid"]["unsealed"].isna().all() and rows["host"].notna().all()
    for (trial, seed), part in rows.groupby(["trial", "seed"]):
        config = TrialConfig.from_flat(json.loads(trials.loc[trial, "config_json"]) | {"seed": int(seed)})
        direct = {(each.split, each.metric): each.value for each in confirmation(config, load(config.data))}
        assert {(row.split, row.metric): row.value for row in part.itertuples()} == direct

    again = recsweep_in(launched, "confirm", "sealed", "--seeds", "4", "--cell", best.index[0], "--store", "store-one")

    assert again.returncode == 0 and "1 measured, 3 in the store already" in again.stdout
    assert len(store.frame("confirmations")) == len(rows) * 7 / 6
    wrong = recsweep_in(launched, "confirm", "sealed", "--cell", "nowhere", "--store", "store-one")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
