"""Products whose factors are rounded to bfloat16, against float64 and against what 8 bits of significand allow."""

import gc
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.layers import dense
from trainables.layers.dense import affine, constant, product, product_by_mkl
from trainables.precision import matrix_products, unrounded

ROUNDING = 2.0**-8
"""Most that rounding to bfloat16 changes a number by, relative to it."""
SUMMATION = 2.0**-23
"""Most that an addition in float32 changes a sum by, relative to it, and as much for a library's order of its own."""

Factors = tuple[Tensor, Tensor]


@st.composite
def factors(draw: st.DrawFn) -> Factors:
    """Two factors, each dense, transposed or with gaps between its rows, on scales far apart."""
    rows, inner, columns = (draw(st.integers(17, 140)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return matrix(draw, generator, rows, inner), matrix(draw, generator, inner, columns)


def matrix(draw: st.DrawFn, generator: torch.Generator, rows: int, columns: int) -> Tensor:
    scale = 10.0 ** draw(st.integers(-6, 6))
    match draw(st.sampled_from(["dense", "transposed", "gaps"])):
        case "dense":
            return torch.randn(rows, columns, generator=generator) * scale
        case "transposed":
            return (torch.randn(columns, rows, generator=generator) * scale).t()
        case _:
            return (torch.randn(rows, columns + 3, generator=generator) * scale)[:, :columns]


def large(rows: int, inner: int, columns: int) -> Factors:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator).t()


def rounded(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    with matrix_products("bf16"):
        return product(left, right, bias)


def assert_rounded(found: Tensor, left: Tensor, right: Tensor) -> None:
    """The result is that of the rounded factors but for sums in float32, and so within the bound of exact ones."""
    assert found.dtype == torch.float32
    sizes = left.double().abs() @ right.double().abs()
    summed = left.shape[1] * SUMMATION * sizes * (1 + ROUNDING) ** 2
    of_rounded = left.bfloat16().double() @ right.bfloat16().double()
    assert ((found - of_rounded).abs() <= summed).all()
    exact = left.double() @ right.double()
    assert ((found - exact).abs() <= summed + (2 * ROUNDING + ROUNDING**2) * sizes).all()


@settings(max_examples=60)
@given(factors())
def test_a_product_is_that_of_factors_rounded_to_8_bits_summed_in_float32(given: Factors) -> None:
    assert_rounded(rounded(*given), *given)


@pytest.mark.parametrize(
    "shape", [(1200, 1100, 64), (64, 3000, 700), (2000, 64, 900), (5000, 17, 300), (17, 3000, 400), (300, 4000, 17)]
)
def test_so_is_a_large_one_and_its_mirror_image(shape: tuple[int, int, int]) -> None:
    left, right = large(*shape)
    assert_rounded(rounded(left, right), left, right)
    assert_rounded(rounded(right.t(), left.t()), right.t(), left.t())
    assert_rounded(rounded(left.t().contiguous().t(), right.contiguous()), left, right)


@pytest.mark.parametrize("shape", [(16, 3000, 400), (3000, 16, 400), (3000, 400, 16), (0, 3000, 40), (0, 0, 0)])
def test_a_product_that_is_narrow_on_a_side_is_not_rounded(shape: tuple[int, int, int]) -> None:
    left, right = large(*shape)
    assert torch.equal(rounded(left, right), product(left, right))


def test_a_sum_of_many_small_terms_is_not_rounded() -> None:
    left, right = torch.ones(200, 3000), torch.ones(3000, 200)
    assert (rounded(left, right) == 3000).all()  # 12 bits, of which bfloat16 has 8


@pytest.mark.parametrize("shape", [(40, 30, 20), (1500, 900, 64)])
def test_gradients_are_products_rounded_the_same_way(shape: tuple[int, int, int]) -> None:
    left, right = (factor.detach().requires_grad_() for factor in large(*shape))
    bias = torch.randn(shape[2], requires_grad=True)
    upstream = torch.randn(shape[0], shape[2])
    with matrix_products("bf16"):
        by_left, by_right, by_bias = torch.autograd.grad(product(left, right, bias), [left, right, bias], upstream)
    assert_rounded(by_left, upstream, right.detach().t())
    assert_rounded(by_right, left.detach().t(), upstream)
    torch.testing.assert_close(by_bias, upstream.sum(0))


@pytest.mark.parametrize("rows", [20, 4000])
def test_a_bias_is_added_unrounded(rows: int) -> None:
    left, right = large(rows, 50, 30)
    bias = torch.full((30,), 1 + 2.0**-12)
    torch.testing.assert_close(
        rounded(left, right, bias) - rounded(left, right), bias.expand(rows, -1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("multiply", [product, product_by_mkl, lambda left, right: affine(left, right.t())])
@pytest.mark.parametrize("rows", [20, 4000])
def test_nothing_is_rounded_outside_of_bf16(multiply: Callable[[Tensor, Tensor], Tensor], rows: int) -> None:
    left, right = large(rows, 300, 64)
    before = multiply(left, right)
    with matrix_products("float32"):
        assert torch.equal(multiply(left, right), before)
    with matrix_products("tf32"):
        assert torch.equal(multiply(left, right), before)
    with matrix_products("bf16"):
        assert not torch.equal(multiply(left, right), before)
        assert not torch.equal(left @ right, multiply(left, right))  # what others multiply is not rounded either
        with unrounded():
            assert torch.equal(multiply(left, right), before)
        double = multiply(left.double(), right.double())
    assert torch.equal(double, multiply(left.double(), right.double()))
    assert torch.equal(multiply(left, right), before)


def test_a_cpu_without_the_instructions_gives_the_same_but_for_the_order_of_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, right = large(1500, 900, 64)
    found = rounded(left, right)
    monkeypatch.setattr(dense, "_onednn_rounds", lambda: False)
    assert_rounded(rounded(left, right), left, right)
    torch.testing.assert_close(rounded(left, right), found, rtol=1e-5, atol=1e-4)


def test_so_does_a_pytorch_that_cannot_tell_onednn_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends, "mkldnn", object())
    assert dense._onednn_rounds.__wrapped__() is False


class TestElsewhere:
    """The way of a GPU, on a CPU: `torch.mm` into float32 is there for CUDA alone."""

    @pytest.fixture(autouse=True)
    def _pretend(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(dense, "_bf16_product", self.as_elsewhere)
        yield
        dense._CONSTANTS.clear()

    @staticmethod
    def as_elsewhere(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        result = dense._bf16_product_elsewhere(dense._rounded(left), dense._rounded(right))
        return result if bias is None else result + bias

    def test_a_device_without_a_wide_product_multiplies_the_rounded_factors_as_float32(self) -> None:
        assert not dense._has_wide_product("cpu")
        left, right = large(70, 60, 50)
        assert_rounded(rounded(left, right), left, right)

    def test_one_that_has_it_gets_bfloat16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []

        def wide(left: Tensor, right: Tensor) -> Tensor:
            seen.append((left.dtype, right.dtype))
            return left.float() @ right.float()

        monkeypatch.setattr(dense, "_wide_product", wide)
        monkeypatch.setattr(dense, "_has_wide_product", lambda device: True)
        left, right = large(70, 60, 50)
        assert_rounded(rounded(left, right), left, right)
        assert seen == [(torch.bfloat16, torch.bfloat16)]

    def test_a_constant_is_rounded_once_until_it_changes(self) -> None:
        table = torch.randn(30, 20)
        dense._CONSTANTS[table] = None
        first = dense._rounded(table)
        assert dense._rounded(table) is first
        table.mul_(2)
        assert torch.equal(dense._rounded(table), table.bfloat16())
        assert dense._rounded(table) is not first

    def test_what_is_trained_is_rounded_anew(self) -> None:
        weight = torch.randn(30, 20)
        assert dense._rounded(weight) is not dense._rounded(weight)

    def test_a_forward_and_a_backward_pass_share_a_constants_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table, weight = torch.randn(30, 20), torch.randn(25, 20, requires_grad=True)
        dense._CONSTANTS[table] = None
        copies = []
        monkeypatch.setattr(
            dense,
            "_bf16_product_elsewhere",
            lambda left, right: copies.append([left, right]) or left.float() @ right.float(),
        )
        with matrix_products("bf16"):
            for _ in range(2):
                affine(table, weight).sum().backward()
        of_table = [factor for pair in copies for factor in pair if factor.shape == table.shape]
        assert len(of_table) == 4 and all(copy is of_table[0] for copy in of_table)


def test_a_constants_copy_goes_with_it_and_a_cpu_has_none() -> None:
    before = len(dense._CONSTANTS)
    table = torch.empty(3, 2, device="meta")
    assert constant(table) is table and constant(table) is table
    assert dense._rounded(table) is dense._rounded(table)
    assert len(dense._CONSTANTS) == before + 1
    constant(torch.empty(3, 2))
    trained = constant(torch.empty(3, 2, device="meta", requires_grad=True))
    assert len(dense._CONSTANTS) == before + 1
    del table, trained
    gc.collect()
    assert len(dense._CONSTANTS) == before
