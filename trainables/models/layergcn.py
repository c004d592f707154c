"""LayerGCN: propagated embeddings, refined by how much they still resemble where they started."""

import numpy as np
import torch
from pydantic import Field

from trainables.data.bundle import DataBundle
from trainables.layers.edge_dropout import pruned_graph
from trainables.layers.graphs import PruneRule
from trainables.layers.losses import batch_rows, bpr_sum, half_squared_norm, pair_scores
from trainables.layers.propagation import SparseOperator
from trainables.layers.refinement import cosine_refinement
from trainables.layers.tensors import xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class LayerGCN(Recommender):
    """Each hop is scaled by its cosine with layer 0 and the hops are summed; training sees a graph pruned every epoch.

    Paper: Zhou et al., "Layer-refined Graph Convolutional Networks for Recommendation", ICDE 2023. As there and in
    MMRec, layer 0 is not in the sum, the loss is summed over the batch (so `reg_weight` is on another scale than
    elsewhere), and epochs prune by degree and uniformly in turn; the parity of the epoch decides, which a resumed trial
    knows. Evaluation runs over the whole graph.
    H for DVIB is the layer-0 embeddings of users and items; the refined propagation comes after it (strategies.md
    §6.4).
    """

    class Config(ModelConfig):
        """LayerGCN's numbers."""

        num_layers: int = Field(default=4, ge=1, le=8)
        """Hops L of the propagation."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of training edges left out of each epoch's graph."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of half the squared norm of the batch's layer-0 rows, a sum like the loss."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        self.data = data
        self.user_embedding = xavier_uniform(data.num_users, config.embedding_size, generator)
        self.item_embedding = xavier_uniform(data.num_items, config.embedding_size, generator)
        self.adjacency = SparseOperator(data.bipartite())
        self.training_adjacency = self.adjacency

    def start_epoch(self, epoch: int, generator: np.random.Generator) -> None:
        """Keeps ⌊E·(1-dropout)⌋ edges: in odd epochs drawn with weight (d_u d_i)^-1/2, in even ones uniformly."""
        if self.config.dropout == 0:
            return
        pairs, shape = self.data.train, (self.data.num_users, self.data.num_items)
        rule: PruneRule = "degree" if epoch % 2 == 1 else "uniform"
        pruned = pruned_graph(pairs.users, pairs.items, shape, self.config.dropout, generator, rule)
        self.training_adjacency = pruned.to(self.user_embedding.device, self.user_embedding.dtype)

    def fuse(self, batch: Batch | None = None) -> Fused:
        return {"users": self.user_embedding, "items": self.item_embedding}

    def extract(self, fused: Fused) -> Hidden:
        graph = self.training_adjacency if self.training else self.adjacency
        users, items = cosine_refinement(graph, fused["users"], fused["items"], self.config.num_layers)
        return Hidden(users, items, views=fused)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        scores = pair_scores(*batch_rows(hidden.users, hidden.items, batch))
        norms = half_squared_norm(*batch_rows(hidden.views["users"], hidden.views["items"], batch))
        return Losses.of(bpr=bpr_sum(*scores), regularisation=self.config.reg_weight * norms)
