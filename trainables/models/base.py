"""What a recommender is: four pure stages, and the configuration they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from trainables.data.bundle import DataBundle
from trainables.devices import distinct
from trainables.errors import ModelError
from trainables.layers.dense import product
from trainables.layers.features import FrozenFeatures, ProjectedFeatures
from trainables.types import Batch, Fused, Hidden, Losses

Scorer: TypeAlias = Callable[[Int[Tensor, " B"]], Float[Tensor, "B I"]]


class ModelConfig(BaseModel):
    """Fields that every model has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    embedding_size: int = Field(default=64, ge=1, le=4096)
    """Width D of user and item embeddings."""


class Recommender(nn.Module, ABC):
    """Four pure stages: `fuse() -> H`, `extract(H) -> Hidden`, `loss(Hidden, Batch)`, `scorer(Hidden)`.

    The trainer calls `start_epoch` before each epoch, then per batch fuse, extract and loss, and for evaluation fuse,
    extract and scorer in evaluation mode from the current weights. `fuse` ends at H by definition: an objective such as
    DVIB perturbs whatever it returned. A stage never assigns to `self`, never changes its arguments and draws nothing
    at random but dropout and its kin (dropped edges, Gumbel noise), in training mode only; tests hold every entry of
    the registry to that. What a batch leaves behind for later ones goes out as `Losses.memory` and comes back through
    `remember`, once per batch of a step.

    Every model is built as `Model(config, data, generator)` and draws its initial weights from the generator alone.
    """

    uses_negatives: ClassVar[bool] = True
    uses_features: ClassVar[bool] = False

    class Config(ModelConfig):
        """The model's numbers; each model extends it."""

    def __init__(self, data: DataBundle) -> None:
        """Checks that the data set has what the model needs.

        Raises:
            ModelError: no training pair, or the model needs modality features and the data set has none.
        """
        super().__init__()
        if len(data.train) == 0:
            raise ModelError(f"a model must have training interactions, but data set {data.name!r} has none")
        if self.uses_features and not data.features:
            raise ModelError(
                f"model {type(self).__name__} needs modality features, but data set {data.name!r} has no *_feat.npy"
            )

    def start_epoch(self, epoch: int, generator: np.random.Generator) -> None:
        """Redraws what lives for one epoch (a pruned graph); epochs count from 1. Default: nothing."""

    def remember(self, batch: Batch, memory: Mapping[str, Tensor]) -> None:
        """Takes in what a batch's loss left in `Losses.memory`, after the step. Default: nothing.

        The trainer hands over the memory of the batch's first pass in the step, which every update makes at the
        unperturbed weights. What is kept must be a buffer, so that checkpoints hold it.
        """

    @abstractmethod
    def fuse(self, batch: Batch | None = None) -> Fused:
        """H: fused modality features, or the ego embeddings of a model without modalities.

        With a batch, rows that its loss cannot see may stay 0 instead of being computed; None wants all rows.
        """

    @abstractmethod
    def extract(self, fused: Fused) -> Hidden:
        """Representations of all users and items from H and the graph."""

    @abstractmethod
    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        """The model's full batch loss, with its own regularisers and auxiliary losses."""

    def scorer(self, hidden: Hidden) -> Scorer:
        """Scores of all items, for whichever users it is then given. Default: inner product.

        A ranking gives it one part of the users after another, so what all users share is to be computed here.
        """
        items = hidden.items.T
        return lambda users: product(hidden.users[users], items)

    def score(self, hidden: Hidden, users: Int[Tensor, " B"]) -> Float[Tensor, "B I"]:
        """Scores of all items for the given users: what `scorer` gives, which is what a model may override."""
        return self.scorer(hidden)(users)

    def distilled(self, hidden: Hidden, batch: Batch, limit: int | None) -> Mapping[str, Float[Tensor, "_ _"]]:
        """Logits, one distribution a row, on which a clean and a perturbed pass are compared.

        Default: scores of all items for the distinct users among the batch's first `limit` rows (a batch is a random
        subset, so its head is one too); None takes every row of the batch, repeated users and all. Distinct they are on
        a CPU only: elsewhere there is a row for each of `distilled_ids`, of which objectives leave repeated ones out.
        """
        users = self.distilled_ids(batch)
        return {"scores": self.score(hidden, users if limit is None else distinct(users[:limit]))}

    def distilled_ids(self, batch: Batch) -> Int[Tensor, " B"]:
        """The ids that the rows of `distilled` belong to. Default: users."""
        return batch.users

    def feature_tables(self) -> Mapping[str, Mapping[str, slice]]:
        """Where the modality features are: name of a buffer or parameter [I, _] -> modality -> its columns there.

        Robustness perturbs them (AMR in training, corruptions after it). Default: whatever `FrozenFeatures` and
        `ProjectedFeatures` hold; empty for a model without modalities.
        """
        held = [
            (f"{place}.{name}", modality)
            for place, module in self.named_modules()
            if isinstance(module, FrozenFeatures | ProjectedFeatures)
            for modality, name in module.places().items()
        ]
        return {name: {modality: slice(None)} for name, modality in held}

    def item_tables(self) -> Mapping[str, slice]:
        """Where the trainable embeddings of items are: parameter [_, D] -> its rows that belong to items.

        Default: `item_embedding`, where there is one.
        """
        return {"item_embedding": slice(None)} if hasattr(self, "item_embedding") else {}

    def require_negatives(self, batch: Batch) -> None:
        """Raises ModelError when a batch for a ranking loss has no negatives."""
        if batch.negatives.shape[1] == 0:
            raise ModelError(f"model {type(self).__name__} needs negatives, but the batch has none")
