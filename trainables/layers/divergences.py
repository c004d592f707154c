"""Divergences of row-wise categorical distributions, on logits."""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor


def jensen_shannon(left: Float[Tensor, "R C"], right: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """Mean over rows of JS(softmax(left) ‖ softmax(right)), in [0, log 2]; exactly 0 for equal rows.

    With d = log q - log p, the mixture m has log m - log p = softplus(d) - softplus(0), which cannot overflow and has
    no rounding error at d = 0.
    """
    log_p, log_q = F.log_softmax(left, dim=-1), F.log_softmax(right, dim=-1)
    gap = log_q - log_p
    log_two = F.softplus(torch.zeros_like(gap))
    from_p = log_two - F.softplus(gap, threshold=50)
    from_q = log_two - F.softplus(-gap, threshold=50)
    return 0.5 * (log_p.exp() * from_p + log_q.exp() * from_q).sum(-1).mean()


def released_divergence(left: Float[Tensor, "R C"], right: Float[Tensor, "R C"]) -> Float[Tensor, ""]:
    """The term that DVIB's released code calls a JS divergence, for parity: ½[KL(m‖softmax p) + KL(m‖softmax q)].

    p and q are probabilities already, so the second softmax makes them almost uniform and the value is about
    log C - H(m): a penalty on uniformity, above 0 for equal rows (strategies.md §6.3).
    """
    p, q = F.softmax(left, dim=-1), F.softmax(right, dim=-1)
    m = (p + q) / 2
    log_m = m.clamp_min(torch.finfo(m.dtype).tiny).log()
    to_p = (m * (log_m - F.log_softmax(p, dim=-1))).sum(-1).mean()
    to_q = (m * (log_m - F.log_softmax(q, dim=-1))).sum(-1).mean()
    return 0.5 * (to_p + to_q)
