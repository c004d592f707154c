"""Lists of tensors as one vector, against NumPy on the concatenation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.vectors import active_rows, combined, global_norm, inner, mixed, scaled, sum_of_powers


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, 3), (5,), (2, 3, 2), ()]
    return [None, *(torch.randn(size, generator=generator, dtype=dtype) for size in sizes)]


def joined(vector: list[torch.Tensor | None]) -> np.ndarray:
    return np.concatenate([part.double().numpy().ravel() for part in vector if part is not None])


@given(seed=st.integers(0, 1000))
def test_sums_run_over_all_entries(seed: int) -> None:
    left, right = drawn(seed), drawn(seed + 1)
    assert global_norm(left) == pytest.approx(np.linalg.norm(joined(left)), rel=1e-12)
    assert sum_of_powers(left, order=1) == pytest.approx(np.abs(joined(left)).sum(), rel=1e-12)
    assert inner(left, right) == pytest.approx(joined(left) @ joined(right), rel=1e-10, abs=1e-12)
    assert inner(left, [None, None, *right[2:]]) == pytest.approx(joined(left)[12:] @ joined(right)[12:], abs=1e-12)


def test_nothing_has_no_length() -> None:
    assert global_norm([None, None]) == inner([None], [torch.ones(2)]) == sum_of_powers([], order=1) == 0


def test_a_long_sum_keeps_its_digits_in_float32() -> None:
    part = torch.full((100_000, 16), 0.1)
    assert sum_of_powers([part], order=1) == pytest.approx(part.double().sum().item(), rel=1e-6)
    assert global_norm([part]) == pytest.approx(part.double().norm().item(), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_only_one_side_has_counts_as_zero_in_the_other(share: float) -> None:
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    found = mixed([one, one, None, None], [two, None, two, None], share)
    assert found[3] is None
    for part, expected in zip(found, (share * one + (1 - share) * two, share * one, (1 - share) * two), strict=False):
        torch.testing.assert_close(part, expected)
    assert torch.equal(one, torch.tensor([1.0, 2.0])) and torch.equal(two, torch.tensor([3.0, 5.0]))


def test_none_stays_none() -> None:
    assert scaled([None, torch.ones(1)], 3.0) == [None, torch.full((1,), 3.0)]
    assert combined(torch.add, [None, torch.ones(1)], [torch.ones(1), None]) == [None, None]


def test_a_row_is_active_where_any_entry_is_not_0() -> None:
    gradient = torch.zeros(3, 2, 2)
    gradient[1, 0, 1] = -1e-30
    assert active_rows(gradient).shape == (3, 1, 1) and active_rows(gradient).flatten().tolist() == [False, True, False]
