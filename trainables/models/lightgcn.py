"""LightGCN: linear propagation of id embeddings over the interaction graph."""

import torch
from pydantic import Field

from trainables.data.bundle import DataBundle
from trainables.layers.losses import batch_rows, bpr_mean, embedding_norm, pair_scores
from trainables.layers.propagation import SparseOperator, light_propagation
from trainables.layers.tensors import xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class LightGCN(Recommender):
    """Users and items are the mean of their 0..L-hop neighbourhoods' embeddings; no modality, no weight matrices.

    Paper: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020.
    Departs from the paper as MMRec does, so that weights published there keep their meaning: Xavier-uniform embeddings
    (paper: N(0, 0.1²)), and the un-squared norm of the layer-0 rows as regulariser (paper: half the squared one).
    H for DVIB is the layer-0 embeddings of users and items; propagation comes after it (strategies.md §6.4).
    """

    class Config(ModelConfig):
        """LightGCN's numbers."""

        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops L of the propagation."""
        reg_weight: float = Field(default=1e-4, ge=0)
        """Weight of the un-squared norm of the batch's layer-0 rows."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        self.user_embedding = xavier_uniform(data.num_users, config.embedding_size, generator)
        self.item_embedding = xavier_uniform(data.num_items, config.embedding_size, generator)
        self.adjacency = SparseOperator(data.bipartite())

    def fuse(self, batch: Batch | None = None) -> Fused:
        return {"users": self.user_embedding, "items": self.item_embedding}

    def extract(self, fused: Fused) -> Hidden:
        users, items = light_propagation(self.adjacency, fused["users"], fused["items"], self.config.num_layers)
        return Hidden(users, items, views=fused)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        scores = pair_scores(*batch_rows(hidden.users, hidden.items, batch))
        norms = embedding_norm(*batch_rows(hidden.views["users"], hidden.views["items"], batch))
        return Losses.of(bpr=bpr_mean(*scores), regularisation=self.config.reg_weight * norms)
