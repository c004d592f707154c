"""FREEDOM: a frozen item-item graph from raw features, and a user-item graph pruned anew each epoch."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.devices import distinct
from trainables.layers.edge_dropout import pruned_graph
from trainables.layers.features import ProjectedFeatures, batch_items
from trainables.layers.losses import bpr_mean, pair_scores
from trainables.layers.propagation import SparseOperator, light_propagation
from trainables.layers.tensors import linear_default, rows, xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class FREEDOM(Recommender):
    """Items also take the mean of their nearest neighbours by raw features; training sees a pruned user-item graph.

    Paper: Zhou and Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
    Recommendation", MM 2023. As in MMRec, `reg_weight` is the weight of the modalities' own BPR losses; there is no
    L2 term.
    H for DVIB is each modality's projection, which enters the modal BPR terms (strategies.md §6.4, `aux_features`).
    """

    uses_features = True

    class Config(ModelConfig):
        """FREEDOM's numbers."""

        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops over the user-item graph."""
        num_item_layers: int = Field(default=1, ge=1, le=8)
        """Hops over the item-item graph."""
        knn_k: int = Field(default=10, ge=1)
        """Neighbours of an item by raw features, itself included."""
        image_weight: float = Field(default=0.1, ge=0, le=1)
        """Share of the image modality in the item-item graph."""
        dropout: float = Field(default=0.8, ge=0, lt=1)
        """Share of training edges left out of each epoch's graph."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the modalities' BPR losses."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        self.data = data
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.modalities = ProjectedFeatures(data.features, lambda width: linear_default(width, size, generator))
        self.adjacency = SparseOperator(data.bipartite())
        self.training_adjacency = self.adjacency
        self.item_graph = SparseOperator(data.item_graph(config.knn_k, config.image_weight))

    def start_epoch(self, epoch: int, generator: np.random.Generator) -> None:
        """Keeps ⌊E·(1-dropout)⌋ edges, drawn with weight (d_u d_i)^-1/2, and normalises by their degrees."""
        if self.config.dropout == 0:
            return
        pairs, shape = self.data.train, (self.data.num_users, self.data.num_items)
        pruned = pruned_graph(pairs.users, pairs.items, shape, self.config.dropout, generator)
        self.training_adjacency = pruned.to(self.user_embedding.device, self.user_embedding.dtype)

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused: Fused = self.modalities(batch_items(batch))
        return fused

    def extract(self, fused: Fused) -> Hidden:
        neighbours = self.item_embedding
        for _ in range(self.config.num_item_layers):
            neighbours = self.item_graph(neighbours)
        graph = self.training_adjacency if self.training else self.adjacency
        users, items = light_propagation(graph, self.user_embedding, self.item_embedding, self.config.num_layers)
        return Hidden(users, items + neighbours, views=fused)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users = rows(hidden.users, batch.users)
        parts = {"bpr": self._bpr(users, hidden.items, batch)}
        for name, view in hidden.views.items():
            parts[f"bpr_{name}"] = self.config.reg_weight * self._bpr(users, view, batch)
        return Losses.of(**parts)

    def _bpr(self, users: Float[Tensor, "B D"], items: Float[Tensor, "I D"], batch: Batch) -> Float[Tensor, ""]:
        return bpr_mean(*pair_scores(users, rows(items, batch.positives), rows(items, batch.negatives)))

    def distilled(self, hidden: Hidden, batch: Batch, limit: int | None) -> Mapping[str, Float[Tensor, "_ _"]]:
        """Per modality the projected features, a distribution over the D entries; None takes all items, as released."""
        if limit is None:
            return dict(hidden.views)
        items = distinct(batch.positives[:limit])
        return {name: rows(view, items) for name, view in hidden.views.items()}

    def distilled_ids(self, batch: Batch) -> Int[Tensor, " B"]:
        return batch.positives
