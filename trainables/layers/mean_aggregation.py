"""MMGCN's layer: the mean of a node's neighbours beside a transformation of the node itself."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainables.layers.dense import product, product_by_mkl
from trainables.layers.graphs import CsrArrays, row_mean
from trainables.layers.propagation import SparseOperator
from trainables.layers.tensors import (
    linear_default,
    linear_xavier_normal,
    unit_rows,
    unit_rows_and_lengths,
    xavier_normal,
)
from trainables.layers.touched_rows import gather, spread, touched_rows

SLOPE = 0.01
"""Of the leaky ReLU, for negative values."""


class MeanGraph(nn.Module):
    """The mean over a user's items and the mean over an item's users; 0 for those that have none."""

    def __init__(self, interactions: CsrArrays) -> None:
        super().__init__()
        self.over_items = SparseOperator(row_mean(interactions))
        self.over_users = SparseOperator(row_mean(interactions.transpose()))


class MeanLayer(nn.Module):
    """x <- lrelu(G [h ‖ x̂] + g) with h = lrelu(Â_mean x C) and x̂ = lrelu(L x + l) + e, e the id embedding.

    One layer of MMGCN (Wei et al., MM 2019; models.md §8), from width W to D. Both products with C [W, W] run on the
    items, of which there are fewer than users: Â_mean (x C) for the users, (Â_mean x) C for the items.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, *, first: bool) -> None:
        super().__init__()
        self.message = xavier_normal(inputs, inputs, generator)
        self.own = linear_xavier_normal(inputs, outputs, generator, zero_bias=False)
        if first:
            self.joint = linear_xavier_normal(inputs + outputs, outputs, generator, zero_bias=False)
        else:
            self.joint = linear_default(inputs + outputs, outputs, generator)

    def forward(
        self,
        graph: MeanGraph,
        nodes: tuple[Float[Tensor, "U W"], Float[Tensor, "I W"]],
        ids: tuple[Float[Tensor, "U D"], Float[Tensor, "I D"]],
    ) -> tuple[Float[Tensor, "U D"], Float[Tensor, "I D"]]:
        """Users and items; each large table is read soon after it was written, while the cache still holds it."""
        weights = self.own.weight, self.own.bias, self.joint.weight, self.joint.bias
        users, items = nodes
        to_items = product(graph.over_users(users), self.message)
        new_items = update_nodes(to_items, items, ids[1], *weights)
        to_users = graph.over_items(product(items, self.message))
        return update_nodes(to_users, users, ids[0], *weights), new_items


class MeanNetwork(nn.Module):
    """One modality's layers. A user enters them with a free vector, the preference, an item with its features."""

    def __init__(
        self, num_users: int, width: int, embedding_size: int, num_layers: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.preference = xavier_normal(num_users, width, generator)
        widths = [width] + [embedding_size] * (num_layers - 1)
        self.layers = nn.ModuleList(
            MeanLayer(inputs, embedding_size, generator, first=place == 0) for place, inputs in enumerate(widths)
        )

    def forward(
        self, graph: MeanGraph, features: Float[Tensor, "I W"], ids: tuple[Float[Tensor, "U D"], Float[Tensor, "I D"]]
    ) -> tuple[Float[Tensor, "U D"], Float[Tensor, "I D"], Float[Tensor, ""]]:
        """Users and items, and the mean square of the preferences."""
        users, lengths = unit_rows_and_lengths(self.preference)
        nodes = users, unit_rows(features)
        for layer in self.layers:
            nodes = layer(graph, nodes, ids)
        return *nodes, lengths.square().sum() / self.preference.numel()


class _NodeUpdate(torch.autograd.Function):
    """By hand, for two reasons: no concatenation, and behind a batch's loss most rows have no gradient to pass back."""

    @staticmethod
    def forward(
        ctx: Any,
        messages: Tensor,
        nodes: Tensor,
        ids: Tensor,
        own: Tensor,
        own_bias: Tensor,
        joint: Tensor,
        joint_bias: Tensor,
    ) -> Tensor:
        heard = F.leaky_relu(messages, SLOPE)
        inner = product(nodes, own.t(), own_bias)
        of_heard, of_kept = _halves(joint)
        output = product(heard, of_heard.t(), joint_bias)
        output += product(_kept(inner, ids), of_kept.t())
        F.leaky_relu_(output, SLOPE)
        ctx.save_for_backward(heard, nodes, ids, inner, output, own, joint)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *tables, own, joint = ctx.saved_tensors
        touched = touched_rows(gradient)
        heard, nodes, ids, inner, output, by_output = gather(touched, *tables, gradient)
        of_heard, of_kept = _halves(joint)
        by_joint = _leaky_backward(by_output, output)
        by_messages = _leaky_backward(product(by_joint, of_heard), heard)
        by_ids = product(by_joint, of_kept)
        by_inner = _leaky_backward(by_ids, inner)
        by_nodes = product(by_inner, own) if ctx.needs_input_grad[1] else None
        by_tables = by_messages, by_nodes, by_ids
        of_rows = [None if table is None else spread(touched, table, len(gradient)) for table in by_tables]
        by_own = product_by_mkl(nodes.t(), by_inner).t()
        by_halves = [product_by_mkl(half.t(), by_joint) for half in (heard, _kept(inner, ids))]
        return *of_rows, by_own, by_inner.sum(0), torch.cat(by_halves).t(), by_joint.sum(0)


def _halves(joint: Tensor) -> tuple[Tensor, Tensor]:
    """G's columns for the messages and those for the node itself."""
    heard, kept = torch.split(joint, [joint.shape[1] - len(joint), len(joint)], dim=1)
    return heard.contiguous(), kept.contiguous()


def _kept(inner: Tensor, ids: Tensor) -> Tensor:
    return F.leaky_relu(inner, SLOPE).add_(ids)


def _leaky_backward(gradient: Tensor, signs: Tensor) -> Tensor:
    """The gradient through a leaky ReLU, given its input or its output, which have the same signs."""
    result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, signs, SLOPE, False)
    return result


def update_nodes(
    messages: Float[Tensor, "R W"],
    nodes: Float[Tensor, "R W"],
    ids: Float[Tensor, "R D"],
    own: Float[Tensor, "D W"],
    own_bias: Float[Tensor, " D"],
    joint: Float[Tensor, "D V"],
    joint_bias: Float[Tensor, " D"],
) -> Float[Tensor, "R D"]:
    """lrelu(G [lrelu(m) ‖ lrelu(L x + l) + e] + g): what a layer does to one node at a time.

    Args:
        messages: m, before their activation.
        nodes: x.
        ids: e.
        own: L, with `own_bias` l.
        joint: G, of width V = W + D, with `joint_bias` g.
    """
    arguments = messages, nodes, ids, own, own_bias, joint, joint_bias
    result: Tensor = _NodeUpdate.apply(*arguments)  # type: ignore[no-untyped-call]
    return result
