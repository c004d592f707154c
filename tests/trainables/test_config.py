"""A trial's configuration: what is accepted, and what is refused with which sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.presets import REGISTRIES
from trainables.config import TrainConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.optimizers import OPTIMIZERS
from trainables.updates import UPDATES

CONFIGS = {
    "model": {name: entry.Config for name, entry in MODELS.items()},
    "objective": {name: entry.Config for name, entry in OBJECTIVES.items()},
    "update": {name: entry.Config for name, entry in UPDATES.items()},
    "optimizer": OPTIMIZERS,
}


def refused(flat: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_flat(flat)
    return str(caught.value)


def test_an_empty_configuration_is_the_default_trial() -> None:
    config = TrialConfig.from_flat({})
    names = (config.model_name, config.objective_name, config.update_name, config.optimizer_name)
    assert names == ("lightgcn", "plain", "descent", "adam")
    assert (config.seed, config.data.name, config.model.embedding_size) == (999, "synthetic", 64)
    assert config.train == TrainConfig(
        max_epochs=1000, patience=20, batch_size=2048, validate_every=1, metric="recall@20", mode="max"
    )


def test_every_key_lands_in_the_config_of_its_group() -> None:
    flat = {
        "seed": 7,
        "data.name": "baby",
        "data.modalities": ["text"],
        "model.name": "freedom",
        "model.knn_k": 3,
        "objective.name": "dvib_a",
        "objective.gamma_0": 0.5,
        "update.name": "bsam_plus",
        "update.rho": 0.3,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "train.patience": 0,
    }
    before = dict(flat)
    config = TrialConfig.from_flat(flat)
    assert flat == before
    assert (config.seed, config.data.name, config.data.modalities) == (7, "baby", ("text",))
    groups = {"model": config.model, "objective": config.objective, "update": config.update}
    for group, made in (groups | {"optimizer": config.optimizer}).items():
        assert type(made) is CONFIGS[group][str(flat[f"{group}.name"])]
    values = {f"{group}.{name}": value for group, made in groups.items() for name, value in made.model_dump().items()}
    assert {key: values[key] for key in ("model.knn_k", "objective.gamma_0", "update.rho")} == {
        key: flat[key] for key in ("model.knn_k", "objective.gamma_0", "update.rho")
    }
    assert config.optimizer.model_dump()["momentum"] == 0.9 and config.train.patience == 0


@pytest.mark.parametrize("group", CONFIGS)
def test_the_registries_of_spaces_and_trainables_agree_on_names_and_defaults(group: str) -> None:
    rows = next(rows for name, rows in REGISTRIES.items() if name == group)
    assert rows.keys() == CONFIGS[group].keys()
    for name, config in CONFIGS[group].items():
        assert config().model_dump() == dict(rows[name].defaults)


@pytest.mark.parametrize(
    ("flat", "sentence"),
    [
        ({"update.name": "sam", "update.roh": 0.1}, "update.roh is unknown; did you mean 'rho'?"),
        ({"model.zzz": 1}, "model.zzz is unknown; known are embedding_size, num_layers, reg_weight"),
        ({"train.max_epoch": 1}, "train.max_epoch is unknown; did you mean 'max_epochs'?"),
        ({"data.nam": "x"}, "data.nam is unknown; did you mean 'name'?"),
        ({"update.rho": 0.1}, "update.rho is unknown; known are "),
        ({"model.name": "freedm"}, "got 'freedm'; did you mean 'freedom'?"),
        ({"model.name": "zzz"}, "got 'zzz'; known are lightgcn, vbpr, bm3, freedom"),
        ({"objective.name": "dvib"}, "got 'dvib'; did you mean 'dvib_"),
        ({"update.name": "bsam+"}, "got 'bsam+'; did you mean 'bsam'?"),
        ({"optimizer.name": "adm"}, "got 'adm'; did you mean 'adam'?"),
    ],
)
def test_an_unknown_key_or_name_is_refused_with_the_nearest(flat: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(flat)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("model.embedding_size", 0, "greater than or equal to 1"),
        ("model.embedding_size", 2.5, "valid integer"),
        ("model.embedding_size", "many", "valid integer"),
        ("model.embedding_size", None, "valid integer"),
        ("model.reg_weight", -0.1, "greater than or equal to 0"),
        ("optimizer.learning_rate", 0, "greater than 0"),
        ("optimizer.learning_rate", "fast", "valid number"),
        ("optimizer.learning_rate", [1], "valid number"),
        ("train.max_epochs", 0, "greater than or equal to 1"),
        ("train.patience", -1, "greater than or equal to 0"),
        ("train.batch_size", 0, "greater than or equal to 1"),
        ("train.validate_every", 0, "greater than or equal to 1"),
        ("train.metric", "recall@3", "pattern"),
        ("train.metric", "recall@200", "pattern"),
        ("train.mode", "maximum", "'max' or 'min'"),
        ("data.split", "test", "'given'"),
        ("data.name", "../baby", "pattern"),
        ("data.modalities", ["text", "text"], "distinct"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_with_key_rule_and_value(key: str, value: Any, rule: str) -> None:
    sentence = refused({key: value})
    assert sentence.startswith(f"{key}: ") and rule in sentence and sentence.endswith(f"but got {value!r}")
    assert "\n" not in sentence


@pytest.mark.parametrize("key", ["rho", "optimiser.learning_rate", "model", "model.", ".rho", "seeds", ""])
def test_a_key_outside_the_groups_is_refused_with_the_groups(key: str) -> None:
    assert "is not a key of a trial; keys are seed and data.*, model.*, objective.*" in refused({key: 1})


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True])
def test_a_seed_is_a_whole_number_from_zero(seed: Any) -> None:
    assert refused({"seed": seed}) == f"seed must be an integer >= 0, but got {seed!r}"


@given(st.integers(0, 2**40), st.integers(1, 64), st.floats(1e-6, 1.0))
def test_equal_configurations_are_equal(seed: int, size: int, rate: float) -> None:
    flat = {"seed": seed, "model.embedding_size": size, "optimizer.learning_rate": rate}
    assert TrialConfig.from_flat(flat) == TrialConfig.from_flat(dict(reversed(flat.items())))
