"""Backward passes over the rows that have a gradient: behind the loss of one batch most rows of a table have none."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainables.devices import finds_rows


def touched_rows(gradient: Float[Tensor, "R W"]) -> Int[Tensor, " T"] | None:
    """Ids of the rows that have a gradient; None if most have, or it does not pay to look: all count as having one."""
    if not finds_rows(gradient):
        return None
    touched: Tensor = ((gradient.amax(1) != 0) | (gradient.amin(1) != 0)).nonzero().squeeze(1)
    return touched if 2 * len(touched) < len(gradient) else None


def gather(touched: Int[Tensor, " T"] | None, *tables: Float[Tensor, "R *_"]) -> list[Tensor]:
    """These rows of every table; None takes the tables as they are."""
    return [table if touched is None else table.index_select(0, touched) for table in tables]


def spread(touched: Int[Tensor, " T"] | None, table: Float[Tensor, "T *_"], num_rows: int) -> Tensor:
    """The table's rows in their places among zeros: the inverse of `gather`."""
    if touched is None:
        return table
    return torch.zeros(num_rows, *table.shape[1:], dtype=table.dtype, device=table.device).index_copy_(
        0, touched, table
    )
