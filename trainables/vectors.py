"""Arithmetic on lists of tensors, one a parameter, as if each list were one long vector; None entries count as nothing.

Sums run over a row in the tensor's own precision and over rows in float64: a radius or a coefficient must not depend on
how many weights there are, and to sum every entry in float64 takes twice to four times as long.

Sums are float64 tensors [] where the vector is, not numbers of Python: to read one would make a GPU's host wait.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Number: TypeAlias = float | Float[Tensor, ""]
"""A number of Python's, or a tensor of one entry on any device."""

Gradients: TypeAlias = list[Tensor | None]
"""One entry a parameter, in the stepper's order; None where the loss does not depend on it."""


def global_norm(vector: Sequence[Tensor | None]) -> Float[Tensor, ""]:
    """The L2 norm over all entries of all tensors."""
    return sum_of_powers(vector, order=2).sqrt()


def sum_of_powers(vector: Sequence[Tensor | None], order: int) -> Float[Tensor, ""]:
    """Σ |x|^order over all entries of all tensors, for order 1 or 2."""
    return _sum([_absolute(part) if order == 1 else _squared(part) for part in vector if part is not None])


def inner(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Float[Tensor, ""]:
    """Σ x·y over all entries of all tensors that both have."""
    return _sum([_total(part) for part in combined(torch.mul, left, right) if part is not None])


def _sum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)


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


def scaled(vector: Sequence[Tensor | None], factor: Number) -> Gradients:
    """The vector times a number."""
    return [None if part is None else part * factor for part in vector]


def only_if(condition: Bool[Tensor, ""], vector: Sequence[Tensor | None]) -> Gradients:
    """The vector where the condition holds, else None entries; elsewhere than on a CPU, zeros stand for those.

    There the host would have to wait for the condition.
    """
    if condition.device.type == "cpu":
        return list(vector) if condition else [None] * len(vector)
    return [None if part is None else torch.where(condition, part, 0.0) for part in vector]


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
