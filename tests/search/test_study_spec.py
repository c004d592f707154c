"""One cell's space and the configurations of its trials."""

import json
import pickle

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search.errors import SpecError
from search.spec import parse, studies
from search.study_spec import Cell
from spaces.errors import SpaceError
from spaces.params import Choice, Fixed, Float
from spaces.presets import MODELS, OBJECTIVES, OPTIMIZERS, UPDATES


def sweep(**sections):
    raw = {
        "name": "s",
        "data": {"names": ["synthetic"]},
        "axes": {"model": ["vbpr"], "update": ["sam"]},
        "space": {"tune": ["update"]},
    }
    return parse({**raw, **sections})


def study(**sections):
    (only,) = studies(sweep(**sections))
    return only


def test_there_is_one_study_per_combination_and_the_optimizer_varies_fastest():
    axes = {"model": ["vbpr", "bm3"], "update": ["descent", "sam"], "optimizer": ["adam", "sgd"]}
    names = [study.cell for study in studies(sweep(axes=axes, data={"names": ["baby", "pet"]}))]
    assert len(names) == len(set(names)) == 16
    assert names[:3] == ["baby/vbpr/plain/descent/adam", "baby/vbpr/plain/descent/sgd", "baby/vbpr/plain/sam/adam"]
    assert names[-1] == "pet/bm3/plain/sam/sgd"


def test_only_the_tuned_groups_are_searched():
    assert study().space.tuned() == ("update.rho",)
    assert study(space={"tune": []}).space.parameters == {}


def test_a_configuration_is_complete_and_can_be_written_as_json():
    config = study().config({"update.rho": 0.5}, seed=7)
    assert config == {
        "seed": 7,
        "data.name": "synthetic",
        "data.root": None,
        "data.modalities": None,
        "data.split": "given",
        "data.split_seed": 999,
        "model.name": "vbpr",
        "model.embedding_size": 64,
        "model.reg_weight": 1e-3,
        "objective.name": "plain",
        "update.name": "sam",
        "update.rho": 0.5,
        "update.rho_schedule": "constant",
        "update.rho_schedule_epochs": 100,
        "update.rho_warmup_epochs": 0,
        "update.interval": 1,
        "update.draws": "same",
        "update.diagnose_every": 16,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 1e-3,
        "optimizer.decay": 1.0,
        "optimizer.decay_epochs": 50,
        "optimizer.weight_decay": 0.0,
        "optimizer.clip_norm": 0.0,
        "train.max_epochs": 1000,
        "train.patience": 20,
        "train.batch_size": 2048,
        "train.validate_every": 1,
        "train.metric": "recall@20",
        "train.mode": "max",
    }
    assert json.loads(json.dumps(config)) == config


def test_sections_of_the_sweep_enter_the_configuration():
    config = study(
        data={"names": ["baby"], "root": "/data", "modalities": ["text", "image"], "split": "random", "split_seed": 3},
        train={"max_epochs": 5, "patience": 2, "batch_size": 64, "validate_every": 2},
        goal={"metric": "ndcg@10"},
    ).config({"update.rho": 0.5}, seed=1)
    assert config["data.name"] == "baby"
    assert config["data.root"] == "/data"
    assert config["data.modalities"] == ["text", "image"]
    assert (config["data.split"], config["data.split_seed"]) == ("random", 3)
    assert [config[f"train.{key}"] for key in ("max_epochs", "patience", "batch_size", "validate_every")] == [
        5,
        2,
        64,
        2,
    ]
    assert config["train.metric"] == "ndcg@10"


def test_a_configuration_holds_floats_where_the_default_is_one():
    fixed = study(space={"tune": [], "fix": {"update.rho": 1, "model.reg_weight": 0}})
    config = fixed.config(fixed.space.point(0), seed=1)
    assert [type(config[key]) for key in ("update.rho", "model.reg_weight")] == [float, float]


def test_a_point_outside_the_space_makes_no_configuration():
    with pytest.raises(SpaceError, match=r"update\.rho must be in the range 0\.01 to 2 \(log\), but got 5"):
        study().config({"update.rho": 5}, seed=1)


def test_a_cell_takes_only_the_keys_it_has():
    axes = {"model": ["vbpr"], "update": ["descent", "sam", "bsam_plus"]}
    space = {
        "tune": ["update"],
        "fix": {"update.rho": 0.3},
        "narrow": {"update.kappa": {"kind": "choice", "values": [0.5]}},
    }
    descent, sam, bsam_plus = studies(sweep(axes=axes, space=space))
    assert descent.space.parameters == {}
    assert sam.space.parameters == {"update.rho": Fixed(value=0.3)}
    assert bsam_plus.space.parameters == {
        "update.rho": Fixed(value=0.3),
        "update.ema_decay": Float(low=0, high=0.95),
        "update.kappa": Choice(values=(0.5,)),
    }


