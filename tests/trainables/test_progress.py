"""Counters and early stopping of a trial."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import TrainConfig
from trainables.progress import Progress

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=30)


def validations(scores: list[float], mode: str = "max") -> tuple[Progress, list[bool]]:
    """Progress after one validation an epoch, and which of them were new bests."""
    progress = Progress()
    improved = []
    for epoch, score in enumerate(scores, start=1):
        progress.epoch = epoch
        improved.append(progress.record_score(score, mode))
    return progress, improved


@given(SCORES, st.sampled_from(["max", "min"]))
def test_the_best_is_the_first_of_the_best_scores(scores: list[float], mode: str) -> None:
    progress, improved = validations(scores, mode)
    best = max(scores) if mode == "max" else min(scores)
    assert (progress.best_score, progress.score) == (best, scores[-1])
    assert progress.best_epoch == scores.index(best) + 1
    assert progress.misses == len(scores) - progress.best_epoch
    assert improved == [
        all(score > before if mode == "max" else score < before for before in scores[:number])
        for number, score in enumerate(scores)
    ]


@given(SCORES, st.integers(0, 6))
def test_training_stops_after_more_than_patience_validations_without_gain(scores: list[float], patience: int) -> None:
    train = TrainConfig(max_epochs=1000, patience=patience)
    done = [validations(scores[:count])[0].done(train) for count in range(1, len(scores) + 1)]
    without_gain = [count - 1 - scores.index(max(scores[:count])) for count in range(1, len(scores) + 1)]
    assert done == [misses > patience for misses in without_gain]


def test_an_equal_score_is_no_gain() -> None:
    progress, improved = validations([0.5, 0.5, 0.5])
    assert improved == [True, False, False] and progress.misses == 2
    assert progress.done(TrainConfig(patience=1)) and not progress.done(TrainConfig(patience=2))


def test_a_gain_starts_the_count_anew() -> None:
    assert validations([0.5, 0.4, 0.3, 0.6])[0].misses == 0


def test_less_is_better_in_the_mode_min() -> None:
    progress, improved = validations([0.5, 0.6, 0.4], "min")
    assert improved == [True, False, True] and progress.best_score == 0.4


@pytest.mark.parametrize(("epoch", "done"), [(4, False), (5, True), (6, True)])
def test_training_stops_after_the_last_epoch(epoch: int, done: bool) -> None:
    assert Progress(epoch=epoch).done(TrainConfig(max_epochs=5)) is done


def test_training_goes_on_before_the_first_validation_even_without_patience() -> None:
    assert not Progress(epoch=1).done(TrainConfig(patience=0, validate_every=3))


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**60))
def test_progress_survives_json(score: float, count: int) -> None:
    progress = Progress(epoch=3, gradient_evaluations=count, best_score=score, first_loss=score, misses=2)
    assert Progress.from_dict(json.loads(json.dumps(progress.as_dict()))) == progress
