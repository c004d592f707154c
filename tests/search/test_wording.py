"""Numbers as readers see them."""

import math

import pytest

from search.wording import signed_score, with_deviation


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (0.2512, 0.00213, "0.2512 ± 0.0021"),
        (0.1705, 0.000295, "0.1705 ± 0.0003"),
        (0.0005, 0.00003, "0.0005 ± 3e-05"),
        (0.17, None, "0.1700"),
        (0.17, math.nan, "0.1700"),
        (None, None, "–"),
    ],
)
def test_a_deviation_has_the_decimals_of_its_mean(mean: float | None, deviation: float | None, text: str) -> None:
    assert with_deviation(mean, deviation) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.000467, "+0.0005"), (0.0, "+0.0000"), (-0.01234, "−0.0123"), (-2e-5, "−0.0000")]
)
def test_a_difference_has_the_decimals_of_the_scores_beside_it(value: float, text: str) -> None:
    assert signed_score(value) == text
