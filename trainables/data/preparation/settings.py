"""What may be chosen when published files are made into a data set."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """How interactions are chosen and split, and what stands in for features that nobody has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    core: int = Field(default=5, ge=1)
    """Every user and every item keeps at least this many interactions; 1 keeps all."""
    min_rating: float | None = None
    """Lower ratings are no interactions; None for no limit."""
    split: Literal["random", "leave_one_out", "global_time"] = "random"
    """The rule of the column x_label, as `data.split` has it."""
    split_seed: int = Field(default=999, ge=0)
    missing: Literal["mean", "zero"] = "mean"
    """The row of an item without a text or an image: the mean of all others', as in the published folders, or zeros."""
