"""DualGNN: modalities over the user-item graph, weighted by each user, and a graph among users who share items."""

import math
from typing import Literal

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


class DualGNN(Recommender):
    """An item is the sum of its modalities, a user their sum by weights of its own, plus users who share its items.

    Paper: Wang et al., "DualGNN: Dual Graph Neural Network for Multimedia Recommendation", IEEE Transactions on
    Multimedia 2021. As in MMRec, the BPR loss takes log2, and modality weights are a softmax at the start only; those
    of the items occur in the regulariser alone. Departs from MMRec: a user's fusion has its own modalities, where MMRec
    adds up the items' in place and so changes the first one of the users (`compat` "mmrec"); a short list of neighbours
    is padded by drawing evenly from it, where MMRec draws from the list as it grows; and the padding, which is drawn
    per epoch, is for training only: scores come from the unpadded lists, so that they depend on the weights alone.
    `Hidden.users` are the users before the users' graph, which is applied to the rows that a loss or a score asks for.
    H for DVIB is each modality's item content, before its rows are normalised and propagated (strategies.md §6.4).
    """

    uses_features = True

    class Config(ModelConfig):
        """DualGNN's numbers."""

        hidden_size: int = Field(default=256, ge=1)
        """Width of the layer between a modality's features and its content."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops L over the user-item graph; layers 0..L are added up."""
        num_neighbours: int = Field(default=40, ge=1, le=200)
        """Length of a user's list of the users with whom it shares most items."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the mean squares of the batch users' preferences and of all modality weights."""
        compat: Literal["paper", "mmrec"] = "paper"
        """`mmrec`: the sum of all modalities takes the place of a user's first one, as it does in MMRec."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        sizes = config.hidden_size, config.embedding_size
        self.encoder = ModalEncoder(data.features, data.num_users, sizes, config.num_layers, generator)
        self.user_weights = modality_weights(data.num_users, len(data.features), generator)
        self.item_weights = modality_weights(data.num_items, len(data.features), generator)
        self.adjacency = SparseOperator(data.bipartite(epsilon=0.0))
        self.attention = UserAttention(data.user_neighbours(config.num_neighbours), config.num_neighbours)

    def start_epoch(self, epoch: int, generator: np.random.Generator) -> None:
        """Pads anew the lists of users who have few neighbours."""
        self.attention.redraw(generator)

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused: Fused = self.encoder.contents()
        return fused

    def extract(self, fused: Fused) -> Hidden:
        users, items = self.encoder(fused, self.adjacency)
        if self.config.compat == "mmrec":
            users = [sum(users[1:], users[0]), *users[1:]]
        weighted = weighted_parts(users, self.user_weights)
        return Hidden(sum(weighted[1:], weighted[0]), sum(items[1:], items[0]))

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users = self.attention(hidden.users, batch.users)
        scores = pair_scores(users, rows(hidden.items, batch.positives), rows(hidden.items, batch.negatives))
        weights = self.user_weights.square().mean() + self.item_weights.square().mean()
        penalty = self.encoder.preference_penalty(batch.users) + weights
        return Losses.of(bpr=bpr_mean(*scores) / math.log(2), regularisation=self.config.reg_weight * penalty)

    def scorer(self, hidden: Hidden) -> Scorer:
        items = hidden.items.T
        return lambda users: product(self.attention(hidden.users, users), items)
