"""The protocols' figures against sums made by hand and against plain loops over the rows."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.protocol_tables import generalisation_table, landscape_table, robustness_table

METRIC = "recall@20"
SAM, DESCENT, DVIB = (f"lfm2k/vbpr/{arm}/adam" for arm in ("plain/sam", "plain/descent", "dvib_c/descent"))


def row(cell: str, subject: str, value: float, **columns: Any) -> dict[str, Any]:
    plain = {"seed": 999, "split_seed": None, "phase": "", "level": "", "severity": math.nan, "draw": 0, "point": 0}
    return {
        **{"sweep": "s", "trial": f"trial of {cell}", "cell": cell, "protocol": "robustness", "subject": subject},
        **{**plain, "split": "valid", "metric": METRIC, "value": value, **columns},
    }


def trials(*cells: str) -> pd.DataFrame:
    axes = ("dataset", "model", "objective", "update", "optimizer")
    return pd.DataFrame(
        {"trial": f"trial of {cell}", "best_score": 0.5, **dict(zip(axes, cell.split("/"), strict=True))}
        for cell in cells
    )


GAUSSIAN = {"phase": "test", "level": "0.05", "severity": 0.05}


def noisy(cell: str, value: float, **columns: Any) -> dict[str, Any]:
    return row(cell, "gaussian", value, **{**GAUSSIAN, **columns})


ROWS = [
    row(SAM, "clean", 0.5),
    noisy(SAM, 0.4),
    noisy(SAM, 0.3, draw=1),
    noisy(SAM, 4.0, metric="snr/text"),
    noisy(SAM, 8.0, metric="snr/text", draw=1),
    noisy(SAM, 10.0, metric="snr/image"),
    row(SAM, "clean", 0.3, seed=1000),
    noisy(SAM, 0.2, seed=1000),
    noisy(SAM, 0.1, seed=1000, draw=1),
    row(SAM, "information_adjustment", 0.4, phase="test", level="3%", severity=0.03),
    row(SAM, "text_redundancy", 0.6, phase="train_test"),
]


def test_robustness_is_the_loss_relative_to_clean_over_seeds_and_draws() -> None:
    table = robustness_table(pd.DataFrame(ROWS), METRIC)
    assert list(table["subject"]) == ["gaussian", "information_adjustment", "text_redundancy"]
    gaussian, adjusted, redundant = (found for _, found in table.iterrows())
    assert (gaussian["seeds"], gaussian["draws"]) == (2, 2)
    assert gaussian["clean"] == pytest.approx(0.4) and gaussian["noisy"] == pytest.approx(0.25)
    assert gaussian["noisy_deviation"] == pytest.approx(np.std([0.4, 0.3, 0.2, 0.1], ddof=1))
    assert gaussian["decrease"] == pytest.approx(0.15 / 0.4)
    assert (gaussian["snr/text"], gaussian["snr/image"]) == (6.0, 10.0)
    # Seed 1000 was not measured under the other two: their clean score is that of seed 999 alone.
    assert adjusted["clean"] == 0.5 and adjusted["decrease"] == pytest.approx(0.2) and math.isnan(adjusted["snr/text"])
    assert redundant["decrease"] == pytest.approx(-0.2) and math.isnan(redundant["noisy_deviation"])


def test_levels_phases_and_cells_stand_apart() -> None:
    rows = [
        row(cell, "clean", clean)
        for cell, clean in ((SAM, 0.5), (DESCENT, 0.4))
    ] + [
        noisy(cell, 0.1, phase=phase, level=level, severity=severity)
        for cell in (SAM, DESCENT)
        for phase in ("test", "train_test")
        for level, severity in (("0.01", 0.01), ("0.05", 0.05))
    ]  # fmt: skip
    table = robustness_table(pd.DataFrame(rows), METRIC)
    assert len(table) == 8
    assert table.groupby("cell", sort=False)["decrease"].unique().explode().tolist() == pytest.approx([0.8, 0.75])


def test_a_training_that_diverged_shows_and_a_seed_without_a_clean_score_does_not_count() -> None:
    rows = [row(SAM, "clean", 0.5), noisy(SAM, 0.4), noisy(SAM, math.nan, draw=1), noisy(SAM, 0.9, seed=7)]
    (found,) = robustness_table(pd.DataFrame(rows), METRIC).to_dict(orient="records")
    assert math.isnan(found["noisy"]) and math.isnan(found["decrease"]) and found["seeds"] == 1


def test_a_clean_score_of_zero_has_no_relative_loss() -> None:
    (found,) = robustness_table(pd.DataFrame([row(SAM, "clean", 0.0), noisy(SAM, 0.0)]), METRIC)["decrease"]
    assert math.isnan(found)


@pytest.mark.parametrize("metric", [METRIC, "ndcg@10"])
def test_only_the_rows_of_the_metric_the_protocol_and_the_validation_split_count(metric: str) -> None:
    others = [
        noisy(SAM, 0.9, metric="ndcg@10"),
        row(SAM, "clean", 0.9, metric="ndcg@10"),
        noisy(SAM, 0.9, split="train"),
        noisy(SAM, 0.9, protocol="landscape"),
    ]
    (found,) = robustness_table(pd.DataFrame([row(SAM, "clean", 0.5), noisy(SAM, 0.4), *others]), metric)["decrease"]
    assert found == pytest.approx(0.2 if metric == METRIC else 0.0)


def run(cell: str, seed: int, value: float, subject: str = "both", split_seed: int | None = None) -> dict[str, Any]:
    return row(cell, subject, value, seed=seed, split_seed=split_seed, protocol="generalisation")


def test_generalisation_is_the_spread_over_seeds_and_the_paired_difference_to_descent() -> None:
    rows = [run(DESCENT, seed, value, split_seed=seed) for seed, value in ((996, 0.2), (997, 0.4), (998, 0.6))]
    rows += [run(SAM, seed, value, split_seed=seed) for seed, value in ((997, 0.5), (996, 0.4), (1, 9.0))]
    table = generalisation_table(pd.DataFrame(rows), trials(SAM, DESCENT), METRIC)
    descent, sam = table.to_dict(orient="records")
    assert descent["runs"] == 3 and descent["mean"] == pytest.approx(0.4) and descent["deviation"] == pytest.approx(0.2)
    assert (descent["low"], descent["high"]) == (0.2, 0.6) and descent["variation"] == pytest.approx(0.5)
    assert pd.isna(descent["base"]) and descent["pairs"] == 0 and math.isnan(descent["difference"])
    assert sam["base"] == DESCENT and sam["pairs"] == 2 and sam["difference"] == pytest.approx(0.15)
    assert sam["difference_deviation"] == pytest.approx(np.std([0.2, 0.1], ddof=1))
    assert sam["standard"] == 0.5 and sam["update"] == "sam"


def test_runs_on_the_sweeps_own_split_are_paired_by_seed_alone() -> None:
    rows = [run(DESCENT, 1, 0.2, "init"), run(SAM, 1, 0.5, "init"), run(SAM, 1, 0.9, "both", 1)]
    table = generalisation_table(pd.DataFrame(rows), trials(SAM, DESCENT), METRIC).set_index(["cell", "subject"])
    assert table.loc[(SAM, "init"), "difference"] == pytest.approx(0.3)
    assert pd.isna(table.loc[(SAM, "both"), "base"]) and math.isnan(table.loc[(SAM, "both"), "deviation"])


def test_the_base_is_plain_descent_or_that_of_the_own_objective_of_the_same_optimizer() -> None:
    other = SAM.replace("adam", "sgd")
    dvib_sam = SAM.replace("plain", "dvib_c")
    cells = (SAM, DESCENT, DVIB, other, dvib_sam)
    table = generalisation_table(pd.DataFrame([run(cell, 1, 0.5) for cell in cells]), trials(*cells), METRIC)
    assert [None if pd.isna(base) else base for base in table["base"]] == [DESCENT, None, DESCENT, None, DESCENT]
    without = generalisation_table(
        pd.DataFrame([run(cell, 1, 0.5) for cell in (DVIB, dvib_sam)]), trials(DVIB, dvib_sam), METRIC
    )
    assert pd.isna(without["base"][0]) and without["base"][1] == DVIB


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.lists(st.floats(0.01, 1), min_size=2, max_size=8))
def test_the_paired_difference_is_that_of_a_loop(left: list[float], right: list[float]) -> None:
    rows = [run(SAM, seed, value) for seed, value in enumerate(left)]
    rows += [run(DESCENT, seed, value) for seed, value in enumerate(right)]
    found = generalisation_table(pd.DataFrame(rows), trials(SAM, DESCENT), METRIC).set_index("cell").loc[SAM]
    gaps = [one - other for one, other in zip(left, right, strict=False)]
    assert found["pairs"] == len(gaps)
    assert found["difference"] == pytest.approx(sum(gaps) / len(gaps), abs=1e-12)
    assert found["variation"] == pytest.approx(np.std(left, ddof=1) / np.mean(left))


def test_a_landscape_is_summed_up_by_its_sharpness_scalars() -> None:
    common = {"protocol": "landscape", "metric": "value", "split": "train"}
    rows = [
        row(SAM, "filter_norm", 0.7, **{**common, "metric": "loss"}, x=0.0, y=0.0),
        row(SAM, "ascent_sharpness", 0.2, **common, level="0.05", severity=0.05),
        row(SAM, "ascent_sharpness", 0.4, **common, level="0.05", severity=0.05, seed=1),
        row(SAM, "ascent_sharpness", 0.9, **common, level="0.1", severity=0.1),
        row(SAM, "hessian_eigenvalue", 12.0, **common),
        row(SAM, "hessian_eigenvalue", 14.0, **common, seed=1),
        row(SAM, "hessian_eigenvalue", 100.0, **{**common, "metric": "iterations"}),
    ]
    near, far, eigenvalue = landscape_table(pd.DataFrame(rows)).to_dict(orient="records")
    assert (near["subject"], near["severity"], near["seeds"], far["seeds"]) == ("ascent_sharpness", 0.05, 2, 1)
    assert near["mean"] == pytest.approx(0.3) and near["deviation"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert (near["low"], near["high"]) == (0.2, 0.4) and far["mean"] == 0.9 and math.isnan(far["deviation"])
    assert eigenvalue["mean"] == 13.0 and math.isnan(eigenvalue["severity"])


def test_without_rows_the_columns_still_stand() -> None:
    nothing = pd.DataFrame(ROWS).iloc[:0]
    full = robustness_table(pd.DataFrame(ROWS), METRIC)
    empty = robustness_table(nothing, METRIC)
    assert len(empty) == 0 and list(empty.columns) == [name for name in full.columns if not name.startswith("snr/")]
    assert len(landscape_table(nothing)) == 0 and "mean" in landscape_table(nothing)
    spread = generalisation_table(nothing, trials(SAM), METRIC)
    assert len(spread) == 0 and {"mean", "variation", "base", "difference"} <= set(spread.columns)
