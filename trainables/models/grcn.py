"""GRCN: the user-item graph, refined by how well users' modal preferences match their items."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from trainables.data.bundle import DataBundle
from trainables.layers.attention import BipartiteEdges
from trainables.layers.features import FrozenFeatures, project_rows
from trainables.layers.losses import batch_rows, bpr_mean, pair_scores
from trainables.layers.tensors import linear_xavier_normal, rows, unit_rows, xavier_normal
from trainables.models.base import ModelConfig, Recommender
from trainables.types import Batch, Fused, Hidden, Losses


class GRCN(Recommender):
    """Edges count as far as a user's preference in some modality matches the item; id embeddings propagate over them.

    Per modality a user's preference is moved T times towards the items that it attends to (routing), then users and
    items attend to each other once. Their attention, times the trust in the sender's modality, weighs the graph of the
    id embeddings, negative edges left out; ids and all modalities side by side make a representation.
    Paper: Wei et al., "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback",
    MM 2020. Departs from the paper as MMRec does: the regulariser is a sum of mean squares, in which the first
    modality's preferences count for all users besides the batch's; the trust is not penalised. Departs from MMRec in
    that routing works (its messages arrive at items, where nobody reads them, so that preferences are only normalised;
    `compat` "mmrec" keeps it so), and in that scores come from the current weights, not from the last batch.
    H for DVIB is each modality's content after the routing, of items ("<modality>") and users ("<modality>_users"),
    before they attend to each other. The released code perturbs what comes of that: DVIB_a the attended content, DVIB_c
    the attention (strategies.md §6.4). Both follow from this H, and neither is computed twice in plain training; at the
    attended content alone, `extract` would have to compute the attention anew, from the features on.
    A batch's loss reaches every item through the graph: `fuse` computes all rows.
    """

    uses_features = True

    class Config(ModelConfig):
        """GRCN's numbers."""

        num_routings: int = Field(default=3, ge=1, le=8)
        """Times T that a user's preference moves towards the items that it attends to."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Hops of the id embeddings over the refined graph."""
        reg_weight: float = Field(default=1e-3, ge=0)
        """Weight of the mean squares of the batch's id embeddings and preferences."""
        compat: Literal["paper", "mmrec"] = "paper"
        """`mmrec`: routing moves no preference, as in MMRec, whose messages arrive at the wrong end."""

    def __init__(self, config: Config, data: DataBundle, generator: torch.Generator) -> None:
        super().__init__(data)
        self.config = config
        self.sizes = [data.num_users, data.num_items]
        size, num_nodes = config.embedding_size, sum(self.sizes)
        self.features = FrozenFeatures(data.features)
        widths = [features.shape[1] for features in data.features.values()]
        self.embedding = xavier_normal(num_nodes, size, generator)
        self.confidence = xavier_normal(num_nodes, len(widths), generator)
        self.preferences = nn.ParameterList(xavier_normal(data.num_users, size, generator) for _ in widths)
        self.projections = nn.ModuleList(
            linear_xavier_normal(width, size, generator, zero_bias=False) for width in widths
        )
        self.edges = BipartiteEdges(data.interactions())

    def item_tables(self) -> Mapping[str, slice]:
        return {"embedding": slice(self.sizes[0], None)}

    def fuse(self, batch: Batch | None = None) -> Fused:
        fused = {}
        for name, preference, projection in zip(self.features.names, self.preferences, self.projections, strict=True):
            fused[name] = unit_rows(F.leaky_relu(project_rows(self.features[name], projection, None)))
            fused[f"{name}_users"] = self._routed(unit_rows(preference), fused[name])
        return fused

    def _routed(self, users: Float[Tensor, "U D"], items: Float[Tensor, "I D"]) -> Float[Tensor, "U D"]:
        if self.config.compat == "mmrec":
            return users
        for _ in range(self.config.num_routings):
            attention = self.edges.user_softmax(self.edges.products(users, items))
            users = unit_rows(users + self.edges.to_users(attention, items))
        return users

    def extract(self, fused: Fused) -> Hidden:
        users, items, by_user, by_item = [], [], [], []
        for name in self.features.names:
            preference, content = fused[f"{name}_users"], fused[name]
            products = self.edges.products(preference, content)
            by_user.append(self.edges.user_softmax(products))
            by_item.append(self.edges.item_softmax(products))
            users.append(preference + self.edges.to_users(by_user[-1], content))
            items.append(content + self.edges.to_items(by_item[-1], preference))
        ids = self._id_hops(by_user, by_item)
        return Hidden(torch.cat([ids[0], *users], dim=1), torch.cat([ids[1], *items], dim=1))

    def _id_hops(
        self, by_user: Sequence[Float[Tensor, " E"]], by_item: Sequence[Float[Tensor, " E"]]
    ) -> tuple[Float[Tensor, "U D"], Float[Tensor, "I D"]]:
        of_users, of_items = torch.split(self.confidence, self.sizes)
        to_users = _refined(by_user, of_items, self.edges.items)
        to_items = _refined(by_item, of_users, self.edges.users)
        users, items = torch.split(unit_rows(self.embedding), self.sizes)
        sums = [users, items]
        for _ in range(self.config.num_layers):
            users, items = self.edges.to_users(to_users, items), self.edges.to_items(to_items, users)
            sums = [sums[0] + users, sums[1] + items]
        return sums[0], sums[1]

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        self.require_negatives(batch)
        scores = pair_scores(*batch_rows(hidden.users, hidden.items, batch))
        items = torch.cat([batch.positives, batch.negatives.flatten()]) + self.sizes[0]
        penalised = [rows(self.embedding, ids) for ids in (batch.users, items)]
        penalised += [self.preferences[0], *(rows(preference, batch.users) for preference in self.preferences)]
        penalty = torch.stack([block.square().mean() for block in penalised]).sum()
        return Losses.of(bpr=bpr_mean(*scores), regularisation=self.config.reg_weight * penalty)


def _refined(
    attention: Sequence[Float[Tensor, " E"]], confidence: Float[Tensor, "R M"], sources: Int[Tensor, " E"]
) -> Float[Tensor, " E"]:
    """relu(max_m α^m_e conf[source of e, m]) of every edge e."""
    trusted = zip(attention, confidence.unbind(1), strict=True)
    return torch.relu(reduce(torch.maximum, [weights * trust.index_select(0, sources) for weights, trust in trusted]))
