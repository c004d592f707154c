"""Large products against plain ones, in value and gradient."""

import pytest
import torch

from trainables.layers import dense
from trainables.layers.dense import affine, product


def operands(rows: int, inner: int, columns: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, inner), (columns, inner), (columns,)]
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("rows", "inner", "columns"), [(7, 5, 3), (1200, 1100, 300), (0, 5, 3), (5000, 400, 150)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affine_is_the_plain_linear_map(rows: int, inner: int, columns: int, dtype: torch.dtype) -> None:
    inputs, weight, bias = operands(rows, inner, columns, dtype)
    upstream = torch.randn(rows, columns, dtype=dtype)
    ours = torch.autograd.grad(affine(inputs, weight, bias), [inputs, weight, bias], upstream)
    plain = torch.autograd.grad(inputs @ weight.t() + bias, [inputs, weight, bias], upstream)
    tolerance = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-10}
    torch.testing.assert_close(affine(inputs, weight, bias), inputs @ weight.t() + bias, **tolerance)
    for gradient, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, expected, **tolerance)


def test_a_product_can_be_differentiated_twice() -> None:
    left, right, _ = operands(4, 3, 2, torch.float64)
    torch.autograd.gradgradcheck(product, (left, right.t()))


def test_both_libraries_give_the_same_product(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weight, bias = (tensor.detach() for tensor in operands(1200, 1100, 300, torch.float32))
    fast = affine(inputs, weight, bias)
    monkeypatch.setattr(dense, "_ONEDNN", False)
    torch.testing.assert_close(fast, affine(inputs, weight, bias), rtol=1e-5, atol=1e-3)


def test_a_matrix_with_gaps_between_its_rows_is_kept_from_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    left, wide, _ = (tensor.detach() for tensor in operands(1200, 1100, 300, torch.float32))
    right = torch.cat([wide.t(), wide.t()], dim=1)[:, :300]
    monkeypatch.setattr(dense, "_onednn", None)
    torch.testing.assert_close(product(left, right), left @ wide.t(), rtol=1e-4, atol=1e-3)


def test_a_product_without_gradient_asks_for_none() -> None:
    frozen, weight = torch.randn(4, 3), torch.randn(3, 2, requires_grad=True)
    result = product(frozen, weight)
    result.sum().backward()
    assert frozen.grad is None and weight.grad is not None
