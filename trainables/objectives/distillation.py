"""What DVIB and its entropy control compare: distributions that a model offers, and the measures between them."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from trainables.devices import finds_rows, first_places
from trainables.errors import ModelError
from trainables.layers.divergences import jensen_shannon, kullback_leibler, released_divergence, uniformity_penalty
from trainables.models.base import Recommender
from trainables.objectives.base import ObjectiveConfig
from trainables.types import Batch, Hidden

Logits: TypeAlias = Mapping[str, Float[Tensor, "_ _"]]
"""By name, one categorical distribution a row."""

Divergence: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def _from_perturbed(clean: Tensor, perturbed: Tensor) -> Tensor:
    return kullback_leibler(perturbed, clean)


DIVERGENCES: dict[str, Divergence] = {
    "js": jensen_shannon,
    "kl_delta_to_z": _from_perturbed,
    "kl_z_to_delta": kullback_leibler,
    "released": released_divergence,
}
"""Of (clean, perturbed) logits; a mean over rows."""


class DistillationConfig(ObjectiveConfig):
    """How much the comparison counts, and of what it takes its rows and columns."""

    gamma_d: float = Field(default=0.1, ge=0, le=1)
    """γ_d: weight of the distillation term."""
    distill_rows: int = Field(default=512, ge=0)
    """Rows of the batch whose distinct users (BM3, FREEDOM: items) are distilled; 0 takes what the released code takes,
    every row of the batch (FREEDOM: every item), repeated ones and all (strategies.md §6.3)."""
    distill_items: Literal["all", "batch"] = "all"
    """Items that a distribution is over: all, or the distinct positives and negatives of the batch. To find these, a
    GPU's host waits once a loss."""


def check_distributions(config: DistillationConfig, model: Recommender) -> None:
    """Raises ModelError where distributions over a batch's items are wanted of a model that compares features."""
    if config.distill_items == "batch" and type(model).distilled is not Recommender.distilled:
        name = type(model).__name__
        raise ModelError(f"distill_items must be 'all' for model {name}, whose distributions are not over items")


def distributions(config: DistillationConfig, model: Recommender, hidden: Hidden, batch: Batch) -> Logits:
    """The logits of the model's `distilled`, over the items that the configuration asks for."""
    check_distributions(config, model)
    logits = model.distilled(hidden, batch, config.distill_rows or None)
    firsts = _firsts(config, model, batch)
    if firsts is not None:
        logits = {name: rows * firsts[:, None] for name, rows in logits.items()}
    if config.distill_items == "all":
        return logits
    items = torch.unique(torch.cat([batch.positives, batch.negatives.flatten()]))
    return {name: scores.index_select(1, items) for name, scores in logits.items()}


def _firsts(config: DistillationConfig, model: Recommender, batch: Batch) -> Bool[Tensor, " R"] | None:
    """Which rows of `distilled` are no repetition of one before; None where none is, or repeated ones count."""
    ids = model.distilled_ids(batch)[: config.distill_rows]
    return None if config.distill_rows == 0 or finds_rows(ids) else first_places(ids)


def repetition(config: DistillationConfig, model: Recommender, batch: Batch) -> Float[Tensor, ""] | float:
    """Rows over distinct rows of `distributions`: a factor that turns a mean over all rows into one over the distinct.

    For a repeated row stands a uniform one, of which every measure here is 0, so that only its place in the mean is
    left. 1 on a CPU, where no row is repeated that is not to count.
    """
    firsts = _firsts(config, model, batch)
    return 1.0 if firsts is None else len(firsts) / firsts.sum(dtype=torch.float64)


def divergence_between(measure: Divergence, clean: Logits, perturbed: Logits) -> Float[Tensor, ""]:
    """The sum of the measure over the names; every term is a mean over rows."""
    return torch.stack([measure(clean[name], perturbed[name]) for name in clean]).sum()


def uniformity_of(logits: Logits) -> Float[Tensor, ""]:
    """The sum over the names of `uniformity_penalty`, log n - H(p) in a mean over rows: at least 0."""
    return torch.stack([uniformity_penalty(rows) for rows in logits.values()]).sum()
