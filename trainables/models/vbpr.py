"""VBPR: matrix factorisation whose item vectors carry a projection of the modality features."""

from collections.abc import Mapping
from itertools import accumulate

import torch
from pydantic import Field
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.layers.dense import constant
from trainables.layers.features import batch_items, project_rows
from trainables.layers.losses import batch_rows, bpr_mean, embedding_norm, pair_scores
from trainables.layers.tensors import linear_xavier_normal, shared_tensor, xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class VBPR(Recommender):
    """An item is its id embedding beside a projection of its concatenated features; a user's vector is as wide as both.

    Paper: He and McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback", AAAI 2016. Departs from
    the paper as MMRec does: no bias terms, every modality instead of the visual one, and the un-squared norm of the
    user's and the fused items' rows as regulariser, so that it also acts on the projected content.
    H for DVIB is the projection, before the id part is put beside it (strategies.md §6.4).
    """

    uses_features = True
    features: Tensor

    class Config(ModelConfig):
        """VBPR's numbers."""

        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the un-squared norm of the batch's user and fused item rows."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, 2 * size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        joint = shared_tensor(data.joint_features())
        self.register_buffer("features", joint, persistent=False)
        ends = list(accumulate(features.shape[1] for features in data.features.values()))
        starts = [0, *ends[:-1]]
        self.columns = {name: slice(*ends) for name, *ends in zip(data.features, starts, ends, strict=True)}
        self.projection = linear_xavier_normal(joint.shape[1], size, generator, zero_bias=True)

    def fuse(self, batch: Batch | None = None) -> Fused:
        return {"joint": project_rows(constant(self.features), self.projection, batch_items(batch))}

    def feature_tables(self) -> Mapping[str, Mapping[str, slice]]:
        return {"features": self.columns}

    def extract(self, fused: Fused) -> Hidden:
        return Hidden(self.user_embedding, torch.cat([self.item_embedding, fused["joint"]], dim=1))

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users, positives, negatives = batch_rows(hidden.users, hidden.items, batch)
        bpr = bpr_mean(*pair_scores(users, positives, negatives))
        return Losses.of(bpr=bpr, regularisation=self.config.reg_weight * embedding_norm(users, positives, negatives))
