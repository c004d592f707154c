"""Layers of graph networks that are computed some 2,000 rows at a time, with hand-written backward passes.

A chain of row-wise operations on a whole table streams the table through memory once per operation; a block of rows
stays in a core's cache from the first to the last.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.devices import block_rows
from trainables.layers.dropout import dropout_factors
from trainables.layers.propagation import SparseOperator, sparse_product
from trainables.layers.touched_rows import gather, spread, touched_rows

BLOCK_ROWS = 2048
COSINE_EPSILON = 1e-8


def _blocks(table: Tensor) -> list[slice]:
    size = block_rows(table, BLOCK_ROWS, table[:1].numel())
    return [slice(start, start + size) for start in range(0, len(table), size)]


class _Gate(NamedTuple):
    """What the backward pass needs of a block of rows whose output is a ⊙ Y, with a = cos(Y, X⁰) of each row."""

    neighbours: Tensor
    """Y [R, W]."""
    cosine: Tensor
    """a [R, 1]."""
    to_anchor: Tensor
    """1 / (‖Y‖ ‖X⁰‖) [R, 1]: what ∂a/∂Y has of X⁰, and ∂a/∂X⁰ of Y."""
    to_itself: Tensor
    """-a / ‖Y‖² [R, 1]: what ∂a/∂Y has of Y."""


def _safe_norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms.clamp_min_(COSINE_EPSILON)


def _inverse_squares(safe_norms: Tensor) -> Tensor:
    """1 / ‖·‖², and 0 where the norm was raised to ε and therefore is a constant."""
    return safe_norms.pow(-2).masked_fill_(safe_norms <= COSINE_EPSILON, 0)


def _gated(neighbours: Tensor, anchor: Tensor, anchor_norms: Tensor, total: Tensor) -> tuple[list[_Gate], Tensor]:
    """A hop's output a ⊙ Y, which is also added to `total`."""
    output, hop = torch.empty_like(neighbours), []
    for rows in _blocks(neighbours):
        y, x = neighbours[rows], anchor[rows]
        y_norms = _safe_norms(y)
        to_anchor = (y_norms * anchor_norms[rows]).reciprocal_()
        cosine = (y * x).sum(1, keepdim=True) * to_anchor
        total[rows] += torch.mul(y, cosine, out=output[rows])
        hop.append(_Gate(y, cosine, to_anchor, -cosine * _inverse_squares(y_norms)))
    return hop, output


def _gate_gradient(
    hop: list[_Gate], anchor: Tensor, gradient: Tensor, anchor_gradient: Tensor, turning: Tensor
) -> Tensor:
    """The gradient with respect to Y; adds X⁰'s part along Y to `anchor_gradient`, and a ∂L/∂a to `turning`."""
    output = torch.empty_like(gradient)
    for rows, (y, cosine, to_anchor, to_itself) in zip(_blocks(gradient), hop, strict=True):
        of_cosine = (gradient[rows] * y).sum(1, keepdim=True)  # ∂L/∂a
        torch.mul(gradient[rows], cosine, out=output[rows])
        output[rows].addcmul_(anchor[rows], of_cosine * to_anchor).addcmul_(y, of_cosine * to_itself)
        anchor_gradient[rows].addcmul_(y, of_cosine * to_anchor)
        turning[rows].addcmul_(of_cosine, cosine)
    return output


