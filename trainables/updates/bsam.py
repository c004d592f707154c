"""BSAM: sharpness-aware minimisation whose direction leaves out part of the running mean gradient."""

from pydantic import Field, model_validator

from trainables.updates.ascent import Ascent, AscentConfig
from trainables.updates.directions import Distance, DistanceDirection
from trainables.updates.metrics import Euclidean


class BSAM(Ascent):
    """Ascends along v = g - c·m, with m the moving average of batch gradients and c a distance of g and m.

    Paper: the BSAM/BSAM+ paper, TKDE 2025, doi 10.1109/TKDE.2025.3604242, eq. (9)-(12) and Algorithm 1; no official
    code exists and the text is ambiguous (strategies.md §5). m includes the current gradient and starts at 0 without
    bias correction, as printed. `distance` chooses the reading of c: `l1_relative`, the default, is the Manhattan
    distance over the sum of both L1 norms, in [0, 1] and free of the loss's scale; `l1` is the literal distance over
    all weights, which grows with the number of weights and can turn the ascent into a descent; `loss_vs_ema` is
    Algorithm 1 to the letter; `constant`, `projection`, `cosine` and `neg_ema` are alternatives and limits.
    """

    class Config(AscentConfig):
        """BSAM's numbers."""

        ema_decay: float = Field(default=0.6, ge=0, lt=1)
        """λ: share of the old moving average that is kept, in [0, 1)."""
        distance: Distance = "l1_relative"
        """Reading of the paper's "Manhattan distance" c."""
        constant: float = 1.0
        """c, where `distance` is `constant`."""
        bias_correction: bool = False
        """Whether m is divided by 1 - λᵗ, as in Adam."""
        mask_inactive_rows: bool = False
        """Whether rows of tables that have no gradient in the batch stay where they are."""

        @model_validator(mode="after")
        def _check_constant(self) -> "BSAM.Config":
            if self.constant != 1.0 and self.distance != "constant":
                raise ValueError(f"constant must be left at 1.0 where distance is {self.distance}, which has none")
            return self

    def __init__(self, config: Config) -> None:
        direction = DistanceDirection(
            config.ema_decay,
            config.distance,
            constant=config.constant,
            bias_correction=config.bias_correction,
            mask_inactive_rows=config.mask_inactive_rows,
        )
        super().__init__(config, direction, Euclidean())
