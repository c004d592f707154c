"""Friendly SAM: ascends along the part of the gradient that is the batch's own."""

from typing import Literal

from pydantic import Field

from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import FriendlyDirection
from trainables.updates.metrics import Euclidean


class FriendlySAM(Ascent):
    """SAM along d = g - σ·m, with m the moving average of earlier batch gradients.

    Paper: Li et al., "Friendly Sharpness-Aware Minimization", CVPR 2024; the BSAM paper's "FSAM". Follows the official
    code (nblt/F-SAM), whose average does not yet hold the current gradient; the paper's does. With σ = 1 both give the
    same direction (strategies.md §4.4). The average holds gradients at θ, without weight decay or clipping.
    """

    class Config(AscentConfig):
        """Friendly SAM's numbers."""

        sigma: float = Field(default=1.0, ge=0)
        """σ: how much of the average is left out."""
        ema_decay: float = Field(default=0.6, ge=0, lt=1)
        """λ: share of the old moving average that is kept, in [0, 1)."""
        ema: Literal["previous", "inclusive"] = "previous"
        """Whether the average that is left out already holds the current gradient."""

    def __init__(self, config: Config) -> None:
        inclusive = config.ema == "inclusive"
        super().__init__(config, FriendlyDirection(config.sigma, config.ema_decay, inclusive=inclusive), Euclidean())
