"""Modality features and their projections, over all items or over those that a batch sees.

Projecting every item for every batch is what the reference implementations do, and most of their time. Where a loss
looks at the items of its batch alone, only their rows are computed; the other rows are 0 and nobody reads them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainables.devices import finds_rows
from trainables.layers.dense import affine, constant, product, product_by_mkl
from trainables.layers.tensors import shared_tensor
from trainables.types import Batch

_BLOCK_ROWS = 256


def batch_items(batch: Batch | None) -> Int[Tensor, " R"] | None:
    """The distinct items of a batch, positives and negatives, in ascending order; None stands for all items.

    All it is without a batch, and where computing all costs less than looking.
    """
    if batch is None or not finds_rows(batch.positives):
        return None
    items: Tensor = torch.unique(torch.cat([batch.positives, batch.negatives.reshape(-1)]))
    return items


def project_rows(
    table: Float[Tensor, "I F"], projection: nn.Module, items: Int[Tensor, " R"] | None
) -> Float[Tensor, "I D"]:
    """The linear map of the table's rows at the given items, in their places among zeros; None maps all rows."""
    weight, bias = projection.get_parameter("weight"), projection.get_parameter("bias")
    if items is None:
        return affine(table, weight, bias)
    projected: Tensor = _RowProjection.apply(table, weight, bias, items)  # type: ignore[no-untyped-call]
    return projected


class _RowProjection(torch.autograd.Function):
    """table[items] @ weightᵀ + bias in the rows of distinct items, zeros elsewhere.

    By hand, because the gradient of a trainable table is 0 but in these rows: they are written into it once, block by
    block, instead of passing through a second matrix as large as the chosen rows.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, weight: Tensor, bias: Tensor, items: Tensor) -> Tensor:
        chosen = table.index_select(0, items)
        ctx.save_for_backward(chosen, weight, items)
        ctx.shape = table.shape
        return table.new_zeros(len(table), len(weight)).index_copy_(0, items, affine(chosen, weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        chosen, weight, items = ctx.saved_tensors
        gradient = gradient.index_select(0, items)
        by_table = None
        if ctx.needs_input_grad[0]:
            by_table = chosen.new_zeros(ctx.shape)
            for places, block in zip(torch.split(items, _BLOCK_ROWS), torch.split(gradient, _BLOCK_ROWS), strict=True):
                by_table.index_copy_(0, places, product_by_mkl(block, weight))
        return by_table, product(gradient.t(), chosen), gradient.sum(0), None


class FrozenFeatures(nn.Module):
    """The raw features [I, F] of each modality as constants, by name; they share the data set's memory."""

    def __init__(self, features: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.names = tuple(features)
        for name, array in features.items():
            self.register_buffer(f"{name}_features", shared_tensor(array), persistent=False)

    def places(self) -> dict[str, str]:
        """The buffer's name by modality."""
        return {name: f"{name}_features" for name in self.names}

    def __getitem__(self, name: str) -> Float[Tensor, "I F"]:
        return constant(getattr(self, f"{name}_features"))


class ProjectedFeatures(nn.Module):
    """Per modality a trainable table initialised with the raw features [I, F], and a linear map F -> D.

    The table is trained like every weight (models.md §6, §7: `freeze=False` in MMRec), which is why these models have
    tens of millions of parameters on wide features.
    """

    def __init__(self, features: Mapping[str, np.ndarray], project: Callable[[int], nn.Linear]) -> None:
        super().__init__()
        self.names = tuple(features)
        self.tables = nn.ParameterList(torch.from_numpy(np.array(features[name])) for name in self.names)
        self.projections = nn.ModuleList(project(features[name].shape[1]) for name in self.names)

    def places(self) -> dict[str, str]:
        """The parameter's name by modality."""
        return {name: f"tables.{index}" for index, name in enumerate(self.names)}

    def forward(self, items: Int[Tensor, " R"] | None = None) -> dict[str, Float[Tensor, "I D"]]:
        """Projected features by modality, of all items or of the given ones among zeros."""
        parts = zip(self.names, self.tables, self.projections, strict=True)
        return {name: project_rows(table, projection, items) for name, table, projection in parts}
