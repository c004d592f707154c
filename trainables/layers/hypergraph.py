"""Hypergraphs whose edges are learnt: how far each row belongs to each of K hyperedges, and what flows through them.

Shapes: R rows (users or items; C of another table), K hyperedges, W width of an embedding. What leaves a hypergraph is
memberships [R, K] times states [K, W], a matrix of rank K; the factors stay apart where the product is not needed.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

_SHORTEST = 1e-12


def memberships(
    logits: Float[Tensor, "R K"], temperature: float, dropout: float, training: bool
) -> Float[Tensor, "R K"]:
    """Each row's shares in the hyperedges: softmax(logits / τ) over K.

    Training adds Gumbel noise to the logits (Jang et al., ICLR 2017) and then drops entries, the others scaled by
    1 / (1 - dropout); both draw from the global torch generator.
    """
    if not training:
        return F.softmax(logits / temperature, dim=-1)
    exponential = torch.empty_like(logits).exponential_().clamp_min_(torch.finfo(logits.dtype).tiny)
    return F.dropout(F.softmax((logits - exponential.log()) / temperature, dim=-1), dropout)


def hyperedge_states(
    members: Float[Tensor, "R K"], embeddings: Float[Tensor, "R W"], num_layers: int
) -> Float[Tensor, "K W"]:
    """The states of the hyperedges after L rounds of `states = membersᵀ x; x = members states`, x the embeddings first.

    Rounds after the first one cost K x K x W: they multiply by membersᵀ members.
    """
    states = members.t() @ embeddings
    if num_layers > 1:
        overlaps = members.t() @ members
        for _ in range(num_layers - 1):
            states = overlaps @ states
    return states


def cosine_factors(
    left: tuple[Float[Tensor, "R K"], Float[Tensor, "K W"]], right: tuple[Float[Tensor, "C K"], Float[Tensor, "K W"]]
) -> tuple[Float[Tensor, "R K"], Float[Tensor, "C K"]]:
    """Two tables of width K whose rows' inner products are the cosines of the rows of two products.

    With x = m s and y = n t, cos(x, y) = (m s tᵀ / |x|) · (n / |y|): a similarity matrix then costs K instead of W
    multiplications an entry. Rows shorter than 1e-12 are divided by 1e-12, as by PyTorch's `normalize`: what dropout
    leaves of a membership may be as small as 1e-30, and a row of zeros has the cosine 0.

    Args:
        left, right: (memberships, states), the factors of each product.
    """
    (left_members, left_states), (right_members, right_states) = left, right
    mixed = left_members @ (left_states @ right_states.t())
    return mixed * _inverse_lengths(*left), right_members * _inverse_lengths(*right)


def _inverse_lengths(members: Tensor, states: Tensor) -> Tensor:
    """1 / max(|row|, 1e-12) [R, 1] of members @ states, without the product itself."""
    squares = ((members @ (states @ states.t())) * members).sum(-1, keepdim=True)
    return squares.clamp_min(_SHORTEST**2).rsqrt()
