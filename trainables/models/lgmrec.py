"""LGMRec: local graphs of ids and of modalities, and hypergraphs of users' and items' modal traits."""

from itertools import combinations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from trainables.data.bundle import DataBundle
from trainables.layers.contrastive import contrast_with_all
from trainables.layers.dense import product
from trainables.layers.features import FrozenFeatures
from trainables.layers.graphs import row_mean
from trainables.layers.hypergraph import cosine_factors, hyperedge_states, memberships
from trainables.layers.losses import batch_rows, bpr_mean, embedding_norm, pair_scores
from trainables.layers.propagation import SparseOperator, light_propagation
from trainables.layers.tensors import unit_rows, xavier_uniform
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses

SIDES = ("users", "items")


class LGMRec(Recommender):
    """Propagated ids and modalities say what is near; hyperedges learnt from the features what is alike far away.

    Paper: Guo et al., "LGMRec: Local and Global Graph Learning for Multimodal Recommendation", AAAI 2024. As in MMRec,
    the contrast of the hypergraphs is a sum over the batch against all users and all items, τ is one number for Gumbel
    softmax and contrast, and the regulariser takes un-squared norms. Departs from MMRec: evaluation draws no Gumbel
    noise and is deterministic; any number of modalities will do, contrasted in every pair.
    H for DVIB is each modality's projection of the items, before its graph (strategies.md §6.4); the hyperedges'
    logits are no part of it.
    """

    uses_features = True

    class Config(ModelConfig):
        """LGMRec's numbers."""

        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops of the ids."""
        num_modal_layers: int = Field(default=2, ge=1, le=8)
        """Hops of the modalities, of which the last one counts."""
        num_hyper_layers: int = Field(default=1, ge=1, le=8)
        """Rounds of messages over the hypergraphs."""
        num_hyperedges: int = Field(default=4, ge=1)
        """Hyperedges K of a modality."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Share of the hypergraphs' memberships set to 0."""
        hyper_weight: float = Field(default=0.3, ge=0)
        """α: length of the hypergraphs' part in a final representation."""
        temperature: float = Field(default=0.2, gt=0)
        """τ of the memberships and of their contrast."""
        cl_weight: float = Field(default=1e-4, ge=0)
        """Weight of the contrast between the modalities' hypergraphs, a sum over the batch."""
        reg_weight: float = Field(default=1e-6, ge=0)
        """Weight of the un-squared norms of the batch's final rows over B."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.features = FrozenFeatures(data.features)
        widths = [data.features[name].shape[1] for name in self.features.names]
        self.projections = nn.ParameterList(xavier_uniform(width, size, generator) for width in widths)
        self.hyperedges = nn.ParameterList(xavier_uniform(width, config.num_hyperedges, generator) for width in widths)
        self.graph = SparseOperator(data.bipartite())
        self.histories = SparseOperator(data.interactions())
        self.history_means = SparseOperator(row_mean(data.interactions(), 1e-7))

    def fuse(self, batch: Batch | None = None) -> Fused:
        parts = zip(self.features.names, self.projections, strict=True)
        return {name: product(self.features[name], weight) for name, weight in parts}

    def extract(self, fused: Fused) -> Hidden:
        users, items = light_propagation(self.graph, self.user_embedding, self.item_embedding, self.config.num_layers)
        views = self._hypergraphs(items)
        states = torch.cat([views[f"{name}_states"] for name in fused])
        for features in fused.values():
            modal_users, modal_items = self._propagate(features)
            users, items = users + unit_rows(modal_users), items + unit_rows(modal_items)
        of_users, of_items = (torch.cat([views[f"{name}_{side}"] for name in fused], dim=1) for side in SIDES)
        users = users + self.config.hyper_weight * unit_rows(of_users @ states)
        items = items + self.config.hyper_weight * unit_rows(of_items @ states)
        return Hidden(users, items, views)

    def _propagate(self, features: Float[Tensor, "I D"]) -> tuple[Float[Tensor, "U D"], Float[Tensor, "I D"]]:
        """The last of `num_modal_layers` hops from the items' features and their means over each user's history."""
        users, items = self.history_means(features), features
        for _ in range(self.config.num_modal_layers):
            users, items = self.graph.adjacency.neighbours(users, items)
        return users, items

    def _hypergraphs(self, items: Float[Tensor, "I D"]) -> dict[str, Tensor]:
        """By modality and "_users", "_items", "_states": memberships [U, K] and [I, K], and hyperedges [K, D]."""
        views: dict[str, Tensor] = {}
        settings = self.config.temperature, self.config.dropout, self.training
        for name, weight in zip(self.features.names, self.hyperedges, strict=True):
            logits = product(self.features[name], weight)
            views[f"{name}_items"] = memberships(logits, *settings)
            views[f"{name}_users"] = memberships(self.histories(logits), *settings)
            views[f"{name}_states"] = hyperedge_states(views[f"{name}_items"], items, self.config.num_hyper_layers)
        return views

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        users, positives, negatives = batch_rows(hidden.users, hidden.items, batch)
        parts = {"bpr": bpr_mean(*pair_scores(users, positives, negatives))}
        chosen = batch.users, batch.positives
        for pair in combinations(self.features.names, 2):
            contrasts = [self._contrast(hidden, pair, *side) for side in zip(SIDES, chosen, strict=True)]
            parts["contrast_" + "_".join(pair)] = self.config.cl_weight * torch.stack(contrasts).sum()
        parts["regularisation"] = self.config.reg_weight * embedding_norm(users, positives, negatives)
        return Losses.of(**parts)

    def _contrast(
        self, hidden: Hidden, pair: tuple[str, str], side: str, chosen: Int[Tensor, " B"]
    ) -> Float[Tensor, ""]:
        """HCL of one side: the chosen rows in one modality's hypergraph against all rows in the other's, by cosine."""
        factors = [(hidden.views[f"{name}_{side}"], hidden.views[f"{name}_states"]) for name in pair]
        return contrast_with_all(*cosine_factors(*factors), chosen, self.config.temperature, largest=1.0)