def test_a_range_for_an_untuned_hyperparameter_is_searched():
    narrow = {"model.embedding_size": {"kind": "choice", "values": [32, 64]}}
    assert study(space={"tune": ["update"], "narrow": narrow}).space.tuned() == ("update.rho", "model.embedding_size")


def test_a_fixed_value_may_lie_outside_the_preset():
    assert study(space={"fix": {"update.rho": 0}}).space.parameters["update.rho"] == Fixed(value=0.0)


def test_a_study_never_tries_more_configurations_than_its_space_has():
    axes = {"model": ["vbpr"], "update": ["descent", "sam", "bsam_plus"]}
    space = {"preset": "paper", "tune": ["update"]}
    assert [study.trials for study in studies(sweep(axes=axes, space=space, search={"trials": 20}))] == [1, 4, 20]


def test_the_paper_presets_grid_is_the_published_one():
    space = study(space={"preset": "paper", "tune": ["update", "optimizer"]}).space
    assert [point["update.rho"] for point in space.grid()] == [0.05, 0.10, 0.15, 0.20]
    assert {point["optimizer.learning_rate"] for point in space.grid()} == {1e-3}


def test_a_study_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(study())) == study()


def test_a_cell_refuses_a_hyperparameter_that_it_lacks():
    with pytest.raises(SpaceError, match=r"^'roh' must be one of rho, .*; did you mean 'rho'\?$"):
        Cell("synthetic", "vbpr", "plain", "sam", "adam").accept("update.roh", 1)
    with pytest.raises(SpaceError, match=r"'updat\.rho' must be a hyperparameter of .*; did you mean 'update\.rho'\?"):
        Cell("synthetic", "vbpr", "plain", "sam", "adam").accept("updat.rho", 1)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            {"narrow": {"optimizer.learning_rate": {"kind": "float", "low": 1e-5, "high": 1}}},
            "space.narrow.optimizer.learning_rate: a narrower range must lie inside 0.0001 to 0.01 (log), "
            "but got 1e-05 to 1",
        ),
        (
            {"narrow": {"update.rho": {"kind": "choice", "values": [0.1, "big"]}}},
            "space.narrow.update.rho: must be a number, but got 'big'",
        ),
        (
            {"narrow": {"model.embedding_size": {"kind": "float", "low": 8, "high": 64}}},
            "space.narrow.model.embedding_size: must be a whole number, but got 8.0",
        ),
        ({"fix": {"update.rho": "big"}}, "space.fix.update.rho: must be a number, but got 'big'"),
        (
            {"fix": {"model.embedding_size": 32.5}},
            "space.fix.model.embedding_size: must be a whole number, but got 32.5",
        ),
        (
            {"fix": {"update.roh": 1}},
            "space.fix.update.roh: must be a hyperparameter of one of the sweep's cells, but none has it; "
            "did you mean 'update.rho'?",
        ),
        (
            {"narrow": {"update.kappa": {"kind": "fixed", "value": 0.5}}},
            "space.narrow.update.kappa: must be a hyperparameter of one of the sweep's cells, "
            "but only sam_plus, asam_plus, fisher_sam_plus, friendly_sam_plus, bsam_plus, gnp have it",
        ),
        (
            {"fix": {"updat.rho": 1}},
            "space.fix.updat.rho: a key must be one of model.*, objective.*, update.*, optimizer.*, "
            "but got 'updat.rho'; did you mean 'update.rho'?",
        ),
        (
            {"fix": {"update.rho": 1}, "narrow": {"update.rho": {"kind": "fixed", "value": 1}}},
            "space.fix.update.rho: a hyperparameter must be narrowed or fixed, but this one is both",
        ),
    ],
)
def test_a_range_or_value_that_suits_no_cell_is_refused(space, sentence):
    with pytest.raises(SpecError) as caught:
        sweep(space=space)
    assert str(caught.value) == f"the sweep: {sentence}"


@settings(max_examples=50)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(sorted(OBJECTIVES)),
    st.sampled_from(sorted(UPDATES)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.integers(0, 2**31),
)
def test_a_configuration_of_defaults_is_the_same_however_it_is_reached(model, objective, update, optimizer, seed):
    assume(MODELS[model].uses_features or not OBJECTIVES[objective].uses_features)
    axes = {"model": [model], "objective": [objective], "update": [update], "optimizer": [optimizer]}
    untouched = study(axes=axes, space={"tune": []})
    fixed = study(axes=axes, space={"fix": untouched.defaults()})
    assert untouched.config({}, seed) == fixed.config(fixed.space.point(0), seed)
