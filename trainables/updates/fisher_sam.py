"""Fisher SAM: sharpness-aware minimisation in the ball of the Fisher information."""

from typing import Literal

from pydantic import Field

from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import GradientDirection
from trainables.updates.metrics import Fisher


class FisherSAM(Ascent):
    """SAM in the ball εᵀF(θ)ε <= ρ², F the diagonal empirical Fisher information of the batch.

    Paper: Kim et al., "Fisher SAM: Information Geometry and Sharpness Aware Minimisation", ICML 2022; no official code
    exists (strategies.md §4.3). As printed it depends on the scale of the loss: with a mean-reduced BPR loss, where
    |g| is 1e-6 to 1e-4, η = 1 gives SAM to ten digits. `scale="relative"` divides g² by its mean, which is our own.
    """

    class Config(AscentConfig):
        """Fisher SAM's numbers."""

        eta: float = Field(default=1.0, ge=0)
        """η: how strongly entries with a large gradient are held back; 0 is SAM."""
        scale: Literal["absolute", "relative"] = "absolute"
        """Whether η multiplies g² itself or g² over its mean."""
        norm: Literal["fisher", "l2"] = "fisher"
        """Length of the perturbation that is ρ: √(εᵀFε), or the plain ‖ε‖ of one of the unofficial ports."""

    def __init__(self, config: Config) -> None:
        metric = Fisher(config.eta, relative=config.scale == "relative", l2_norm=config.norm == "l2")
        super().__init__(config, GradientDirection(), metric)
