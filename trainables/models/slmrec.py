"""SLMRec: every modality is propagated beside the ids, and views of an item are contrasted with one another."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from trainables.data.bundle import DataBundle
from trainables.devices import distinct_and_places
from trainables.layers.contrastive import in_batch_infonce
from trainables.layers.dense import affine, product
from trainables.layers.features import FrozenFeatures
from trainables.layers.losses import half_squared_norm
from trainables.layers.one_sided import one_sided_propagation
from trainables.layers.propagation import SparseOperator
from trainables.layers.tensors import linear_xavier_uniform, rows, unit_rows, xavier_uniform
from trainables.models.base import ModelConfig, Recommender, Scorer
from trainables.types import Batch, Fused, Hidden, Losses

FROM_ITEMS = "users/from_items"
"""The users' part from the items, among the modalities' views: these are named after files, so without a slash."""
COARSE = "text"
"""The modality that is aligned in the coarse space; every other one is aligned in the fine space."""


class SLMRec(Recommender):
    """Ids and each modality are propagated on their own and fused by a linear map; InfoNCE aligns an item's views.

    Paper: Tao et al., "Self-Supervised Learning for Multimedia Recommendation", IEEE TMM 2022; of its tasks the one
    that MMRec runs, "fine and coarse" (FAC): every modality but text meets the ids in a fine space, text in a coarse
    one. Departs from the paper as MMRec does: the main loss is an in-batch InfoNCE of unit vectors, while scores are
    inner products of the vectors as they are. `reg_weight` weighs half the squared norm of all weights, whose gradient
    is that of MMRec's Adam with `weight_decay`; the `reg` of MMRec's grid is never read.
    H for DVIB is each modality's dense layer, before the graph (strategies.md §6.4).
    """

    uses_negatives = False
    uses_features = True
    inverse_lengths: Tensor

    class Config(ModelConfig):
        """SLMRec's numbers."""

        num_layers: int = Field(default=3, ge=1, le=8)
        """Hops L of the propagations."""
        temperature: float = Field(default=0.2, gt=0)
        """τ of the main loss."""
        ssl_temperature: float = Field(default=0.2, gt=0)
        """τ of the alignment of an item's views."""
        ssl_weight: float = Field(default=0.05, ge=0)
        """Weight of the alignment of an item's views."""
        reg_weight: float = Field(default=1e-4, ge=0)
        """Weight of half the squared norm of all weights."""
        compat: Literal["paper", "mmrec"] = "paper"
        """Scores are inner products, or as in MMRec their sigmoid, which ties large ones in float32."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        size = config.embedding_size
        self.user_embedding = xavier_uniform(data.num_users, size, generator)
        self.item_embedding = xavier_uniform(data.num_items, size, generator)
        self.features = FrozenFeatures(data.features)
        self.register_buffer("inverse_lengths", _inverse_lengths(data.features), persistent=False)
        names = self.features.names
        self.dense = nn.ModuleList(linear_xavier_uniform(data.features[n].shape[1], size, generator) for n in names)
        self.user_fusion = linear_xavier_uniform((1 + len(names)) * size, size, generator)
        self.item_fusion = linear_xavier_uniform((1 + len(names)) * size, size, generator)
        self.fine_names = tuple(name for name in names if name != COARSE)
        self.id_head = linear_xavier_uniform(size, size, generator)
        self.fine_heads = nn.ModuleList(linear_xavier_uniform(size, size, generator) for _ in self.fine_names)
        self.coarse_heads = nn.ModuleList()
        if COARSE in names:
            widths = (size, size), (size, max(1, size // 2)), (size, max(1, size // 2))
            self.coarse_heads.extend(linear_xavier_uniform(*pair, generator) for pair in widths)
        self.to_users = SparseOperator(data.bipartite())
        self.to_items = SparseOperator(data.bipartite().transpose())

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused = {}
        inverses = self.inverse_lengths.to(self.user_embedding.dtype)
        for name, layer, inverse in zip(self.features.names, self.dense, inverses, strict=True):
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            # The features' unit rows enter as a scale of the product's rows: as matrices they would be copies.
            fused[name] = torch.addcmul(bias, product(self.features[name], weight.t()), inverse)
        return fused

    def extract(self, fused: Fused) -> Hidden:
        """What the fusions take, unfused: a loss fuses the rows of its batch alone.

        Items: the propagated ids, and in `views` the propagated modalities. Users: the part that all their views share,
        and in `views` the rest, which comes from the items and is fused on their side, before its last hop.
        """
        own, bridge = one_sided_propagation(self.to_items, self.user_embedding, self.config.num_layers)
        tables = self.item_embedding, *fused.values()
        parts = [one_sided_propagation(self.to_users, table, self.config.num_layers) for table in tables]
        from_users = self.to_items(bridge)
        ids, *modal = (part[0] + from_users for part in parts)
        from_items = self.to_users(affine(torch.cat([part[1] for part in parts], dim=1), self.user_fusion.weight))
        return Hidden(own, ids, {**dict(zip(fused, modal, strict=True)), FROM_ITEMS: from_items})

    def _user_vectors(self, hidden: Hidden, users: Int[Tensor, " R"]) -> Float[Tensor, "R D"]:
        blocks = self.user_fusion.weight.view(-1, 1 + len(self.features.names), self.config.embedding_size)
        shared = affine(rows(hidden.users, users), blocks.sum(1), self.user_fusion.bias)
        return shared + rows(hidden.views[FROM_ITEMS], users)

    def _item_vectors(self, views: Sequence[Float[Tensor, "R D"]]) -> Float[Tensor, "R D"]:
        return affine(torch.cat(list(views), dim=1), self.item_fusion.weight, self.item_fusion.bias)

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        (users, user_index), (items, item_index) = map(distinct_and_places, (batch.users, batch.positives))
        views = [rows(view, items) for view in self._item_views(hidden)]
        unit = unit_rows(self._user_vectors(hidden, users)), unit_rows(self._item_vectors(views))
        return Losses.of(
            ranking=in_batch_infonce(*unit, (user_index, item_index), self.config.temperature, largest=1.0),
            alignment=self.config.ssl_weight * self._alignment(views, item_index),
            regularisation=self.config.reg_weight * half_squared_norm(*self.parameters()),
        )

    def _item_views(self, hidden: Hidden) -> list[Float[Tensor, "I D"]]:
        return [hidden.items, *(hidden.views[name] for name in self.features.names)]

    def _alignment(self, views: Sequence[Float[Tensor, "R D"]], index: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """FAC on the batch's items, whose rows `views` hold; `index` says which one a pair has."""
        view = dict(zip(self.features.names, views[1:], strict=True))
        fine_ids = self.id_head(views[0])
        pairs = [(fine_ids, head(view[name])) for name, head in zip(self.fine_names, self.fine_heads, strict=True)]
        if COARSE in view:
            to_coarse, of_ids, of_text = self.coarse_heads
            pairs.append((of_ids(to_coarse(fine_ids)), of_text(view[COARSE])))
        losses = [in_batch_infonce(*pair, (index, index), self.config.ssl_temperature) for pair in pairs]
        return torch.stack(losses).sum()

    def scorer(self, hidden: Hidden) -> Scorer:
        items = self._item_vectors(self._item_views(hidden)).T

        def scores(users: Int[Tensor, " B"]) -> Float[Tensor, "B I"]:
            found = product(self._user_vectors(hidden, users), items)
            return torch.sigmoid(found) if self.config.compat == "mmrec" else found

        return scores


def _inverse_lengths(features: Mapping[str, np.ndarray]) -> Tensor:
    """1 / |row| of every modality's features, 0 for rows of zeros, in float64: [M, I, 1]."""
    squares = np.stack([np.einsum("id,id->i", f, f, dtype=np.float64) for f in features.values()])
    lengths = torch.from_numpy(squares).sqrt()[:, :, None]
    return torch.where(lengths > 0, lengths.reciprocal(), 0.0)
