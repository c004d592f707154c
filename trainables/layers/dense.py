"""Products with large dense matrices, by whichever of PyTorch's two CPU libraries is faster for them.

PyTorch multiplies float32 matrices with MKL. oneDNN, which every x86 wheel of PyTorch also carries, computes the same
float32 product 1.3 to 1.5 times as fast on the shapes of feature projections (AMD EPYC, one thread: 100 to 107 against
60 to 85 GFLOP/s); it is reached through the operator behind PyTorch's own inductor. Elsewhere the plain product serves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_LARGE = 100_000_000
"""Multiplications from which on oneDNN is the faster one; below, the differences go both ways and are small."""

_SMALL_RESULT = 200_000
"""Entries of a result below which MKL is faster where the left side is transposed."""

_PIECE = 2048
"""Rows of the right side that are multiplied at a time where the left side is transposed."""


def _has_onednn() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        one = torch.ones(1, 1)
        return bool(_onednn(one, one, None) == 1)
    except (AttributeError, RuntimeError):
        return False


def _onednn(left: Tensor, transposed_right: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, transposed_right, bias, "none", [], "")
    return result


_ONEDNN = _has_onednn()

_ROUNDED = ContextVar("_ROUNDED", default=False)


@contextmanager
def rounded_products() -> Iterator[None]:
    """Within it every product of this module rounds its factors to bfloat16 (8 significant bits) and sums in float32.

    Processors that multiply bfloat16 (AMX, AVX512-BF16, the tensor cores of a GPU) are faster then, and only they;
    since the factors are rounded before, all others give the same numbers but for the order of summation.
    """
    token = _ROUNDED.set(True)
    try:
        yield
    finally:
        _ROUNDED.reset(token)


@contextmanager
def _few_bits_allowed() -> Iterator[None]:
    """Lets the libraries multiply float32 factors in formats that hold bfloat16 ones exactly.

    PyTorch has these switches from 2.9 on; before that, nothing is faster.
    """
    wanted: list[tuple[Any, str]] = [
        (getattr(torch.backends.mkldnn, "matmul", None), "bf16"),
        (torch.backends.cuda.matmul, "tf32"),
    ]
    switches = [(products, value) for products, value in wanted if hasattr(products, "fp32_precision")]
    before = [products.fp32_precision for products, _ in switches]
    for products, value in switches:
        products.fp32_precision = value
    try:
        yield
    finally:
        for (products, _), value in zip(switches, before, strict=True):
            products.fp32_precision = value


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    if not _ROUNDED.get():
        return _unrounded(left, right, bias)
    rounded = [factor.to(torch.bfloat16).to(factor.dtype) for factor in (left, right)]
    with _few_bits_allowed():
        return _unrounded(rounded[0], rounded[1], bias)


def _unrounded(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    if _ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu" and _is_for_onednn(left, right):
        return _large_product(left, right, bias)
    return left @ right if bias is None else torch.addmm(bias, left, right)


def _is_for_onednn(left: Tensor, right: Tensor) -> bool:
    # Of a right side with gaps between its rows oneDNN has no fast product: it takes a thousand times as long.
    dense = right.is_contiguous() or right.t().is_contiguous()
    # It copies a transposed left side, which does not pay where the result is small.
    copied = not left.is_contiguous() and left.shape[0] * right.shape[1] < _SMALL_RESULT
    return dense and not copied and left.shape[0] * left.shape[1] * right.shape[1] >= _LARGE


def _large_product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """The product by oneDNN, which copies a transposed left side and packs the right one.

    For the gradient of a weight, where the sum runs over all items, both copies are made in pieces that stay in the
    cache (7,050 x 4,096 features: 148 instead of 161 ms).
    """
    transposed = right.is_contiguous() and not left.is_contiguous()
    pieces = max(1, left.shape[1] // _PIECE) if transposed else 1
    first, *others = zip(left.chunk(pieces, dim=1), right.chunk(pieces), strict=True)
    total = _onednn(first[0], first[1].t(), bias)
    for left_part, right_part in others:
        total += _onednn(left_part, right_part.t(), None)
    return total


class _Product(torch.autograd.Function):
    """left @ right + bias; the backward pass is made of the same product, so it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        return _multiply(left, right, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        return (
            product(gradient, right.t()) if ctx.needs_input_grad[0] else None,
            product(gradient.t(), left).t() if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )


def product(
    left: Float[Tensor, "R K"], right: Float[Tensor, "K C"], bias: Float[Tensor, " C"] | None = None
) -> Float[Tensor, "R C"]:
    """left @ right (+ bias), differentiable."""
    result: Tensor = _Product.apply(left, right, bias)  # type: ignore[no-untyped-call]
    return result


def affine(
    inputs: Float[Tensor, "R K"], weight: Float[Tensor, "C K"], bias: Float[Tensor, " C"] | None = None
) -> Float[Tensor, "R C"]:
    """inputs @ weightᵀ + bias: `torch.nn.functional.linear` of a matrix."""
    return product(inputs, weight.t(), bias)
