"""What spaces say of settings and features must be what trainables do."""

import pytest

from search.spec import parse, studies
from spaces.models import MODELS as MODEL_ROWS
from spaces.objectives import OBJECTIVES as OBJECTIVE_ROWS
from spaces.settings import SETTINGS
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import TrainableError
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.trainer import Trainer

ENTRIES = [(name, entry) for name, settings in SETTINGS.items() for entry in settings.entries]


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_every_set_of_settings_makes_a_valid_configuration(name: str, entry: str) -> None:
    axes = {"model": ["vbpr"], "update": ["descent"], SETTINGS[name].group: [entry]}
    raw = {"name": "x", "data": {"names": ["synthetic"]}, "axes": axes, "space": {"tune": [], "settings": [name]}}
    (study,) = studies(parse(raw))
    config = TrialConfig.from_flat(study.config(study.space.point(0), 999))
    fields = getattr(config, SETTINGS[name].group).model_dump()
    for key, value in SETTINGS[name].values.items():
        assert fields.get(key.partition(".")[2], value) == value


@pytest.mark.parametrize("name", MODELS)
def test_a_row_says_whether_the_model_uses_features(name: str) -> None:
    assert MODEL_ROWS[name].uses_features == MODELS[name].uses_features


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_on_features_is_one_that_a_model_without_them_cannot_train(
    objective: str, toy: DataBundle
) -> None:
    flat = {"model.name": "lightgcn", "model.embedding_size": 4, "objective.name": objective, "train.batch_size": 13}
    try:
        Trainer(TrialConfig.from_flat(flat), toy).run_epoch()
    except TrainableError:
        refused = True
    else:
        refused = False
    assert OBJECTIVE_ROWS[objective].uses_features == refused