class _CosineRefinement(torch.autograd.Function):
    """Two chains of hops, one from the users and one from the items: hop l of a side needs hop l - 1 of the other.

    Sides: 0 users, 1 items. `halves[side]` takes the other side's rows to this one's; its transpose is the other half.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, graph: SparseOperator, num_layers: int
    ) -> tuple[Tensor, Tensor]:
        anchors, halves = (users, items), (graph.matrix, graph.transpose)
        norms = [_safe_norms(anchor) for anchor in anchors]
        totals = [torch.zeros_like(anchor) for anchor in anchors]
        chains: list[list[list[_Gate]]] = [[], []]
        for start, chain in enumerate(chains):
            value, side = anchors[start], start
            for _ in range(num_layers):
                side = 1 - side
                hop, value = _gated(sparse_product(halves[side], value), anchors[side], norms[side], totals[side])
                chain.append(hop)
        ctx.save_for_backward(*anchors, *norms)
        ctx.chains, ctx.halves = chains, halves
        return totals[0], totals[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gradients, anchors, norms = (users, items), ctx.saved_tensors[:2], ctx.saved_tensors[2:]
        anchor_gradients = [torch.zeros_like(anchor) for anchor in anchors]
        turning = [torch.zeros_like(norm) for norm in norms]
        for start, chain in enumerate(ctx.chains):
            side = start if len(chain) % 2 == 0 else 1 - start
            gradient = gradients[side]
            for hops_before, hop in reversed(list(enumerate(chain))):
                inner = _gate_gradient(hop, anchors[side], gradient, anchor_gradients[side], turning[side])
                side = 1 - side
                if hops_before:
                    gradient = sparse_product(ctx.halves[side], inner).add_(gradients[side])
                else:
                    anchor_gradients[side] += sparse_product(ctx.halves[side], inner)
        for total, anchor, norm, along in zip(anchor_gradients, anchors, norms, turning, strict=True):
            total.addcmul_(anchor, along * _inverse_squares(norm), value=-1)
        return anchor_gradients[0], anchor_gradients[1], None, None


def cosine_refinement(
    graph: SparseOperator, users: Float[Tensor, "U W"], items: Float[Tensor, "I W"], num_layers: int
) -> tuple[Float[Tensor, "U W"], Float[Tensor, "I W"]]:
    """LayerGCN's propagation (Zhou et al., ICDE 2023): Σ Xˡ over l = 1..L, with Xˡ = cos(Y, X⁰) ⊙ Y and Y = Â Xˡ⁻¹.

    The cosine is taken row by row as in PyTorch: norms below 1e-8 count as 1e-8, so a row without an edge stays 0.

    Args:
        graph: R̂ [U, I], the user-item half of the symmetric adjacency.
        num_layers: L, at least 1.
    """
    result: tuple[Tensor, Tensor] = _CosineRefinement.apply(users, items, graph, num_layers)  # type: ignore[no-untyped-call]
    return result


class _BiInteraction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        ego: Tensor,
        messages: Tensor,
        of_sum: Tensor,
        of_product: Tensor,
        bias: Tensor,
        slope: float,
        rate: float,
    ) -> Tensor:
        output = ego.new_empty(len(ego), len(bias))
        factors = [torch.empty_like(output)] if rate else []
        for rows in _blocks(output):
            e, m, out = ego[rows], messages[rows], output[rows]
            torch.addmm(bias, e + m, of_sum.t(), out=out)
            F.leaky_relu_(out.addmm_(e * m, of_product.t()), slope)
            for table in factors:
                table[rows] = dropout_factors(tuple(out.shape), rate, out)
                out.mul_(table[rows])
        ctx.save_for_backward(of_sum, of_product, ego, messages, output, *factors)
        ctx.slope = slope
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_sum, of_product, *saved = ctx.saved_tensors
        chosen = touched_rows(gradient)
        tables = gather(chosen, *saved, gradient)
        to_ego, to_messages = torch.empty_like(tables[0]), torch.empty_like(tables[1])
        to_sum, to_product = torch.zeros_like(of_sum), torch.zeros_like(of_product)
        to_bias = gradient.new_zeros(gradient.shape[1])
        for rows in _blocks(to_ego):
            e, m, out, *factors, g = (table[rows] for table in tables)
            inner = torch.ops.aten.leaky_relu_backward(g, out, ctx.slope, True)
            for factor in factors:
                inner.mul_(factor)
            to_sum.addmm_(inner.t(), e + m)
            to_product.addmm_(inner.t(), e * m)
            to_bias += inner.sum(0)
            straight, crossed = inner @ of_sum, inner @ of_product
            torch.addcmul(straight, crossed, m, out=to_ego[rows])
            torch.addcmul(straight, crossed, e, out=to_messages[rows])
        of_rows = (spread(chosen, table, len(gradient)) for table in (to_ego, to_messages))
        return *of_rows, to_sum, to_product, to_bias, None, None


def bi_interaction(
    ego: Float[Tensor, "R W"],
    messages: Float[Tensor, "R W"],
    of_sum: Float[Tensor, "V W"],
    of_product: Float[Tensor, "V W"],
    bias: Float[Tensor, " V"],
    *,
    slope: float = 0.2,
    dropout: float = 0.0,
) -> Float[Tensor, "R V"]:
    """NGCF's layer behind its propagation: dropout(LeakyReLU((E + M) W1ᵀ + (E ⊙ M) W2ᵀ + b)).

    Args:
        ego: E, the rows of the layer before.
        messages: M = Â E.
        of_sum: W1.
        of_product: W2.
        slope: LeakyReLU's, for negative values.
        dropout: share of the output's entries set to 0, the others growing in proportion.
    """
    result: Tensor = _BiInteraction.apply(ego, messages, of_sum, of_product, bias, slope, dropout)  # type: ignore[no-untyped-call]
    return result


class _UnitLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *layers: Tensor) -> Tensor:
        unit = layers[0].new_empty(len(layers[0]), len(layers), layers[0].shape[1])  # [R, L + 1, W]
        inverse = unit.new_ones(len(unit), len(layers), 1)
        for rows in _blocks(unit):
            torch.stack([layer[rows] for layer in layers], dim=1, out=unit[rows])
            lengths = torch.linalg.vector_norm(unit[rows, 1:], dim=2, keepdim=True)
            inverse[rows, 1:] = torch.where(lengths > 0, lengths.reciprocal(), lengths)
            unit[rows] *= inverse[rows]
        ctx.save_for_backward(unit, inverse)
        return unit.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        unit, inverse = ctx.saved_tensors
        chosen = touched_rows(gradient)
        u, scale, g = gather(chosen, unit, inverse, gradient.view(unit.shape))
        along = (u * g).sum(2, keepdim=True)
        along[:, 0] = 0
        result = torch.addcmul(g, u, along, value=-1).mul_(scale)
        return tuple(spread(chosen, table, len(unit)) for table in result.unbind(1))


def unit_layers(layers: Sequence[Float[Tensor, "R W"]]) -> Float[Tensor, "R V"]:
    """NGCF's output [E⁰ ‖ E¹/‖E¹‖ ‖ ... ‖ Eᴸ/‖Eᴸ‖], layers side by side; a row of zeros stays zero.

    unit_rows and torch.cat in one, whose backward pass visits only rows that have a gradient.
    """
    result: Tensor = _UnitLayers.apply(*layers)  # type: ignore[no-untyped-call]
    return result
