"""What is done before a sweep starts: mistakes are found there, and cost no trial."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.cluster import Capacity
from search.datasets import graph_cache_folder, load_data
from search.errors import SpecError
from search.plan import Estimate
from search.preparation import (
    batches_per_epoch,
    check_configurations,
    extreme_points,
    gradient_evaluations,
    local_concurrency,
    probe,
    with_startup,
)
from search.spec import SweepSpec, parse, studies
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import DataError, ModelError
from trainables.objectives import OBJECTIVES
from trainables.trainer import Trainer
from trainables.updates import UPDATES

Make = Callable[..., DataBundle]


def sweep(**sections: Any) -> SweepSpec:
    raw = {
        "name": "s",
        "data": {"names": ["toy"]},
        "axes": {"model": ["vbpr"], "update": ["sam"]},
        "space": {"tune": ["update"], "fix": {"model.embedding_size": 4}},
        "train": {"batch_size": 8},
    }
    return parse({**raw, **sections})


def check(bundle: DataBundle, **sections: Any) -> None:
    check_configurations(studies(sweep(**sections)), {"toy": bundle}, seed=1)


def test_the_extreme_points_hold_both_ends_of_every_range_and_every_choice() -> None:
    narrow = {
        "model.embedding_size": {"kind": "int", "low": 8, "high": 64},
        "optimizer.learning_rate": {"kind": "float", "low": 1e-3, "high": 1e-2, "log": True},
        "model.reg_weight": {"kind": "choice", "values": [0.1, 0.0, 0.2]},
    }
    (study,) = studies(sweep(space={"tune": [], "narrow": narrow, "fix": {"update.rho": 0.5}}))
    first = {"model.embedding_size": 8, "optimizer.learning_rate": 1e-3, "model.reg_weight": 0.1, "update.rho": 0.5}
    assert list(extreme_points(study)) == [
        first,
        first | {"model.embedding_size": 64},
        first | {"optimizer.learning_rate": 1e-2},
        first | {"model.reg_weight": 0.0},
        first | {"model.reg_weight": 0.2},
    ]


def test_a_space_of_one_point_has_one_extreme_point() -> None:
    (study,) = studies(sweep(space={"tune": [], "fix": {"update.rho": 0.5}}))
    assert list(extreme_points(study)) == [{"update.rho": 0.5}]
    (nothing,) = studies(sweep(space={"tune": []}))
    assert list(extreme_points(nothing)) == [{}]


@pytest.mark.parametrize("preset", ["paper", "extended"])
def test_the_ends_of_every_preset_are_valid_configurations(preset: str) -> None:
    axes = {
        "model": ["lightgcn", "vbpr", "bm3", "freedom"],
        "objective": ["plain", "dvib_c", "dvib_a"],
        "update": list(UPDATES),
        "optimizer": ["adam", "sgd"],
    }
    for study in studies(sweep(axes=axes, space={"preset": preset})):
        for point in extreme_points(study):
            assert TrialConfig.from_flat(study.config(point, 1)).model_name == study.model


def test_configurations_that_can_be_built_pass(toy: DataBundle) -> None:
    check(toy, axes={"model": ["lightgcn", "vbpr", "bm3"], "objective": ["plain", "dvib_a"], "update": ["sam"]})


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            {"fix": {"model.embedding_size": 0}},
            r"^cell toy/vbpr/plain/sam/adam: model\.embedding_size: .*greater than or equal to 1, but got 0$",
        ),
        (
            {"narrow": {"model.reg_weight": {"kind": "float", "low": -1, "high": 1}}},
            r"^cell toy/vbpr/plain/sam/adam: model\.reg_weight: .*greater than or equal to 0, but got -1\.0$",
        ),
        (
            {"narrow": {"model.embedding_size": {"kind": "int", "low": 8, "high": 5000}}},
            r"^cell toy/vbpr/plain/sam/adam: model\.embedding_size: .*less than or equal to 4096, but got 5000$",
        ),
    ],
)
def test_a_value_outside_its_fields_range_is_refused_with_cell_and_key(
    space: dict[str, Any], sentence: str, toy: DataBundle
) -> None:
    with pytest.raises(SpecError, match=sentence):
        check(toy, space={"tune": ["update"], **space})


def test_a_mistake_in_the_last_cell_is_found(toy: DataBundle) -> None:
    axes = {"model": ["vbpr"], "update": ["sam"], "optimizer": ["adam", "sgd"]}
    narrow = {"optimizer.momentum": {"kind": "float", "low": 0, "high": 1.5}}
    with pytest.raises(SpecError, match=r"^cell toy/vbpr/plain/sam/sgd: optimizer\.momentum: .*, but got 1\.5$"):
        check(toy, axes=axes, space={"tune": ["update"], "narrow": narrow})


def test_a_graph_with_more_neighbours_than_items_is_refused(toy: DataBundle) -> None:
    freedom = {"model": ["freedom"], "update": ["descent"]}
    narrow = {"model.knn_k": {"kind": "int", "low": 5, "high": 12}}
    with pytest.raises(ModelError, match="got k=12 for 11 items"):
        check(toy, axes=freedom, space={"tune": [], "narrow": narrow})


def test_a_model_with_features_is_refused_on_data_without(make_toy: Make) -> None:
    with pytest.raises(ModelError, match=r"model VBPR needs modality features, but data set 'toy' has no"):
        check(make_toy(modalities=()))


def test_an_objective_that_cannot_work_with_a_model_is_refused_however_late_it_comes(toy: DataBundle) -> None:
    """FREEDOM with DVIB is fine in the first cell; distributions over a batch's items are not in the second."""
    axes = {"model": ["freedom"], "objective": ["plain", "dvib_c"], "update": ["descent"]}
    fix = {"model.knn_k": 3, "objective.distill_items": "batch"}
    with pytest.raises(ModelError, match="distill_items must be 'all' for model FREEDOM"):
        check(toy, axes=axes, space={"tune": [], "fix": fix})


