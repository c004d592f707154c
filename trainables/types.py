"""The values that pass between the stages of a trial, and the legend of their shapes.

Legend, used in every shape of this package:

    U users      I items      N nodes = U + I      D embedding size      F width of a modality's features
    B batch      K negatives per positive          R rows                P parameters
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

Fused: TypeAlias = Mapping[str, Float[Tensor, "_ _"]]
"""H, where `fuse` ends: name -> [rows, width]. Rows are items unless the name says otherwise ("users")."""


@dataclass(frozen=True)
class Batch:
    """Training interactions of one step; never mutated.

    Attributes:
        users: user ids.
        positives: an item that the user interacted with in the training split.
        negatives: items that the user did not; K = 0 for models that learn without negatives.
    """

    users: Int[Tensor, " B"]
    positives: Int[Tensor, " B"]
    negatives: Int[Tensor, "B K"]


@dataclass(frozen=True)
class Hidden:
    """Final representations of all users and items.

    Attributes:
        users: [U, W], W the width in which scores are taken (not always D).
        items: [I, W].
        views: by name, what auxiliary losses need besides.
    """

    users: Float[Tensor, "U W"]
    items: Float[Tensor, "I W"]
    views: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """A batch's loss: `total` carries the graph and is the sum of `parts`.

    Attributes:
        memory: by name, what the batch leaves to its model for later batches (`Recommender.remember`); detached.
    """

    total: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, **parts: Tensor) -> "Losses":
        """The losses whose total is the sum of the given parts, in their order."""
        values = list(parts.values())
        total = values[0]
        for value in values[1:]:
            total = total + value
        return cls(total, parts)


@dataclass(frozen=True)
class Moment:
    """Where in the training a step stands: `epoch` counts from 1, `step` within it from 0."""

    epoch: int
    step: int


@runtime_checkable
class Closure(Protocol):
    """Computes the loss of one fixed batch at the current weights.

    Every call sees the same batch and the same random draws (dropout, noise), so two calls at the same weights agree
    bit for bit; `fresh=True` draws anew, differently at each such call.
    """

    def __call__(self, *, fresh: bool = False) -> Losses: ...
