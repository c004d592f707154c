"""Tensors from read-only NumPy arrays, and parameters drawn from a given generator."""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory, no copy. The array may be read-only shared memory: never write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def rows(table: Float[Tensor, "R W"], index: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape W"]:
    """The table's rows at the given ids; its backward pass adds up repeated rows in one sweep, without sorting."""
    return nn.functional.embedding(index, table)


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        unit = values * _inverse(lengths)
        ctx.save_for_backward(unit, lengths)
        return unit, lengths

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_lengths: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = (unit * gradient).sum(-1, keepdim=True) - of_lengths * lengths
        result: Tensor = torch.addcmul(gradient, unit, along, value=-1).mul_(_inverse(lengths))
        return result


def _inverse(lengths: Tensor) -> Tensor:
    return torch.where(lengths > 0, lengths.reciprocal(), lengths)


def unit_rows(values: Float[Tensor, "R W"]) -> Float[Tensor, "R W"]:
    """Every row divided by its L2 norm; a row of zeros stays zero and passes no gradient on."""
    return unit_rows_and_lengths(values)[0]


def unit_rows_and_lengths(values: Float[Tensor, "R W"]) -> tuple[Float[Tensor, "R W"], Float[Tensor, "R 1"]]:
    """The rows as in `unit_rows`, and their L2 norms: what acts on both costs one gradient of the size of `values`."""
    result: tuple[Tensor, Tensor] = _UnitRows.apply(values)  # type: ignore[no-untyped-call]
    return result


def xavier_uniform(num_rows: int, num_columns: int, generator: torch.Generator) -> nn.Parameter:
    """A parameter [num_rows, num_columns], uniform with Glorot's bound sqrt(6 / (rows + columns))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_rows, num_columns), generator=generator))


def xavier_normal(num_rows: int, num_columns: int, generator: torch.Generator) -> nn.Parameter:
    """A parameter [num_rows, num_columns], normal with Glorot's deviation sqrt(2 / (rows + columns))."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(num_rows, num_columns), generator=generator))


def linear_default(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer as PyTorch initialises it (weight and bias uniform within 1/sqrt(inputs)), from the generator."""
    layer: nn.Linear = _UndrawnLinear(inputs, outputs)
    bound = inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def linear_xavier_normal(inputs: int, outputs: int, generator: torch.Generator, *, zero_bias: bool) -> nn.Linear:
    """A linear layer with Glorot-normal weight; its bias is 0, or PyTorch's default."""
    layer = linear_default(inputs, outputs, generator)
    nn.init.xavier_normal_(layer.weight, generator=generator)
    if zero_bias:
        nn.init.zeros_(layer.bias)
    return layer


def linear_xavier_uniform(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with Glorot-uniform weight and bias 0."""
    layer = _UndrawnLinear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class _UndrawnLinear(nn.Linear):
    """A linear layer whose weights are not drawn: PyTorch's own initialisation would consume global randomness.

    `torch.nn.utils.skip_init` does the same by way of meta tensors, for which PyTorch imports SymPy: half a second of
    CPU and 34 MB in every process.
    """

    def reset_parameters(self) -> None:
        """Leaves the weights as they are."""
