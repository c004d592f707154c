"""In which precision matrices of float32 are multiplied while a trial trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "tf32", "bf16"]

_SWITCHES: Mapping[str, Mapping[Precision, object]] = {
    "fp32_precision": {"float32": "ieee", "tf32": "tf32", "bf16": "ieee"},
    "allow_tf32": {"float32": False, "tf32": True, "bf16": False},
}
"""What PyTorch calls CUDA's: the first from 2.9 on, where using the second warns; before that the second alone."""


class _Process:
    rounds_factors = False


@contextmanager
def switched(place: object, name: str, value: object) -> Iterator[None]:
    """Within it the attribute has that value; afterwards the one that it had before."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def cuda_products(precision: Precision) -> Iterator[None]:
    """Within it CUDA multiplies all dense float32 matrices in that precision, and those of bfloat16 add up in float32.

    Nothing changes on a CPU.
    """
    products = torch.backends.cuda.matmul
    switch = next(name for name in _SWITCHES if hasattr(products, name))
    with switched(products, switch, _SWITCHES[switch][precision]):
        if precision != "bf16":
            yield
            return
        with switched(products, "allow_bf16_reduced_precision_reduction", False):
            yield


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """Within it dense matrices of float32 are multiplied in that precision; afterwards as before.

    `tf32` is a switch of CUDA's: it rounds the factors of every dense product to 10 bits behind the point, and does
    nothing on a CPU. `bf16` rounds the factors of what `layers.dense` multiplies, features and large tables, to
    bfloat16, 7 bits behind the point, on every device; all other products are those of `float32`. Sums and results are
    float32 in any case. Both are settings of the whole process, which runs one trial at a time: also backward passes,
    which PyTorch may run in a thread of their own, have to be within.
    """
    with cuda_products(precision), switched(_Process, "rounds_factors", precision == "bf16"):
        yield


@contextmanager
def unrounded() -> Iterator[None]:
    """Within it nothing is rounded to bfloat16: for passes of which a small difference counts."""
    with switched(_Process, "rounds_factors", False):
        yield


def rounds_factors() -> bool:
    """Whether the factors of large dense products are to be rounded to bfloat16 now."""
    return _Process.rounds_factors
