"""Arithmetic on lists of tensors, one a parameter, as if each list were one long vector; None entries count as nothing.

Sums run over a row in the tensor's own precision and over rows in float64: a radius or a coefficient must not depend on
how many weights there are, and to sum every entry in float64 takes twice to four times as long.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Gradients: TypeAlias = list[Tensor | None]
"""One entry a parameter, in the stepper's order; None where the loss does not depend on it."""


def global_norm(vector: Sequence[Tensor | None]) -> float:
    """The L2 norm over all entries of all tensors."""
    return math.sqrt(sum_of_powers(vector, order=2))


def sum_of_powers(vector: Sequence[Tensor | None], order: int) -> float:
    """Σ |x|^order over all entries of all tensors, for order 1 or 2."""
    parts = [_absolute(part) if order == 1 else _squared(part) for part in vector if part is not None]
    return float(torch.stack(parts).sum()) if parts else 0.0


def inner(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> float:
    """Σ x·y over all entries of all tensors that both have."""
    parts = [_total(part) for part in combined(torch.mul, left, right) if part is not None]
    return float(torch.stack(parts).sum()) if parts else 0.0


def _absolute(part: Tensor) -> Tensor:
    return _total(part.abs())


def _squared(part: Tensor) -> Tensor:
    if part.ndim < 2:
        return part.double().square().sum()
    lengths: Tensor = torch.linalg.vector_norm(part, dim=-1)
    return lengths.double().square().sum()


def _total(part: Tensor) -> Tensor:
    return part.double().sum() if part.ndim < 2 else part.sum(-1).double().sum()


def combined(
    function: Callable[[Tensor, Tensor], Tensor], left: Sequence[Tensor | None], right: Sequence[Tensor | None]
) -> Gradients:
    """The function of each two entries; None where either is."""
    return [None if a is None or b is None else function(a, b) for a, b in zip(left, right, strict=True)]


def scaled(vector: Sequence[Tensor | None], factor: float) -> Gradients:
    """The vector times a number."""
    return [None if part is None else part * factor for part in vector]


def mixed(first: Sequence[Tensor | None], second: Sequence[Tensor | None], share: float) -> Gradients:
    """share·first + (1 - share)·second; an entry that only one has counts as zero in the other."""
    result: Gradients = []
    for a, b in zip(first, second, strict=True):
        if a is None:
            result.append(None if b is None else b * (1 - share))
        else:
            result.append(a * share if b is None else (a * share).add_(b, alpha=1 - share))
    return result


def active_rows(gradient: Tensor) -> Tensor:
    """[R, 1, ...] bool: the rows of a tensor of at least two dimensions in which any entry is not 0."""
    return (gradient != 0).flatten(1).any(1).reshape(-1, *[1] * (gradient.ndim - 1))
