"""Validations of a trial's first epochs as cheap estimates, and the name under which they are stored.

Importable without torch.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ESTIMATE = "estimate/"
"""Begins the name of a metric that was estimated, so that none is ever taken for the metric itself."""


def estimate_of(metric: str) -> str:
    """The name under which an estimate of the metric is stored: "estimate/recall@20"."""
    return f"{ESTIMATE}{metric}"


class EarlyValidation(BaseModel):
    """How validations up to and including an epoch are made cheaper.

    What they find is an estimate. Schedulers and adaptive samplers see it, for nothing else is there yet; the best
    score, the best weights and early stopping come from later validations alone, which are full.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epochs: int = Field(ge=1)
    """The last epoch whose validation is an estimate; below `max_epochs`, since the last one of a trial is full."""
    users: int | None = Field(default=None, ge=1)
    """Users that are ranked: a random sample of those that a full validation ranks, the same one for all trials on the
    same data and `data.split_seed`; null for all."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16` rounds the factors of the scores to 8 significant bits, where embeddings are wider than 16; sums stay
    float32. Processors that multiply bfloat16 are faster then, and all others get the same numbers but for the order of
    summation."""

    @model_validator(mode="after")
    def _check_used(self) -> "EarlyValidation":
        if self.users is None and self.precision == "float32":
            raise ValueError("must give users or the precision bf16, as there is nothing to save otherwise")
        return self

    def check_epochs(self, max_epochs: int, validate_every: int) -> None:
        """Returns if a trial of that length has both estimates and full validations.

        Raises:
            ValueError: it lacks one of them.
        """
        if not validate_every <= self.epochs < max_epochs:
            raise ValueError(
                "early_validation.epochs must be at least validate_every and less than max_epochs, but got "
                f"{self.epochs} with validate_every {validate_every} and max_epochs {max_epochs}"
            )

    def validations(self, validate_every: int) -> int:
        """How many of a trial's validations are estimates, if it trains on beyond them."""
        return self.epochs // validate_every
