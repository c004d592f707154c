"""In which precision a GPU multiplies matrices of float32 while it trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "tf32"]

_SWITCHES: Mapping[str, Mapping[Precision, object]] = {
    "fp32_precision": {"float32": "ieee", "tf32": "tf32"},
    "allow_tf32": {"float32": False, "tf32": True},
}
"""What PyTorch calls it: the first from 2.9 on, where using the second warns; before that the second alone."""


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """Within it CUDA multiplies dense float32 matrices in that precision; afterwards as before.

    `tf32` rounds their entries to 10 bits behind the point and adds the products up in float32. It is a switch of the
    whole process, which runs one trial at a time. Nothing else changes, and on a CPU nothing at all.
    """
    products = torch.backends.cuda.matmul
    switch = next(name for name in _SWITCHES if hasattr(products, name))
    before = getattr(products, switch)
    setattr(products, switch, _SWITCHES[switch][precision])
    try:
        yield
    finally:
        setattr(products, switch, before)
