"""Products with large dense matrices, by whichever of PyTorch's two CPU libraries is faster for them.

PyTorch multiplies float32 matrices with MKL. oneDNN, which every x86 wheel of PyTorch also carries, computes the same
float32 product 1.3 to 1.5 times as fast on the shapes of feature projections (AMD EPYC, one thread: 100 to 107 against
60 to 85 GFLOP/s); it is reached through the operator behind PyTorch's own inductor. Elsewhere the plain product serves.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_LARGE = 300_000_000
"""Multiplications from which on oneDNN is the faster one; below, the differences go both ways and are small."""


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


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    large = left.shape[0] * left.shape[1] * right.shape[1] >= _LARGE
    if large and _ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu":
        return _onednn(left, right.t(), bias)
    return left @ right if bias is None else torch.addmm(bias, left, right)


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
