"""The control for DVIB's gains: its entropy penalty alone."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from trainables.models.base import Recommender
from trainables.objectives.base import Objective
from trainables.objectives.distillation import (
    DistillationConfig,
    check_distributions,
    distributions,
    repetition,
    uniformity_of,
)
from trainables.precision import unrounded
from trainables.types import Batch, Losses


class EntropyPenalty(Objective):
    """L0(Z) + γ_d · U(Z), U the mean over rows of log n - H(p) >= 0: plain training that is kept from certainty.

    p is the softmax of a row of what DVIB distils (`Recommender.distilled`: a user's scores of n items; BM3, FREEDOM:
    an item's n features, summed over the views), H its entropy in nats. U is 0 for uniform rows and log n for certain
    ones, so minimising it flattens. It is the term of DVIB's `distill` "entropy", taken of the clean pass; there is no
    perturbed one. The divergence in DVIB's released code is this term almost entirely (strategies.md §6.3), so what
    this control gains is not owed to distillation. It is ours: neither the paper nor its code has it.
    Cost: one pass, over all items' rows where plain training of some models needs the batch's only.
    """

    class Config(DistillationConfig):
        """The control's numbers: those of the distillation that it stands in for."""

    def __init__(self, config: Config, widths: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__(config, widths, generator)
        self.config = config

    def check(self, model: Recommender) -> None:
        check_distributions(self.config, model)

    def forward(self, model: Recommender, batch: Batch) -> Losses:
        fused = model.fuse()
        with unrounded():  # as in DVIB, whose control this is
            hidden = model.extract(fused)
            clean = model.loss(hidden, batch)
            weight = self.config.gamma_d * repetition(self.config, model, batch)
            penalty = weight * uniformity_of(distributions(self.config, model, hidden, batch))
        return replace(Losses.of(**clean.parts, uniformity=penalty), memory=clean.memory)
