"""MMGCN: one graph network per modality over the user-item graph."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from trainables.data.bundle import DataBundle
from trainables.layers.features import FrozenFeatures, project_rows
from trainables.layers.losses import batch_rows, bpr_mean, pair_scores
from trainables.layers.mean_aggregation import MeanGraph, MeanNetwork
from trainables.layers.tensors import linear_default, rows, xavier_normal
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class MMGCN(Recommender):
    """Every modality has its own graph network over users and items; what they say of a node is averaged.

    A user enters a network with a free vector, the preference, an item with its features; in each layer a node's
    neighbours send it their mean, and it joins that with its own state and an id embedding that the networks share.
    Paper: Wei et al., "MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video",
    MM 2019. As in MMRec the networks' outputs are averaged (paper: added), the regulariser is a mean of squares (paper:
    the norm of all weights), and wide features are projected first, without an activation. Where MMRec forgets to train
    id embedding and preferences, we train them, and penalise the preferences of every modality instead of the first
    one's; `compat="mmrec"` does as MMRec does. Scores come from the current weights, not from the last batch.
    H for DVIB is each modality's input of the items, after the projection and before their rows are normalised
    (strategies.md §6.4, `after_mlp`). A batch's loss reaches every item through the graph: all rows are computed.
    """

    uses_features = True

    class Config(ModelConfig):
        """MMGCN's numbers."""

        latent_size: int = Field(default=256, ge=1)
        """Width to which features more than twice as wide are projected; others enter as they are."""
        num_layers: int = Field(default=3, ge=1, le=8)
        """Layers of every modality's network."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the mean squares of the batch's id embeddings and of the users' preferences."""
        compat: Literal["paper", "mmrec"] = "paper"
        """`mmrec`: id embedding and preferences keep their first values, so that `reg_weight` has no effect."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        self.sizes = [data.num_users, data.num_items]
        self.embedding = xavier_normal(sum(self.sizes), config.embedding_size, generator)
        self.features = FrozenFeatures(data.features)
        self.projections, self.networks = nn.ModuleList(), nn.ModuleList()
        for features in data.features.values():
            width = features.shape[1]
            if width > 2 * config.latent_size:
                self.projections.append(linear_default(width, config.latent_size, generator))
                width = config.latent_size
            else:
                self.projections.append(nn.Identity())
            self.networks.append(
                MeanNetwork(data.num_users, width, config.embedding_size, config.num_layers, generator)
            )
        self.graph = MeanGraph(data.interactions())
        if config.compat == "mmrec":
            for untrained in (self.embedding, *(network.preference for network in self.networks)):
                untrained.requires_grad_(False)

    def item_tables(self) -> Mapping[str, slice]:
        return {"embedding": slice(self.sizes[0], None)}

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused = {}
        for name, projection in zip(self.features.names, self.projections, strict=True):
            features = self.features[name]
            raw = isinstance(projection, nn.Identity)
            fused[name] = features if raw else project_rows(features, projection, None)
        return fused

    def extract(self, fused: Fused) -> Hidden:
        ids = torch.split(self.embedding, self.sizes)
        named = zip(self.features.names, self.networks, strict=True)
        outputs = {name: network(self.graph, fused[name], ids) for name, network in named}
        users, items, squares = (list(parts) for parts in zip(*outputs.values(), strict=True))
        return Hidden(
            users=sum(users[1:], users[0]) / len(users),
            items=sum(items[1:], items[0]) / len(items),
            views=dict(zip(outputs, squares, strict=True)),
        )

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        scores = pair_scores(*batch_rows(hidden.users, hidden.items, batch))
        items = torch.cat([batch.positives, batch.negatives.flatten()]) + self.sizes[0]
        squares = [rows(self.embedding, ids).square().mean() for ids in (batch.users, items)]
        preferences = list(hidden.views.values())
        penalty = torch.stack(squares + (preferences if self.config.compat == "paper" else preferences[:1])).sum()
        return Losses.of(bpr=bpr_mean(*scores), regularisation=self.config.reg_weight * penalty)