def test_batches_per_epoch_count_the_short_last_batch(toy: DataBundle) -> None:
    assert len(toy.train) == 36
    for size, batches in ((1, 36), (8, 5), (9, 4), (36, 1), (2048, 1)):
        assert batches_per_epoch(sweep(train={"batch_size": size}), {"toy": toy}) == {"toy": batches}


def flat(**changes: Any) -> dict[str, Any]:
    keys = {"seed": 1, "model.name": "vbpr", "model.embedding_size": 4, "train.max_epochs": 4, "train.batch_size": 8}
    return {**keys, **{key.replace("__", "."): value for key, value in changes.items()}}


def test_gradient_evaluations_are_those_of_the_update_with_its_numbers() -> None:
    beta_2 = {"update__name": "mirror_gradient", "update__beta": 2}
    assert gradient_evaluations(flat(), 5) == [5] * 4
    assert gradient_evaluations(flat(update__name="sam"), 5) == [10] * 4
    assert gradient_evaluations(flat(**beta_2), 5) == [8] * 4


CHANGES: list[dict[str, Any]] = [
    *({"update__name": name} for name in UPDATES),
    *({"objective__name": name} for name in OBJECTIVES),
    *({"objective__name": name, "update__name": "bsam_plus"} for name in OBJECTIVES),
    {"objective__name": "amr", "objective__warmup_epochs": 2},
    {"objective__name": "amr", "objective__warmup_epochs": 1, "update__name": "mirror_gradient", "update__beta": 2},
    *({"update__name": "sam_plus", "update__pairing": pairing} for pairing in ("consecutive", "independent")),
    {"update__name": "sam_plus", "update__interval": 2},
    {"update__name": "sam", "update__interval": 3, "train__batch_size": 7},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ",".join(map(str, changes.values())))
def test_the_planned_gradient_evaluations_are_those_that_the_trainer_counts_in_every_epoch(
    changes: dict[str, Any], toy: DataBundle
) -> None:
    trainer = Trainer(TrialConfig.from_flat(flat(**changes)), toy)
    counted = [0]
    for _ in range(4):
        counted.append(trainer.run_epoch().progress["gradient_evaluations"])
    spent = [after - before for before, after in itertools.pairwise(counted)]
    assert gradient_evaluations(flat(**changes), trainer.batches_per_epoch) == spent


