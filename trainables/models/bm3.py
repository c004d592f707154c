"""BM3: bootstrapped multimodal representations, without negative samples."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from trainables.data.bundle import DataBundle
from trainables.devices import distinct
from trainables.layers.dense import product
from trainables.layers.features import ProjectedFeatures, batch_items
from trainables.layers.losses import cosine_distance, embedding_norm
from trainables.layers.propagation import SparseOperator, light_propagation
from trainables.layers.tensors import linear_xavier_normal, rows, xavier_uniform
from trainables.models.base import ModelConfig, Recommender, Scorer
from trainables.types import Batch, Fused, Hidden, Losses


class BM3(Recommender):
    """A predictor maps each view of a user or item onto a dropped-out, gradient-stopped view of its partner.

    Paper: Zhou et al., "Bootstrap Latent Representations for Multi-modal Recommendation", WWW 2023. As in MMRec the raw
    features are trainable tables, and the regulariser takes the un-squared norms of the full user and item matrices
    over the number of items. Only the batch's rows pass through predictor and dropout: the same loss as passing all
    rows, since dropout is drawn per entry.
    H for DVIB is each modality's projection, before predictor and dropout (strategies.md §6.4).
    """

    uses_negatives = False
    uses_features = True

    class Config(ModelConfig):
        """BM3's numbers."""

        num_layers: int = Field(default=1, ge=1, le=8)
        """Hops L of the id propagation."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Share of a target's entries set to 0."""
        reg_weight: float = Field(default=0.1, ge=0)
        """Weight of the un-squared norms of all user and item representations over I."""
        cl_weight: float = Field(default=2.0, ge=0)
        """Weight of the alignment and masking losses of the modalities."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.modalities = ProjectedFeatures(
            data.features, lambda width: linear_xavier_normal(width, size, generator, zero_bias=False)
        )
        self.predictor = linear_xavier_normal(size, size, generator, zero_bias=False)
        self.adjacency = SparseOperator(data.bipartite())

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused: Fused = self.modalities(batch_items(batch))
        return fused

    def extract(self, fused: Fused) -> Hidden:
        users, items = light_propagation(
            self.adjacency, self.user_embedding, self.item_embedding, self.config.num_layers
        )
        return Hidden(users, items + self.item_embedding, views=fused)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        users, items = rows(hidden.users, batch.users), rows(hidden.items, batch.positives)
        user_target, item_target = self._target(users), self._target(items)
        rating = cosine_distance(self.predictor(users), item_target) + cosine_distance(
            self.predictor(items), user_target
        )
        align, mask = rating.new_zeros(()), rating.new_zeros(())
        for view in hidden.views.values():
            modal = rows(view, batch.positives)
            predicted = self.predictor(modal)
            align = align + cosine_distance(predicted, item_target)
            mask = mask + cosine_distance(predicted, self._target(modal))
        return Losses.of(
            rating=rating,
            alignment=self.config.cl_weight * align,
            masking=self.config.cl_weight * mask,
            regularisation=self.config.reg_weight * embedding_norm(hidden.users, hidden.items),
        )

    def scorer(self, hidden: Hidden) -> Scorer:
        items = self.predictor(hidden.items).T
        return lambda users: product(self.predictor(hidden.users[users]), items)

    def distilled(self, hidden: Hidden, batch: Batch, limit: int | None) -> Mapping[str, Float[Tensor, "_ _"]]:
        """Per modality the online and the target view of the batch's items, a distribution over the D entries.

        The target is taken before its dropout: two different masks would drown the difference that is measured.
        """
        items = batch.positives if limit is None else distinct(batch.positives[:limit])
        views = {name: rows(view, items) for name, view in hidden.views.items()}
        return {f"{name}_online": self.predictor(view) for name, view in views.items()} | {
            f"{name}_target": view for name, view in views.items()
        }

    def distilled_ids(self, batch: Batch) -> Int[Tensor, " B"]:
        return batch.positives

    def _target(self, representations: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return F.dropout(representations.detach(), self.config.dropout, training=self.training)
