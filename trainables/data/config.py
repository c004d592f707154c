"""Which data set a trial learns from, and how it is split."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

SplitName: TypeAlias = Literal["given", "random", "leave_one_out", "global_time"]


class DataConfig(BaseModel):
    """A data set by name, the modalities used of it and the rule of its split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="synthetic", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """`synthetic` for the embedded data set, else the folder <root>/<name> in MMRec's format."""
    root: str | None = None
    """The folder that holds data set folders; not used for `synthetic`."""
    modalities: tuple[str, ...] | None = None
    """Modalities in the order in which models see them; None for all that the data set has, by name; () for none."""
    split: SplitName = "given"
    """`given` follows the column x_label; every other rule makes the split anew, also where x_label exists."""
    split_seed: int = Field(default=999, ge=0)
    """Seed of a split that draws at random."""

    @classmethod
    def of_folder(cls, folder: Path) -> "DataConfig":
        """The configuration of the data set in a folder, as the commands `recsweep data ...` name it."""
        resolved = folder.resolve()
        return cls(name=resolved.name, root=str(resolved.parent))

    @field_validator("modalities")
    @classmethod
    def _distinct(cls, modalities: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if modalities is not None and len(set(modalities)) < len(modalities):
            raise ValueError(f"modalities must be distinct, but got {list(modalities)}")
        return modalities
