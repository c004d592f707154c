"""What a model learns from: training and validation pairs, features, graphs. Never a test row."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Int64

from trainables.data.graph_cache import GraphCache
from trainables.errors import DataError
from trainables.layers.graphs import (
    DEGREE_EPSILON,
    CsrArrays,
    binary_bipartite,
    item_knn,
    normalised_bipartite,
    read_only,
    weighted_sum,
)
from trainables.layers.user_graph import co_occurrence


@dataclass(frozen=True, eq=False)
class Interactions:
    """Distinct (user, item) pairs in the order of the file, read-only."""

    users: Int64[np.ndarray, " E"]
    items: Int64[np.ndarray, " E"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", read_only(self.users))
        object.__setattr__(self, "items", read_only(self.items))

    def __len__(self) -> int:
        return len(self.users)

    def __reduce__(self) -> tuple[type["Interactions"], tuple[np.ndarray, np.ndarray]]:
        # Through the constructor, because pickle forgets that an array is read-only.
        return (Interactions, (self.users, self.items))


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A checked data set without its test split; immutable, and small to pickle beside its arrays.

    Attributes:
        name: of the data set.
        digest: of the files in use, the order of the modalities and the rule of the split.
        file_digests: by file name ("baby.inter", "image_feat.npy").
        num_users, num_items: over all splits; ids run from 0 without gaps.
        train, valid: every user of `valid` occurs in `train`.
        features: modality -> [I, F] float32, in the order in which models see them.
        graphs: where `bipartite` and `item_knn` keep what they built.
        graph_features: what graphs of items are built from, where that is not `features` (`with_features`).
        derived: whether `features` are not those of the files.
    """

    name: str
    digest: str
    file_digests: Mapping[str, str]
    num_users: int
    num_items: int
    train: Interactions
    valid: Interactions
    features: Mapping[str, Float32[np.ndarray, "I _"]]
    graphs: GraphCache = field(default_factory=GraphCache)
    graph_features: Mapping[str, Float32[np.ndarray, "I _"]] | None = None
    derived: bool = False

    def __post_init__(self) -> None:
        for name, held in (("features", self.features), ("graph_features", self.graph_features)):
            if held is not None:
                frozen = MappingProxyType({modality: read_only(array) for modality, array in held.items()})
                object.__setattr__(self, name, frozen)
        object.__setattr__(self, "file_digests", MappingProxyType(dict(self.file_digests)))

    def __reduce__(self) -> tuple[type["DataBundle"], tuple[object, ...]]:
        plain = (self.name, self.digest, dict(self.file_digests), self.num_users, self.num_items)
        graph_features = None if self.graph_features is None else dict(self.graph_features)
        held = (self.train, self.valid, dict(self.features), self.graphs, graph_features, self.derived)
        return (DataBundle, (*plain, *held))

    def with_features(self, features: Mapping[str, np.ndarray], *, rebuild_graphs: bool) -> "DataBundle":
        """Returns the bundle with other features of the same modalities, such as corrupted ones.

        Args:
            rebuild_graphs: whether graphs of items are built from the new features, or still from the present ones.
        """
        kept = None if rebuild_graphs else self.graph_features or self.features
        return replace(self, features=features, graph_features=kept, derived=True)

    def joint_features(self) -> Float32[np.ndarray, "I _"]:
        """Returns all modalities' features side by side, in their order, read-only; those of the files are shared."""
        tables = list(self.features.values())
        if len(tables) == 1:
            return tables[0]
        cache = GraphCache() if self.derived else self.graphs
        return cache.joined(tables)

    def bipartite(self, epsilon: float = DEGREE_EPSILON) -> CsrArrays:
        """Returns R̂ [U, I] of the training pairs; see `normalised_bipartite`."""
        pairs, shape = (self.train.users, self.train.items), (self.num_users, self.num_items)
        parameters = {"num_users": shape[0], "num_items": shape[1], "epsilon": epsilon}
        return self.graphs.fetch("bipartite", pairs, parameters, lambda: normalised_bipartite(*pairs, *shape, epsilon))

    def interactions(self) -> CsrArrays:
        """Returns R [U, I], 1 at every training pair."""
        pairs, shape = (self.train.users, self.train.items), (self.num_users, self.num_items)
        parameters = {"num_users": shape[0], "num_items": shape[1]}
        return self.graphs.fetch("interactions", pairs, parameters, lambda: binary_bipartite(*pairs, *shape))

    def item_knn(self, modality: str, k: int) -> CsrArrays:
        """Returns the graph [I, I] of each item's k nearest items in a modality; see `item_knn` in layers/graphs.py.

        Raises:
            DataError: the bundle does not hold the modality.
            ModelError: k lies outside 1..I.
        """
        if modality not in self.features:
            raise DataError(unknown_modality(self.name, modality, list(self.features)))
        features = (self.graph_features or self.features)[modality]
        return self.graphs.fetch("item_knn", [features], {"k": k}, lambda: item_knn(features, k))

    def item_graph(self, k: int, image_weight: float) -> CsrArrays:
        """Returns the weighted sum of the modalities' graphs of k nearest items (FREEDOM, DRAGON).

        "image", where it is present beside others, has `image_weight`; the others share the rest equally.

        Raises:
            ModelError: k lies outside 1..I.
        """
        others = [name for name in self.features if name != "image"]
        if "image" in self.features and others:
            shares = {"image": image_weight} | {name: (1 - image_weight) / len(others) for name in others}
        else:
            shares = {name: 1 / len(self.features) for name in self.features}
        return weighted_sum([self.item_knn(name, k) for name in shares], list(shares.values()))

    def user_neighbours(self, limit: int) -> CsrArrays:
        """Returns the graph [U, U] of the users who share most items with each user; see `co_occurrence`.

        Raises:
            ModelError: the limit is below 1.
        """
        pairs = (self.train.users, self.train.items)
        parameters = {"num_users": self.num_users, "num_items": self.num_items, "limit": limit}
        return self.graphs.fetch(
            "user_neighbours", pairs, parameters, lambda: co_occurrence(self.interactions(), limit)
        )


def unknown_modality(dataset: str, modality: str, known: list[str]) -> str:
    """Returns the sentence that a data set lacks a modality, with the nearest name that it has."""
    nearest = get_close_matches(modality, known, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"data.modalities must name modalities of data set {dataset!r} ({known}), but got {modality!r}{hint}"
