"""NGCF: graph convolution with weight matrices and element-wise interactions between neighbours."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trainables.data.bundle import DataBundle
from trainables.layers.edge_dropout import DroppableAdjacency
from trainables.layers.losses import batch_rows, bpr_mean, embedding_norm, half_squared_norm, pair_scores
from trainables.layers.refinement import bi_interaction, unit_layers
from trainables.layers.tensors import linear_xavier_uniform, xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class NGCF(Recommender):
    """A node takes its neighbours' rows and their products with its own, each by a matrix; all layers make its vector.

    Paper: Wang et al., "Neural Graph Collaborative Filtering", SIGIR 2019. Not in MMRec. Where the paper and its
    authors' TensorFlow code differ, the paper: one LeakyReLU over the sum of both terms, a symmetric graph without self
    loops. What the paper leaves open is as in that code: biases, message dropout on a layer's output, unit rows in the
    final vector only and not on the way to the next layer, half the squared norm of the batch's final rows over B as
    regulariser. Biases start at 0; from Xavier's bounds, as in that code, the first epochs are slower.
    H for DVIB is the layer-0 embeddings of users and items; propagation comes after it (strategies.md §6.4).
    """

    class Config(ModelConfig):
        """NGCF's numbers."""

        num_layers: int = Field(default=3, ge=1, le=8)
        """Layers L, each of width D; the final vector has (L + 1)·D entries."""
        message_dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of the entries of each layer's output set to 0."""
        node_dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of the adjacency's non-zeros dropped, anew for each batch."""
        reg_weight: float = Field(default=1e-5, ge=0)
        """Weight of the regulariser on the batch's final rows."""
        regulariser: Literal["squared", "norm"] = "squared"
        """`squared`: half the squared norms over B, as published; `norm`: the un-squared ones over B, as in MMRec."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.of_sum, self.of_product = (
            nn.ModuleList(linear_xavier_uniform(size, size, generator) for _ in range(config.num_layers))
            for _ in range(2)
        )
        self.adjacency = DroppableAdjacency(data.bipartite())

    def fuse(self, batch: Batch | None = None) -> Fused:
        return {"users": self.user_embedding, "items": self.item_embedding}

    def extract(self, fused: Fused) -> Hidden:
        graph = self.adjacency(self.config.node_dropout if self.training else 0.0)
        users, items = [fused["users"]], [fused["items"]]
        for layer in range(self.config.num_layers):
            to_users, to_items = graph.neighbours(users[-1], items[-1])
            users.append(self._layer(layer, users[-1], to_users))
            items.append(self._layer(layer, items[-1], to_items))
        return Hidden(unit_layers(users), unit_layers(items))

    def _layer(self, layer: int, ego: Float[Tensor, "R D"], messages: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        of_sum, of_product = self.of_sum[layer], self.of_product[layer]
        bias = of_sum.get_parameter("bias") + of_product.get_parameter("bias")
        weights = of_sum.get_parameter("weight"), of_product.get_parameter("weight")
        dropout = self.config.message_dropout if self.training else 0.0
        return bi_interaction(ego, messages, *weights, bias, dropout=dropout)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users, positives, negatives = batch_rows(hidden.users, hidden.items, batch)
        if self.config.regulariser == "squared":
            norms = half_squared_norm(users, positives, negatives) / len(batch.users)
        else:
            norms = embedding_norm(users, positives, negatives)
        bpr = bpr_mean(*pair_scores(users, positives, negatives))
        return Losses.of(bpr=bpr, regularisation=self.config.reg_weight * norms)
