"""Losses and regularisers that several models share, as pure functions of gathered rows."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from trainables.layers.tensors import rows
from trainables.types import Batch


def batch_rows(
    users: Float[Tensor, "U W"], items: Float[Tensor, "I W"], batch: Batch
) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B W"], Float[Tensor, "B K W"]]:
    """The rows of a batch's users, of its positives and of its negatives."""
    return rows(users, batch.users), rows(items, batch.positives), rows(items, batch.negatives)


def pair_scores(
    users: Float[Tensor, "B W"], positives: Float[Tensor, "B W"], negatives: Float[Tensor, "B K W"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B K"]]:
    """Inner products of each user with its positive and with its negatives."""
    return (users * positives).sum(-1), (users[:, None, :] * negatives).sum(-1)


def bpr_mean(positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Mean over pairs of -log sigmoid(positive - negative), as softplus, which cannot overflow (BPR, Rendle 2009)."""
    return F.softplus(negative - positive[:, None]).mean()


def bpr_sum(positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """The sum over pairs of what `bpr_mean` averages (LayerGCN)."""
    return F.softplus(negative - positive[:, None]).sum()


class _HalfSquaredNorm(torch.autograd.Function):
    """One pass over the blocks each way; PyTorch's own takes five."""

    @staticmethod
    def forward(ctx: Any, *blocks: Tensor) -> Tensor:
        ctx.save_for_backward(*blocks)
        return torch.stack([torch.linalg.vector_norm(block) for block in blocks]).square().sum() / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        return tuple(gradient * block if needed else None for block, needed in parts)


def half_squared_norm(*blocks: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Half the sum of squares of all entries, divided by nothing: the classical L2 penalty (MMRec's L2Loss)."""
    result: Tensor = _HalfSquaredNorm.apply(*blocks)  # type: ignore[no-untyped-call]
    return result


def embedding_norm(*blocks: Float[Tensor, "*_ W"]) -> Float[Tensor, ""]:
    """Sum of the un-squared Frobenius norms of the blocks, divided by the rows of the last one.

    MMRec's EmbLoss (models.md §0), kept so that published regularisation weights keep their meaning. Not the squared
    norm of the LightGCN paper: a weight from there does not carry over.
    """
    total = torch.stack([torch.linalg.vector_norm(block) for block in blocks]).sum()
    return total / (blocks[-1].numel() // blocks[-1].shape[-1])


def cosine_distance(left: Float[Tensor, "B W"], right: Float[Tensor, "B W"]) -> Float[Tensor, ""]:
    """1 - mean cosine similarity of matching rows, in [0, 2]."""
    return 1 - F.cosine_similarity(left, right, dim=-1).mean()
