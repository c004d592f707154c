"""DRAGON: modalities over the user-item graph side by side, and graphs among users and among items."""

import math

import numpy as np
import torch
from pydantic import Field

from trainables.data.bundle import DataBundle
from trainables.layers.dense import product
from trainables.layers.losses import bpr_mean, pair_scores
from trainables.layers.modal_encoder import ModalEncoder, modality_weights, weighted_parts
from trainables.layers.propagation import SparseOperator
from trainables.layers.tensors import rows
from trainables.layers.user_attention import UserAttention
from trainables.models.base import ModelConfig, Recommender, Scorer
from trainables.types import Batch, Fused, Hidden, Losses


class DRAGON(Recommender):
    """Modalities encoded as in DualGNN stand side by side; users then take in users who share items, items their kin.

    Paper: Zhou et al., "Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation", ECAI 2023.
    As in MMRec, the BPR loss takes log2, and the users' modality weights are a softmax at the start only. MMRec's
    trainable copies of the features, which reach no loss, are left out. The users' graph departs from MMRec's as told
    in DualGNN: short lists are padded by even draws, and in training only; and, as there, `Hidden.users` are the users
    before that graph, which is applied to the rows that a loss or a score asks for.
    H for DVIB is the items before the item-item graph (strategies.md §6.4), and the users before theirs beside them,
    since they come from the same encoder, which would otherwise have to run again behind H.
    """

    uses_features = True

    class Config(ModelConfig):
        """DRAGON's numbers."""

        hidden_size: int = Field(default=256, ge=1)
        """Width of the layer between a modality's features and its content."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops L over the user-item graph; layers 0..L are added up."""
        num_item_layers: int = Field(default=1, ge=1, le=8)
        """Hops over the item-item graph."""
        knn_k: int = Field(default=10, ge=1)
        """Neighbours of an item by raw features, itself included."""
        image_weight: float = Field(default=0.1, ge=0, le=1)
        """Share of the image modality in the item-item graph."""
        num_neighbours: int = Field(default=40, ge=1, le=200)
        """Length of a user's list of the users with whom it shares most items."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the mean squares of the batch users' preferences and of all modality weights."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        sizes = config.hidden_size, config.embedding_size
        self.encoder = ModalEncoder(data.features, data.num_users, sizes, config.num_layers, generator)
        self.user_weights = modality_weights(data.num_users, len(data.features), generator)
        self.adjacency = SparseOperator(data.bipartite(epsilon=0.0))
        self.item_graph = SparseOperator(data.item_graph(config.knn_k, config.image_weight))
        self.attention = UserAttention(data.user_neighbours(config.num_neighbours), config.num_neighbours)

    def start_epoch(self, epoch: int, generator: np.random.Generator) -> None:
        """Pads anew the lists of users who have few neighbours."""
        self.attention.redraw(generator)

    def fuse(self, batch: Batch | None = None) -> Fused:
        users, items = self.encoder(self.encoder.contents(), self.adjacency)
        weighted = weighted_parts(users, self.user_weights)
        return {"users": torch.cat(weighted, dim=1), "items": torch.cat(items, dim=1)}  # [U, M D], [I, M D]

    def extract(self, fused: Fused) -> Hidden:
        neighbours = fused["items"]
        for _ in range(self.config.num_item_layers):
            neighbours = self.item_graph(neighbours)
        return Hidden(fused["users"], fused["items"] + neighbours)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users = self.attention(hidden.users, batch.users)
        scores = pair_scores(users, rows(hidden.items, batch.positives), rows(hidden.items, batch.negatives))
        penalty = self.encoder.preference_penalty(batch.users) + self.user_weights.square().mean()
        return Losses.of(bpr=bpr_mean(*scores) / math.log(2), regularisation=self.config.reg_weight * penalty)

    def scorer(self, hidden: Hidden) -> Scorer:
        items = hidden.items.T
        return lambda users: product(self.attention(hidden.users, users), items)
