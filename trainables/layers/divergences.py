"""Divergences of row-wise categorical distributions, on logits, so that no probability is ever clamped."""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.devices import block_rows

_ENTRIES_AT_ONCE = 2**17
"""Entries of a block of rows, so that what is computed of them stays in the cache."""

_LARGEST_GAP = 40.0
"""Of log q - log p: beyond it the terms of p are lost beside those of q, while eᵈ would in the end overflow."""


def jensen_shannon(left: Float[Tensor, "R C"], right: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """Mean over rows of JS(softmax(left) ‖ softmax(right)), in [0, log 2]; exactly 0 for equal rows.

    With d = log q - log p, the mixture m has log m - log p = log(1 + (eᵈ - 1)/2), which is as exact for the smallest
    d as for others: a divergence of 1e-9 is not lost in float32. Differentiable once.
    """
    result: Tensor = _JensenShannon.apply(left, right)  # type: ignore[no-untyped-call]
    return result


class _JensenShannon(torch.autograd.Function):
    """The divergence and, in the same pass over the rows, its gradients.

    By hand and block by block, because as a chain of PyTorch's operations it passes a dozen times over matrices of all
    items for hundreds of users, forwards and backwards, and costs more than most models. With a = log(p/m) and
    b = log(q/m), a row has JS = ½ Σ(p·a + q·b), and in the logits of p the gradient ½ p·(a - Σ p·a).
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        size = block_rows(left, _ENTRIES_AT_ONCE // max(1, left.shape[1]), left.shape[1])
        gradients = [
            torch.empty_like(side) if wanted else None
            for side, wanted in zip((left, right), ctx.needs_input_grad, strict=True)
        ]
        sums = []
        for start in range(0, len(left), size):
            rows = slice(start, start + size)
            log_p, log_q = F.log_softmax(left[rows], dim=-1), F.log_softmax(right[rows], dim=-1)
            gap = (log_q - log_p).clamp_max_(_LARGEST_GAP)
            from_p = torch.expm1(gap).mul_(0.5).log1p_().neg_()
            from_q = gap.add_(from_p)
            terms = from_p.mul_(log_p.exp_()), from_q.mul_(log_q.exp_())
            # Entry by entry the two terms have a sum that is never negative; each alone cancels out along the row.
            sums.append((terms[0] + terms[1]).sum(-1))
            for shares, part, gradient in zip((log_p, log_q), terms, gradients, strict=True):
                if gradient is not None:
                    torch.sub(part, shares.mul_(part.sum(-1, keepdim=True)), out=gradient[rows])
        ctx.save_for_backward(*gradients)
        ctx.scale = 0.5 / max(1, len(left))
        divergence: Tensor = torch.cat(sums).sum() * ctx.scale
        return divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = (None if side is None else side * (gradient * ctx.scale) for side in ctx.saved_tensors)
        return left, right


def kullback_leibler(left: Float[Tensor, "R C"], right: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """Mean over rows of KL(softmax(left) ‖ softmax(right)) in nats, at least 0; exactly 0 for equal rows."""
    log_p, log_q = F.log_softmax(left, dim=-1), F.log_softmax(right, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def uniformity_penalty(logits: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """Mean over rows of log C - H(softmax(logits)) in nats, in [0, log C]; 0 where every row is uniform.

    H is the entropy, so minimising it spreads the probability: it is KL(p ‖ uniform).
    """
    log_p = F.log_softmax(logits, dim=-1)
    return (log_p.exp() * (log_p + math.log(logits.shape[-1]))).sum(-1).mean()


def released_divergence(left: Float[Tensor, "R C"], right: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """The term that DVIB's released code calls a JS divergence, for parity: ½[KL(m‖softmax p) + KL(m‖softmax q)].

    p and q are probabilities already, so the second softmax makes them almost uniform and the value is about
    log C - H(m): a penalty on certainty, above 0 for equal rows (strategies.md §6.3).
    """
    log_p, log_q = F.log_softmax(left, dim=-1), F.log_softmax(right, dim=-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    m = log_m.exp()
    to_p = (m * (log_m - F.log_softmax(log_p.exp(), dim=-1))).sum(-1).mean()
    to_q = (m * (log_m - F.log_softmax(log_q.exp(), dim=-1))).sum(-1).mean()
    return 0.5 * (to_p + to_q)