def test_a_probe_times_every_cell_and_updates_of_one_model_alike(toy: DataBundle) -> None:
    cells = studies(sweep(axes={"model": ["vbpr", "lightgcn"], "update": ["descent", "sam"]}))
    timings = probe(cells, {"toy": toy}, seed=1, concurrency=1)
    assert timings.keys() == {study.cell for study in cells}
    for timing in timings.values():
        speed = timing.gradient_evaluation_s
        assert 0 < speed.low < speed.mid < speed.high and timing.evaluation_s > 0
    assert timings["toy/vbpr/plain/descent/adam"] == timings["toy/vbpr/plain/sam/adam"]


def test_a_probe_times_early_validations_apart(toy: DataBundle) -> None:
    axes = {"model": ["lightgcn"], "update": ["descent"]}
    plain, early = (
        probe(studies(sweep(axes=axes, train=train)), {"toy": toy}, seed=1, concurrency=1)
        for train in ({}, {"early_validation": {"epochs": 5, "users": 3}})
    )
    (plain_timing,), (early_timing,) = plain.values(), early.values()
    assert plain_timing.evaluation_s == plain_timing.estimate_s
    assert 0 < early_timing.estimate_s != early_timing.evaluation_s > 0


def test_the_time_to_start_is_added_to_a_prediction() -> None:
    wall = with_startup(Estimate(low=1.0, mid=2.0, high=3.0))
    assert 1.0 < wall.low < wall.mid < wall.high


@pytest.mark.parametrize(
    ("resources", "cluster", "trials"),
    [
        ({}, {"CPU": 8.0}, 8),
        ({"cpu": 3}, {"CPU": 8.0}, 2),
        ({"max_concurrent": 4}, {"CPU": 8.0}, 4),
        ({"max_concurrent": 40}, {"CPU": 8.0}, 8),
        ({"cpu": 4}, {"CPU": 2.0}, 1),
        ({"gpu": 1}, {"CPU": 16.0, "GPU": 2.0}, 2),
        ({"gpu": 2}, {"CPU": 16.0, "GPU": 5.0}, 2),
        ({"gpu": 0.25}, {"CPU": 16.0, "GPU": 2.0}, 8),
        ({"gpu": 0.1}, {"CPU": 16.0, "GPU": 1.0}, 10),
        ({"gpu": 0.2}, {"CPU": 16.0, "GPU": 1.0}, 5),
        ({"gpu": 0.3}, {"CPU": 16.0, "GPU": 1.0}, 3),
        ({"gpu": 0.4}, {"CPU": 16.0, "GPU": 3.0}, 6),
        ({"gpu": 0.25}, {"CPU": 2.0, "GPU": 2.0}, 2),
        ({"gpu": 0.5}, {"CPU": 4.0}, 1),
    ],
)
def test_as_many_trials_run_at_once_as_the_cluster_holds(
    resources: dict[str, Any], cluster: dict[str, float], trials: int
) -> None:
    spec = sweep(resources=resources)
    nodes = [{"Alive": True, "Resources": cluster}]
    assert Capacity(spec, studies(spec), nodes=lambda: nodes).limit() == trials


def test_at_least_one_trial_runs_at_once_on_this_machine() -> None:
    assert local_concurrency(sweep(resources={"cpu": 10_000})) == 1
    assert local_concurrency(sweep(resources={"max_concurrent": 1})) == 1


def test_graphs_are_kept_below_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graph_cache_folder() == tmp_path / "recsweep/graphs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert graph_cache_folder() == tmp_path / "home/.cache/recsweep/graphs"


def test_data_are_loaded_as_the_sweep_says(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    rows = [f"{user}\t{(user + step) % 6}\t{0 if step < 3 else step - 2}" for user in range(6) for step in range(5)]
    (folder / "tiny.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    bundles = load_data(sweep(data={"names": ["tiny"], "root": str(tmp_path), "split": "leave_one_out"}))
    assert bundles.keys() == {"tiny"} and len(bundles["tiny"].train) == 18 and len(bundles["tiny"].valid) == 6
    assert bundles["tiny"].graphs.folder == graph_cache_folder()
    with pytest.raises(DataError, match=r"did you mean 'tiny'\?"):
        load_data(sweep(data={"names": ["tinny"], "root": str(tmp_path)}))
