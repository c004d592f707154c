"""The generalisation protocol: the best epoch of one training."""

import math

import pytest

from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.evaluation.metrics import METRIC_NAMES
from trainables.protocols import GeneralisationConfig, generalisation, variants
from trainables.trainer import Trainer

NUMBERS = {"train__max_epochs": 12, "train__patience": 3, "optimizer__learning_rate": 0.1, "train__metric": "ndcg@5"}


@pytest.mark.parametrize("every", [1, 2])
def test_every_metric_of_the_best_epoch_is_returned(every, toy, configure):
    config = configure(train__validate_every=every, **NUMBERS)
    trainer = Trainer(config, toy)
    validations = {}
    done = False
    while not done:
        report = trainer.run_epoch()
        validations[report.epoch], done = report.validation, report.done
    assert 1 <= trainer.progress.best_epoch < report.epoch
    found = generalisation(config, toy, GeneralisationConfig())
    assert {m.metric: m.value for m in found} == validations[trainer.progress.best_epoch]
    assert len(found) == 16 and {(m.subject, m.split, m.phase, m.level, m.draw) for m in found} == {
        ("both", "valid", "", "", 0)
    }
    assert {m.gradient_evaluations for m in found} == {trainer.progress.gradient_evaluations}


@pytest.mark.parametrize("vary", ["both", "split", "init"])
def test_the_subject_says_what_varies(vary, toy, configure):
    assert {m.subject for m in generalisation(configure(), toy, GeneralisationConfig(vary=vary))} == {vary}


def test_a_training_that_diverges_has_metrics_of_nan(toy, configure):
    config = configure(optimizer__name="sgd", optimizer__learning_rate=1e30)
    found = generalisation(config, toy, GeneralisationConfig())
    assert [m.metric for m in found] == list(METRIC_NAMES) and all(math.isnan(m.value) for m in found)
    assert all(m.gradient_evaluations > 0 for m in found)


def test_variants_of_the_embedded_data_train_to_different_numbers_and_init_keeps_the_split():
    flat = {"model.name": "lightgcn", "model.embedding_size": 4, "train.max_epochs": 1, "data.name": "synthetic"}
    values, splits = {}, {}
    for vary in ("both", "split", "init"):
        settings = GeneralisationConfig(vary=vary, seeds=(996, 997))
        for variant in variants(flat, settings):
            config = TrialConfig.from_flat(variant.flat)
            data = load(config.data)
            found = generalisation(config, data, settings)
            values[vary, variant.seed, variant.split_seed] = [m.value for m in found]
            splits[vary, variant.split_seed] = data.valid.items.tobytes()
    assert len(set(map(tuple, values.values()))) == len(values) == 6
    standard = load(DataConfig(name="synthetic")).valid.items.tobytes()
    assert splits["init", None] == standard != splits["both", 996] == splits["split", 996] != splits["both", 997]
