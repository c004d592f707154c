"""SelfCF: self-supervised collaborative filtering without negative samples."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.layers.dense import product
from trainables.layers.dropout import dropout
from trainables.layers.edge_dropout import DroppableAdjacency, uniform_rate
from trainables.layers.losses import cosine_distance, half_squared_norm
from trainables.layers.propagation import light_propagation
from trainables.layers.tensors import linear_default, rows, xavier_uniform
from trainables.models.base import ModelConfig, Recommender, Scorer
from trainables.types import Batch, Fused, Hidden, Losses


class SelfCF(Recommender):
    """A predictor maps a user onto a disturbed, gradient-stopped copy of its item, and an item onto one of its user.

    Paper: Zhou et al., "SelfCF: A Simple Framework for Self-supervised Collaborative Filtering", TORS 2023; the encoder
    is LightGCN. Variants are ways to disturb the copy: embedding dropout (`ed`, the only one in MMRec), a mixture with
    the copy of earlier batches (`he`), one more hop over a graph without some edges (`ep`, no regulariser). As in the
    authors' code the encoder of `ed` and `he` itself drops edges in training, at a rate drawn from U(0, 1) for each
    pass, both directions of an edge independently.
    H for DVIB is the encoder's output for users and items, before predictor and target (strategies.md §6.4).
    """

    uses_negatives = False
    user_history: Tensor
    item_history: Tensor

    class Config(ModelConfig):
        """SelfCF's numbers."""

        variant: Literal["ed", "he", "ep"] = "ed"
        """How the target differs from the encoder's output: embedding dropout, history, edge pruning."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops L of the encoder."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """`ed`: share of a target's entries set to 0; `ep`: share of edges dropped in its hop; `he`: unused."""
        momentum: float = Field(default=0.5, ge=0, lt=1)
        """Share of the history in a target of `he`; unused elsewhere."""
        reg_weight: float = Field(default=1e-5, ge=0)
        """Weight of half the squared norm of the batch's encoded rows, a sum over the batch; `ep` has no such term.

        Of the published grid, 1e-5 and 1e-4 do well on lfm2k, 1e-1 shrinks all embeddings away.
        """

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.predictor = linear_default(size, size, generator)
        self.adjacency = DroppableAdjacency(data.bipartite())
        if config.variant == "he":
            self.register_buffer("user_history", torch.randn(data.num_users, size, generator=generator))
            self.register_buffer("item_history", torch.randn(data.num_items, size, generator=generator))

    def fuse(self, batch: Batch | None = None) -> Fused:
        drops = self.training and self.config.variant != "ep"
        graph = self.adjacency(uniform_rate() if drops else 0.0)
        users, items = light_propagation(graph, self.user_embedding, self.item_embedding, self.config.num_layers)
        return {"users": users, "items": items}

    def extract(self, fused: Fused) -> Hidden:
        return Hidden(fused["users"], fused["items"])

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        users, items = rows(hidden.users, batch.users), rows(hidden.items, batch.positives)
        user_target, item_target = self._targets(hidden, batch)
        rating = cosine_distance(self.predictor(users), item_target) + cosine_distance(
            self.predictor(items), user_target
        )
        parts = {"rating": rating / 2 - 1}  # -½ of the sum of both mean cosines
        if self.config.variant != "ep":
            parts["regularisation"] = self.config.reg_weight * half_squared_norm(users, items)
        history = {"users": users.detach(), "items": items.detach()} if self.config.variant == "he" else {}
        return replace(Losses.of(**parts), memory=history)

    def _targets(self, hidden: Hidden, batch: Batch) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The disturbed, gradient-stopped rows of the batch's users and items."""
        users, items = hidden.users.detach(), hidden.items.detach()
        rate = self.config.dropout if self.training else 0.0
        if self.config.variant == "ep":
            graph = self.adjacency(rate)
            to_users, to_items = graph.neighbours(users, items)
            return rows(to_users, batch.users), rows(to_items, batch.positives)
        users, items = rows(users, batch.users), rows(items, batch.positives)
        if self.config.variant == "ed":
            return dropout(users, rate), dropout(items, rate)
        user_history, item_history = rows(self.user_history, batch.users), rows(self.item_history, batch.positives)
        return users.lerp(user_history, self.config.momentum), items.lerp(item_history, self.config.momentum)

    def remember(self, batch: Batch, memory: Mapping[str, Tensor]) -> None:
        """`he`: the batch's encoded rows become the history; those of a repeated user are all the same."""
        if self.config.variant == "he":
            self.user_history.index_copy_(0, batch.users, memory["users"])
            self.item_history.index_copy_(0, batch.positives, memory["items"])

    def scorer(self, hidden: Hidden) -> Scorer:
        """pred(e_u)·e_i + e_u·pred(e_i), as (W e_u + b + Wᵀ e_u)·e_i + e_u·b: one product over all items, not two."""
        items, weight, bias = hidden.items.T, self.predictor.weight, self.predictor.bias

        def scores(users: Int[Tensor, " B"]) -> Float[Tensor, "B I"]:
            chosen = hidden.users[users]
            return product(self.predictor(chosen) + chosen @ weight, items) + (chosen @ bias)[:, None]

        return scores
