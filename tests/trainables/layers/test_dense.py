"""Large products against plain ones, in value and gradient."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from trainables.layers import dense
from trainables.layers.dense import affine, product, rounded_products


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


SHAPES = [(7, 5, 3), (297, 64, 7050), (1200, 1100, 300)]


@pytest.mark.parametrize(("rows", "inner", "columns"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rounded_product_has_rounded_factors_and_an_exact_sum(
    rows: int, inner: int, columns: int, dtype: torch.dtype
) -> None:
    inputs, weight, bias = (tensor.detach() for tensor in operands(rows, inner, columns, dtype))
    with rounded_products():
        found = affine(inputs, weight, bias)
    expected = inputs.bfloat16().double() @ weight.bfloat16().double().t() + bias.double()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(found.double(), (inputs.double() @ weight.double().t() + bias.double()), atol=1e-4)


def test_after_rounded_products_everything_is_as_before_even_after_an_error() -> None:
    inputs, weight, _ = (tensor.detach() for tensor in operands(297, 64, 7050, torch.float32))
    before = product(inputs, weight.t())
    switches = [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
    with pytest.raises(RuntimeError, match="shapes"), rounded_products():
        dense._multiply(inputs, weight, None)
    with rounded_products():
        product(inputs, weight.t())
    assert switches == [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
    assert torch.equal(product(inputs, weight.t()), before)


def test_a_pytorch_without_the_switches_rounds_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weight, _ = (tensor.detach() for tensor in operands(297, 64, 7050, torch.float32))
    with rounded_products():
        expected = product(inputs, weight.t())
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", SimpleNamespace(), raising=False)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=False))
    with rounded_products():
        torch.testing.assert_close(product(inputs, weight.t()), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE", "DEFAULT"])
def test_processors_without_bfloat16_give_the_same_product(instructions: str) -> None:
    """oneDNN reads what it may use once a process, so each kind of processor takes one."""
    program = (
        "import torch; from trainables.layers.dense import product, rounded_products\n"
        "torch.set_num_threads(1); g = torch.Generator().manual_seed(0)\n"
        "left, right = torch.randn(297, 64, generator=g), torch.randn(64, 7050, generator=g)\n"
        "exact = left.bfloat16().double() @ right.bfloat16().double()\n"
        "with rounded_products(): print(float((product(left, right).double() - exact).abs().max()))\n"
    )
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run([sys.executable, "-c", program], env=limited, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1e-4
