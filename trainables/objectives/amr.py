"""AMR: train on the features as they are, and on the features as an adversary would have them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from trainables.devices import finds_rows
from trainables.errors import ModelError
from trainables.models.base import Recommender
from trainables.objectives.base import Objective, ObjectiveConfig
from trainables.types import Batch, Losses

Tables: TypeAlias = Mapping[str, Float[Tensor, "I _"]]
"""Feature tables by the model's own name for the tensor (`Recommender.feature_tables`)."""

REGULARISATION = "regularisation"


class AMR(Objective):
    """L + λ·L', where L' is the loss at features moved by ε along the gradient of L, row by row: the worst direction.

    Paper: Tang et al., "Adversarial Training Towards Robust Multimedia Recommender System", IEEE TKDE 2020; official
    code duxy-me/AMR, which is VBPR only. As there, a row moves by the unit vector of its own gradient, rows without
    one stay, no gradient flows through the move, and regularisers count on the clean path only. Ours: any model whose
    features are in its loss, every modality on its own, and a step relative to the modality's mean row norm (`absolute`
    is the paper's, which first divides features by their largest entry). Where features are trainable, their values are
    moved and the gradient of L' still reaches the weights. What a model has made of its features when it was built,
    graphs of items and lengths of rows, stays as it is.
    Both passes see the same dropout, that of plain training. Cost: two forward passes, and a backward pass more than
    that, from L to the features; no parameter or buffer is ever written to.
    """

    class Config(ObjectiveConfig):
        """AMR's numbers."""

        epsilon: float = Field(default=0.1, ge=0)
        """ε: how far a row of a modality's features moves, in units of `epsilon_scale`."""
        epsilon_scale: Literal["relative", "absolute"] = "relative"
        """Unit of ε: the mean L2 norm of the modality's rows, or 1."""
        adversarial_weight: float = Field(default=1.0, ge=0)
        """λ: weight of the loss at the moved features."""
        adversary: Literal["gradient", "random"] = "gradient"
        """Direction of a row's move: its gradient, or the control's truncated normal draw."""
        warmup_epochs: int = Field(default=0, ge=0)
        """Epochs of plain training before the adversary sets in."""

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.config = config
        self.epoch = 1

    def check(self, model: Recommender) -> None:
        if not model.feature_tables():
            name = type(model).__name__
            raise ModelError(f"objective amr needs a model that uses modality features, but {name} has none to perturb")

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def gradient_evaluations(self, epoch: int) -> int:
        """1 in the warm-up, 2 after it."""
        return 1 if epoch <= self.config.warmup_epochs else 2

    def forward(self, model: Recommender, batch: Batch) -> Losses:
        self.check(model)
        if self.gradient_evaluations(self.epoch) == 1:
            return loss_at(model, batch, {})
        device = batch.users.device
        # The generators go back to where they were: the second pass draws the dropout of the first.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            clean, directions = self._clean_pass(model, batch)
        adversarial = unregularised(loss_at(model, batch, self.moved(model, directions)))
        parts = {**clean.parts, "adversarial": self.config.adversarial_weight * adversarial}
        return replace(Losses.of(**parts), memory=clean.memory)

    def _clean_pass(self, model: Recommender, batch: Batch) -> tuple[Losses, Tables]:
        if self.config.adversary == "gradient":
            return feature_gradients(model, batch)
        return loss_at(model, batch, {}), {name: _normal(table) for name, table in feature_values(model).items()}

    def moved(self, model: Recommender, directions: Tables) -> dict[str, Float[Tensor, "I _"]]:
        """The feature tables with every row of a modality moved by ε along its direction; a row of zeros stays."""
        values, places = feature_values(model), model.feature_tables()
        return {name: self._moved(values[name], along, places[name]) for name, along in directions.items()}

    def _moved(
        self, table: Float[Tensor, "I _"], direction: Float[Tensor, "I _"], columns: Mapping[str, slice]
    ) -> Float[Tensor, "I _"]:
        # Behind a batch's loss most rows of most models have no gradient: on a CPU only the others are computed.
        looked = finds_rows(direction)
        rows = torch.linalg.vector_norm(direction, dim=1).nonzero().squeeze(1) if looked else None
        chosen = direction if rows is None else direction.index_select(0, rows)
        steps = torch.zeros_like(chosen)
        for part in columns.values():
            lengths = torch.linalg.vector_norm(chosen[:, part], dim=1, keepdim=True)
            steps[:, part] = self._size(table[:, part]) * chosen[:, part] / lengths.where(lengths > 0, 1.0)
        return table + steps if rows is None else table.index_add(0, rows, steps)

    def _size(self, features: Float[Tensor, "I F"]) -> Float[Tensor, ""] | float:
        if self.config.epsilon_scale == "absolute":
            return self.config.epsilon
        lengths: Tensor = torch.linalg.vector_norm(features.detach(), dim=1)
        return self.config.epsilon * lengths.mean()


class _Stages(nn.Module):
    """A model's batch loss as one module, so that it can be called with other tensors in place of the model's own."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        return self.model.loss(self.model.extract(self.model.fuse(batch)), batch)


def feature_values(model: Recommender) -> dict[str, Float[Tensor, "I _"]]:
    """The model's feature tables by name: its own buffers and parameters, not copies."""
    held = dict(model.named_buffers()) | dict(model.named_parameters())
    return {name: held[name] for name in model.feature_tables()}


def loss_at(model: Recommender, batch: Batch, tables: Tables) -> Losses:
    """The model's batch loss with these feature tables in place of its own, which it has back afterwards."""
    replaced = {f"model.{name}": table for name, table in tables.items()}
    losses: Losses = functional_call(_Stages(model), replaced, (batch,), tie_weights=False)
    return losses


def feature_gradients(model: Recommender, batch: Batch) -> tuple[Losses, Tables]:
    """The model's batch loss, and the gradient of all its parts but "regularisation" in the features.

    The gradient carries no graph. Tables that the loss does not depend on have none and are left out.
    """
    with torch.enable_grad():
        values = feature_values(model)
        leaves = {
            name: value if value.requires_grad else value.detach().requires_grad_() for name, value in values.items()
        }
        losses = loss_at(model, batch, {name: leaf for name, leaf in leaves.items() if leaf is not values[name]})
        found = torch.autograd.grad(unregularised(losses), list(leaves.values()), retain_graph=True, allow_unused=True)
    return losses, {name: part for name, part in zip(leaves, found, strict=True) if part is not None}


def unregularised(losses: Losses) -> Float[Tensor, ""]:
    """The sum of the parts that are not the model's regulariser."""
    parts = [part for name, part in losses.parts.items() if name != REGULARISATION]
    return sum(parts[1:], parts[0])


def _normal(table: Float[Tensor, "I _"]) -> Float[Tensor, "I _"]:
    """Standard normal draws within two standard deviations, from the global generator."""
    if finds_rows(table):
        return nn.init.trunc_normal_(torch.empty_like(table, requires_grad=False), a=-2.0, b=2.0)
    # PyTorch draws again until every entry lies within, and looks each time; the quantiles of even draws always do.
    even = torch.empty_like(table, requires_grad=False).uniform_(-1, 1)
    return even.mul_(math.erf(math.sqrt(2))).erfinv_().mul_(math.sqrt(2))
