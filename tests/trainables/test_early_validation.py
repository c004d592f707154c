"""Early validations: cheaper, the same users for all trials, and never taken for the real thing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import toy_bundle
from trainables import checkpoints
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.early_validation import ESTIMATE, estimate_of
from trainables.errors import ConfigError
from trainables.evaluation.metrics import METRIC_NAMES
from trainables.models import MODELS
from trainables.progress import EpochReport, Progress
from trainables.protocols.training import finish
from trainables.trainer import Trainer

SMALL = {"model.name": "vbpr", "model.embedding_size": 4, "train.batch_size": 64, "train.max_epochs": 6, "seed": 7}
SOME = {"epochs": 3, "users": 20}
STILL = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-30}
"""At this rate no weight moves, so that no validation after the first is a gain."""


@pytest.fixture(scope="module")
def data() -> DataBundle:
    """Sixty users, each with one validation item, and forty items."""
    return toy_bundle(num_users=60, num_items=40)


def trainer(data: DataBundle, early: dict[str, Any] | None = None, **flat: Any) -> Trainer:
    return Trainer(TrialConfig.from_flat(SMALL | {"train.early_validation": early} | flat), data)


def run(trial: Trainer) -> list[EpochReport]:
    """All epochs until the trial is done."""
    reports = [trial.run_epoch()]
    while not reports[-1].done:
        reports.append(trial.run_epoch())
    return reports


def names(report: EpochReport) -> set[str]:
    return set(report.validation or {})


def test_early_validations_are_estimates_by_name_and_the_later_ones_full(data: DataBundle) -> None:
    reports = run(trainer(data, SOME))
    assert [names(report) == {estimate_of(name) for name in METRIC_NAMES} for report in reports] == [True] * 3 + [
        False
    ] * 3
    assert all(names(report) == set(METRIC_NAMES) for report in reports[3:])
    assert all(name.startswith(ESTIMATE) for report in reports[:3] for name in names(report))


def test_estimates_change_neither_the_training_nor_the_later_validations(data: DataBundle) -> None:
    plain, early = run(trainer(data)), run(trainer(data, SOME | {"precision": "bf16"}))
    assert [report.losses for report in plain] == [report.losses for report in early]
    assert [report.validation for report in plain[3:]] == [report.validation for report in early[3:]]


def test_the_score_is_the_estimate_and_the_best_score_is_not(data: DataBundle) -> None:
    trial = trainer(data, SOME)
    for report in [trial.run_epoch() for _ in range(3)]:
        assert report.validation is not None
        assert report.progress["score"] == report.validation["estimate/recall@20"]
        assert (report.progress["best_score"], report.progress["best_epoch"]) == (None, 0)
    assert trial.best_weights == {}
    full = trial.run_epoch()
    assert full.validation is not None
    assert trial.progress.score == trial.progress.best_score == full.validation["recall@20"]
    assert trial.progress.best_epoch == 4 and trial.best_weights


def test_an_estimate_that_is_better_than_any_full_validation_is_never_the_best_score(data: DataBundle) -> None:
    lucky = trainer(data, {"epochs": 5, "users": 1})
    lucky.evaluate = lambda evaluator, *, rounded=False: dict.fromkeys(  # type: ignore[method-assign]
        METRIC_NAMES, 0.9 if len(evaluator.users) == 1 else 0.1
    )
    run(lucky)
    assert (lucky.progress.best_score, lucky.progress.best_epoch) == (0.1, 6)


def test_patience_begins_with_the_first_full_validation(data: DataBundle) -> None:
    patience = {"train.patience": 1, "train.max_epochs": 20}
    assert len(run(trainer(data, **STILL, **patience))) == 3
    assert len(run(trainer(data, SOME, **STILL, **patience))) == 6


def test_a_validation_is_due_when_it_was_and_the_last_is_full(data: DataBundle) -> None:
    every = {"train.validate_every": 2, "train.max_epochs": 5}
    trial = trainer(data, SOME | {"epochs": 4}, **every)
    reports = run(trial)
    assert [report.validation is not None for report in reports] == [False, True, False, True, True]
    assert names(reports[3]) != names(reports[4]) == set(METRIC_NAMES)
    assert trial.progress.forward_passes == 3


def test_estimates_are_means_over_a_sample_of_the_users(data: DataBundle) -> None:
    trial = trainer(data, SOME)
    report = trial.run_epoch()
    assert trial._early is not None
    sample = trial._early[1].users
    assert len(sample) == len(set(sample)) == 20 and set(sample) < set(trial.evaluator.users)
    with torch.no_grad():
        scorer = trial.model.eval().scorer(trial.model.extract(trial.model.fuse()))
        every = trial.evaluator.per_user(scorer, trial.device)
    chosen = np.isin(trial.evaluator.users, sample)
    assert report.validation == {estimate_of(name): float(values[chosen].mean()) for name, values in every.items()}


def test_all_trials_on_a_split_rank_the_same_users_whatever_their_seed_and_model(data: DataBundle) -> None:
    trials = [
        trainer(data, SOME),
        trainer(data, SOME | {"epochs": 5, "precision": "bf16"}, seed=8),
        trainer(data, SOME, **{"model.name": "lightgcn"}),
        trainer(data, SOME, **{"data.split_seed": 1}),
    ]
    samples = [trial._early[1].users.tolist() for trial in trials if trial._early is not None]
    assert samples[0] == samples[1] == samples[2] != samples[3]


def test_a_smaller_sample_is_part_of_a_larger_one(data: DataBundle) -> None:
    small, large = (trainer(data, {"epochs": 1, "users": users}) for users in (10, 30))
    assert small._early is not None and large._early is not None
    assert set(small._early[1].users) < set(large._early[1].users)


@pytest.mark.parametrize("users", [60, 61, 10_000])
def test_a_validation_of_all_users_in_float32_is_a_full_one(users: int, data: DataBundle) -> None:
    plain, early = run(trainer(data)), run(trainer(data, {"epochs": 3, "users": users}))
    assert [report.validation for report in plain] == [report.validation for report in early]
    rounded = trainer(data, {"epochs": 3, "users": users, "precision": "bf16"}).run_epoch()
    assert names(rounded) == {estimate_of(name) for name in METRIC_NAMES}


@pytest.mark.parametrize("model", MODELS)
def test_with_bf16_the_scores_of_every_model_are_near_the_full_ones(model: str, data: DataBundle) -> None:
    trial = trainer(data, {"epochs": 3, "precision": "bf16"}, **{"model.name": model})
    full = trial.evaluate(trial.evaluator)
    rounded = trial.evaluate(trial.evaluator, rounded=True)
    assert full == trial.evaluate(trial.evaluator)
    assert rounded.keys() == full.keys()
    assert all(abs(rounded[name] - full[name]) < 0.1 for name in full)


def test_bf16_rounds_what_is_scored_and_nothing_else() -> None:
    trial = trainer(toy_bundle(num_users=900, num_items=150), **{"model.embedding_size": 32})
    with torch.no_grad():
        hidden = trial.model.eval().extract(trial.model.fuse())
    users, items = (part.bfloat16().double() for part in (hidden.users, hidden.items))
    expected = trial.evaluator(lambda chosen: users[chosen] @ items.T, trial.device)
    assert trial.evaluate(trial.evaluator, rounded=True) == expected
    assert trial.evaluate(trial.evaluator) != expected


@pytest.mark.parametrize("saved", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("early", [SOME, SOME | {"precision": "bf16", "users": None}])
def test_a_resumed_trial_is_the_undisturbed_one_to_the_bit(
    saved: int, early: dict[str, Any], data: DataBundle, tmp_path: Path
) -> None:
    whole, first, second = (trainer(data, early) for _ in range(3))
    expected = run(whole)
    for _ in range(saved):
        first.run_epoch()
    checkpoints.save(tmp_path / "trial", *first.state())
    second.restore(*checkpoints.load(tmp_path / "trial", torch.device("cpu")))
    found = run(second)
    assert [(r.losses, r.validation, r.done) for r in found] == [
        (r.losses, r.validation, r.done) for r in expected[saved:]
    ]
    assert second.progress.best_score == whole.progress.best_score
    assert all(torch.equal(value, whole.best_weights[name]) for name, value in second.best_weights.items())


def test_checkpoints_of_before_there_were_estimates_are_read(data: DataBundle) -> None:
    """They hold these fields and no others."""
    fields = {"epoch", "gradient_evaluations", "optimizer_steps", "forward_passes", "samples", "train_seconds"}
    fields |= {"evaluation_seconds", "score", "best_score", "best_epoch", "misses", "first_loss"}
    assert set(Progress().as_dict()) == fields


def test_a_protocols_training_has_the_full_metrics_of_its_best_epoch(data: DataBundle) -> None:
    trained = finish(trainer(data, SOME))
    assert set(trained.validation) == set(METRIC_NAMES)
    assert trained.validation["recall@20"] == trained.trainer.progress.best_score


def test_a_rehearsal_times_both_kinds_of_validation(data: DataBundle) -> None:
    seconds = trainer(data, SOME).rehearse(2)
    assert all(each > 0 for each in seconds) and seconds.validation_s != seconds.early_validation_s
    plain = trainer(data).rehearse(2)
    assert plain.validation_s == plain.early_validation_s


@pytest.mark.parametrize(
    ("early", "sentence"),
    [
        ({"epochs": 3}, r"train\.early_validation must give users or the precision bf16, as there is nothing to save"),
        ({"epochs": 6, "users": 5}, r"train\.early_validation\.epochs must be at least .* and less than max_epochs, b"),
        ({"epochs": 0, "users": 5}, r"train\.early_validation\.epochs: Input should be greater than or equal to 1"),
        ({"epochs": 3, "users": 0}, r"train\.early_validation\.users: Input should be greater than or equal to 1"),
        ({"epochs": 3, "precision": "fp8"}, r"train\.early_validation\.precision: Input should be 'float32' or 'bf16'"),
        ({"users": 3}, r"train\.early_validation\.epochs: Field required"),
        ({"epochs": 3, "user": 3}, r"train\.early_validation\.user is unknown"),
        (3, r"train\.early_validation: Input should be a valid dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(early: Any, sentence: str, data: DataBundle) -> None:
    with pytest.raises(ConfigError, match=sentence):
        trainer(data, early)


def test_an_end_before_the_first_validation_is_refused(data: DataBundle) -> None:
    with pytest.raises(ConfigError, match=r"at least validate_every .* got 3 with validate_every 4 and max_epochs 6"):
        trainer(data, SOME, **{"train.validate_every": 4})
