"""Sharpness-aware minimisation."""

from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import GradientDirection
from trainables.updates.metrics import Euclidean


class SAM(Ascent):
    """Ascends along the batch's gradient, then descends from there: minimises the worst loss within radius ρ.

    Paper: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021. One norm
    over all weights, with 1e-12 beside it, as in davda54/sam; unlike it, weights are restored bit for bit and also
    where the second pass gave no gradient.
    """

    def __init__(self, config: AscentConfig) -> None:
        super().__init__(config, GradientDirection(), Euclidean())
