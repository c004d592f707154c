"""What pays on a CPU only, decided in one place: to look for the few rows that matter, and to work in small blocks.

On a CPU a row that is not computed is time saved. On a GPU it is none worth having, and to find out which rows matter
the host would have to wait for all that was queued before; there every row is computed, and the same formulas hold for
ids that repeat.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_ENTRIES = 1 << 26
"""Entries of a block elsewhere than on a CPU: 256 MB in float32, so that most tables are one block."""


def finds_rows(values: Tensor) -> bool:
    """Whether it pays to look at the values where this tensor is."""
    return values.device.type == "cpu"


def distinct(ids: Int[Tensor, " B"]) -> Int[Tensor, " R"]:
    """The distinct ids in ascending order; elsewhere than on a CPU the ids as they are."""
    return torch.unique(ids) if finds_rows(ids) else ids


def distinct_and_places(ids: Int[Tensor, " B"]) -> tuple[Int[Tensor, " R"], Int[Tensor, " B"]]:
    """The ids as by `distinct`, and where each given id stands among them."""
    if not finds_rows(ids):
        return ids, torch.arange(len(ids), device=ids.device)
    index, places = torch.unique(ids, return_inverse=True)
    return index, places


def first_places(ids: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Whether an id occurs for the first time."""
    return ~(ids[:, None] == ids[None, :]).tril(-1).any(1)


def block_rows(values: Tensor, on_cpu: int, width: int) -> int:
    """Rows of a block, at least 1: the given number on a CPU, elsewhere as many as a launch is worth.

    Args:
        on_cpu: rows that stay in a core's cache.
        width: entries that a row of the block has.
    """
    return max(1, on_cpu if finds_rows(values) else _ENTRIES // max(1, width))
