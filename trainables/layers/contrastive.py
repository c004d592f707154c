"""Contrasts of rows against candidates (InfoNCE), whose similarity matrix exists a block of rows at a time.

A row that a batch repeats may be computed once and weighted by its count, as row and as candidate: the same loss, which
pays on a CPU. Value and
gradients come out of one sweep over the blocks: three products, one exponential, and nothing of the size rows x
candidates is ever stored.
"""

from collections.abc import Iterator
from math import inf, log
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.devices import block_rows, distinct_and_places
from trainables.layers.tensors import rows

_BLOCK = 1 << 18
"""Similarities in a block: 1 MB in float32, which stays in the cache over the passes of a block."""
_BOUNDED = 50.0
"""Similarities up to this size need no shift before exp: float32 ends at exp(88), and sums have many terms."""
_NARROW = 16
"""Sums of products with fewer columns are kept column by column, which MKL adds to several times faster."""


def in_batch_infonce(
    left: Float[Tensor, "R W"],
    right: Float[Tensor, "C W"],
    pairs: tuple[Int[Tensor, " B"], Int[Tensor, " B"]],
    temperature: float,
    largest: float = inf,
) -> Float[Tensor, ""]:
    """Mean over a batch's pairs b of -log(exp(l_b·r_b / τ) / Σ_c exp(l_b·r_c / τ)), c over the pairs of the batch.

    InfoNCE (van den Oord et al., 2018) in one direction; similarities are inner products, unit rows make them cosines.
    Differentiable once.

    Args:
        left, right: the batch's rows, each once or as often as it occurs.
        pairs: for each pair its row of `left` and its row of `right`.
        temperature: τ.
        largest: no inner product of two rows is larger in size, which saves two passes where it is known.
    """
    counts = _counts(pairs[1], right)
    return _contrast(left, right, pairs, counts, temperature, largest) / len(pairs[0])


def contrast_with_all(
    left: Float[Tensor, "R W"],
    right: Float[Tensor, "R W"],
    chosen: Int[Tensor, " B"],
    temperature: float,
    largest: float = inf,
) -> Float[Tensor, ""]:
    """Sum over the chosen rows b of -log(exp(l_b·r_b / τ) / Σ_k exp(l_b·r_k / τ)), k over all rows of `right`.

    Differentiable once.

    Args:
        temperature: τ.
        largest: no inner product of two rows is larger in size, which saves two passes where it is known.
    """
    index, position = distinct_and_places(chosen)
    once = torch.ones_like(right[:, 0])
    return _contrast(rows(left, index), right, (position, chosen), once, temperature, largest)


def _contrast(
    left: Tensor,
    right: Tensor,
    pairs: tuple[Tensor, Tensor],
    weights: Tensor,
    temperature: float,
    largest: float,
) -> Tensor:
    """Σ_b [log Σ_c v_c exp(l_b·r_c / τ) - l_b·r_b / τ] with candidates' weights v [C] > 0."""
    result: Tensor = _Contrast.apply(  # type: ignore[no-untyped-call]
        left, right, pairs, weights.to(left.dtype), temperature, largest, torch.is_grad_enabled()
    )
    return result


class _Contrast(torch.autograd.Function):
    """The gradients are computed beside the value; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor,
        pairs: tuple[Tensor, Tensor],
        weights: Tensor,
        temperature: float,
        largest: float,
        differentiable: bool,
    ) -> Tensor:
        scaled, bounded = left / temperature, largest / temperature <= _BOUNDED
        counts = _counts(pairs[0], left)
        sweep = _with_gradients if differentiable and any(ctx.needs_input_grad) else _without_gradients
        value, gradients = sweep(scaled, right, counts, weights, bounded)
        starts, partners = scaled[pairs[0]], right[pairs[1]]
        if gradients:
            gradients[0].index_add_(0, pairs[0], partners, alpha=-1)
            gradients[1].index_add_(0, pairs[1], starts, alpha=-1)
            ctx.save_for_backward(gradients[0].div_(temperature), gradients[1])
        return value - (starts * partners).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return gradient * left, gradient * right, None, None, None, None, None


def _counts(places: Tensor, table: Tensor) -> Tensor:
    """How often each row of the table is meant, in its precision. Sums of ones are exact, in any order."""
    ones = table.new_ones(()).expand(len(places))
    return table.new_zeros(len(table)).index_add_(0, places, ones)


def _with_gradients(
    left: Tensor, right: Tensor, counts: Tensor, weights: Tensor, bounded: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Σ_r n_r log Σ_c v_c exp(l_r·r_c) with counts n and weights v, and its gradients in both tables."""
    candidates = (right * weights[:, None]).t().contiguous()  # [W, C]
    narrow = right.shape[1] < _NARROW
    right_gradient = torch.zeros_like(candidates).t() if narrow else torch.zeros_like(right)
    value, left_gradient = left.new_zeros(()), torch.empty_like(left)
    for block, powers, peaks in _blocks(left, right, bounded):
        sums = powers @ weights
        value += counts[block] @ (sums.log() + peaks)
        share = (counts[block] / sums)[:, None]
        left_gradient[block] = (powers @ candidates.t()) * share
        right_gradient.addmm_(powers.t(), left[block] * share)
    return value, (left_gradient, right_gradient.mul_(weights[:, None]))


def _without_gradients(
    left: Tensor, right: Tensor, counts: Tensor, weights: Tensor, bounded: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    value = left.new_zeros(())
    for block, powers, peaks in _blocks(left, right, bounded):
        value += counts[block] @ ((powers @ weights).log() + peaks)
    return value, ()


def _blocks(left: Tensor, right: Tensor, bounded: bool) -> Iterator[tuple[slice, Tensor, Tensor | float]]:
    """Blocks of rows: where they are, exp(l_r·r_c - peak_r) [rows, C], and the peaks, each row's largest l_r·r_c or 0.

    The powers are taken to base 2, at a third of the cost of base e.
    """
    in_base_two, columns = left / log(2), right.t().contiguous()
    step = block_rows(left, _BLOCK // len(right), len(right))
    for start in range(0, len(left), step):
        block = slice(start, start + step)
        logits = in_base_two[block] @ columns
        if bounded:
            yield block, logits.exp2_(), 0.0
        else:
            peaks = logits.amax(1, keepdim=True)
            yield block, logits.sub_(peaks).exp2_(), peaks[:, 0] * log(2)
