"""Products with large dense matrices, by whichever of PyTorch's two CPU libraries is faster for them.

PyTorch multiplies float32 matrices with MKL. oneDNN, which every x86 wheel of PyTorch also carries, computes the same
float32 product 1.3 to 1.5 times as fast on the shapes of feature projections (AMD EPYC, one thread: 100 to 107 against
60 to 85 GFLOP/s); it is reached through the operator behind PyTorch's own inductor. Elsewhere the plain product serves.

Where a trial wants bf16 (`precision.py`), both factors are rounded to bfloat16 and their products added up in float32,
which is also the result's type. bfloat16 has float32's range, so gradients need no scale. Products that are narrow on
any side take as long as reading their factors does, and stay float32.
"""

import functools
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from trainables.precision import cuda_products, rounds_factors, switched

_LARGE = 100_000_000
"""Multiplications from which on oneDNN is the faster one; below, the differences go both ways and are small."""

_SMALL_RESULT = 200_000
"""Entries of a result below which MKL is faster where the left side is transposed."""

_PIECE = 2048
"""Rows of the right side that are multiplied at a time where the left side is transposed."""

_NARROW = 16
"""Rows, columns or terms of a sum up to which a product stays float32 in any case."""

_ROUNDED_INSIDE = 1_000_000
"""Multiplications from which on oneDNN is left to round factors; of very small matrices it leaves them as they are."""

_PROBED = 128
"""Rows and columns of the matrices on which it is found out what a library does."""


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


def _onednn_may_round() -> AbstractContextManager[None]:
    """Within it PyTorch hands large products of float32 to oneDNN, which may multiply them as bfloat16."""
    return switched(torch.backends.mkldnn.matmul, "fp32_precision", "bf16")  # type: ignore[attr-defined]


@functools.cache
def _onednn_rounds() -> bool:
    """Whether oneDNN multiplies float32 as bfloat16 when allowed to, as it does where the CPU has the instructions.

    It is not where PyTorch has no such permission (before 2.9).
    """
    if not hasattr(torch.backends.mkldnn, "matmul"):
        return False
    with _onednn_may_round():
        fine = torch.full((_PROBED, _PROBED), 1 + 2**-10)  # 1 in bfloat16
        return bool((fine @ fine == _PROBED).all())


@functools.cache
def _has_wide_product(device: str) -> bool:
    """Whether a type of device multiplies bfloat16 into float32, as CUDA does from PyTorch 2.8 on."""
    one = torch.ones(_PROBED, _PROBED, dtype=torch.bfloat16, device=device)
    try:
        return _wide_product(one, one).dtype == torch.float32
    except (NotImplementedError, RuntimeError, TypeError):
        return False


def _wide_product(left: Tensor, right: Tensor) -> Tensor:
    return torch.mm(left, right, out_dtype=torch.float32)


_CONSTANTS = WeakIdKeyDictionary()
"""Constant tables elsewhere than on a CPU, each with (its version, itself in bfloat16) or None; for as long as they
live."""


def constant(table: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """The same table, which is rounded once for many products, because it hardly ever changes: raw features.

    The rounded copy takes half the table's memory, and the table stays beside it for validation. On a CPU there is
    none: tables share the memory of other trials there, and oneDNN rounds while it packs.
    """
    if table.device.type != "cpu" and not table.requires_grad and table not in _CONSTANTS:
        _CONSTANTS[table] = None
    return table


def _rounded(matrix: Tensor) -> Tensor:
    if matrix not in _CONSTANTS:
        return matrix.bfloat16()
    held = _CONSTANTS[matrix]
    if held is None or held[0] != matrix._version:
        held = _CONSTANTS[matrix] = matrix._version, matrix.bfloat16()
    rounded: Tensor = held[1]
    return rounded


def _bf16_product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """The product of both sides in bfloat16, added up in float32, by the fastest way that the device has."""
    if left.device.type != "cpu":
        result = _bf16_product_elsewhere(_rounded(left), _rounded(right))
        return result if bias is None else result.add_(bias)
    if left.shape[0] * left.shape[1] * right.shape[1] >= _ROUNDED_INSIDE and _onednn_rounds():
        with _onednn_may_round():
            return left @ right if bias is None else torch.addmm(bias, left, right)
    return _float32_product(left.bfloat16().float(), right.bfloat16().float(), bias)


def _bf16_product_elsewhere(left: Tensor, right: Tensor) -> Tensor:
    if _has_wide_product(left.device.type):
        return _wide_product(left, right)
    with cuda_products("tf32"):  # rounds nothing away: tf32 has 10 bits behind the point, bfloat16 has 7
        return left.float() @ right.float()


def _is_rounded(left: Tensor, right: Tensor) -> bool:
    return rounds_factors() and left.dtype == torch.float32 and min(*left.shape, right.shape[1]) > _NARROW


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    if _is_rounded(left, right):
        return _bf16_product(left, right, bias)
    return _float32_product(left, right, bias)


def _float32_product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
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


def product_by_mkl(left: Float[Tensor, "R K"], right: Float[Tensor, "K C"]) -> Float[Tensor, "R C"]:
    """left @ right, not differentiable, for shapes of which MKL is the faster one although `product` takes oneDNN."""
    if _is_rounded(left, right):
        return _bf16_product(left, right, None)
    return left @ right


def affine(
    inputs: Float[Tensor, "R K"], weight: Float[Tensor, "C K"], bias: Float[Tensor, " C"] | None = None
) -> Float[Tensor, "R C"]:
    """inputs @ weightᵀ + bias: `torch.nn.functional.linear` of a matrix."""
    return product(inputs, weight.t(), bias)
