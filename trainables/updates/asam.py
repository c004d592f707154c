"""Adaptive sharpness-aware minimisation: a radius in proportion to each weight."""

from pydantic import Field

from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import GradientDirection
from trainables.updates.metrics import Adaptive, AdaptiveOn


class ASAM(Ascent):
    """SAM in the ball ‖T⁻¹ε‖ <= ρ with T = |w| + η, which does not change when weights are rescaled.

    Paper: Kwon et al., "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
    Networks", ICML 2021. The official code adapts where a parameter's name contains "weight", which leaves out the
    embeddings of most recommenders; the default here is every tensor with two dimensions or more (strategies.md §4.2).
    Embedding entries are small, so ρ must be some ten times that of SAM.
    """

    class Config(AscentConfig):
        """ASAM's numbers."""

        rho: float = Field(default=0.5, ge=0)
        """Radius ρ, in multiples of the weights."""
        eta: float = Field(default=0.01, ge=0)
        """η: what is added to |w|, so that weights near 0 move too."""
        adaptive_on: AdaptiveOn = "matrices"
        """Tensors whose radius follows their weights; `matrices` are those with two dimensions or more."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, GradientDirection(), Adaptive(config.eta, config.adaptive_on))
