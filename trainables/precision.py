"""In which precision a GPU multiplies matrices of float32 while it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "tf32"]


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """Within it CUDA multiplies dense float32 matrices in that precision; afterwards as before.

    `tf32` rounds their entries to 10 bits behind the point and adds the products up in float32. It is a switch of the
    whole process, which runs one trial at a time. Nothing else changes, and on a CPU nothing at all.
    """
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before
