"""What a result says of its cost."""

import pytest

from search.costs import device_seconds, spent_seconds

RESULT = {"train_seconds": 10.0, "evaluation_seconds": 2.0, "setup_seconds": 0.5, "time_total_s": 99.0}


def test_a_trial_has_spent_its_training_validation_and_setup() -> None:
    assert spent_seconds(RESULT) == 12.5


@pytest.mark.parametrize(("result", "seconds"), [({}, 0.0), ({"train_seconds": None, "setup_seconds": 0.5}, 0.5)])
def test_a_trial_that_could_not_be_built_has_spent_what_it_says(result: dict[str, object], seconds: float) -> None:
    assert spent_seconds(result) == seconds and device_seconds(result, (2, 0.5)) == 2 * seconds


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 50.0), ("NVIDIA H200", 3.125)])
def test_device_seconds_are_the_share_of_the_device_that_it_ran_on(device: str, seconds: float) -> None:
    assert device_seconds(RESULT | {"device": device}, (4, 0.25)) == seconds
