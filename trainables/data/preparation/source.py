"""What a reader of published files must offer the pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from trainables.data.preparation.raw import RawInteractions


@dataclass(frozen=True)
class ItemTexts:
    """The text of each item, "" where the files have none.

    Attributes:
        rows: how many rows the file of items holds.
        skipped: reason -> how many rows were left out for it, and where the first ones are.
    """

    texts: Sequence[str]
    rows: int
    skipped: Mapping[str, Mapping[str, object]]


@runtime_checkable
class PublishedFiles(Protocol):
    """Files with interactions and texts, which `prepare` reads once each; all that steers the reading is in it."""

    @property
    def kind(self) -> str:
        """Name of the kind of files, for the account of a prepared folder."""

    @property
    def item_column(self) -> str:
        """What original item ids are called in `i_id_mapping.csv`."""

    def inputs(self) -> Mapping[str, Path]:
        """Returns every file that is read, by role."""

    def settings(self) -> Mapping[str, object]:
        """Returns what else determines the result, as plain JSON values."""

    def interactions(self) -> RawInteractions:
        """Returns all sound rows; raises DataError where a file cannot be read to its end or has none."""

    def texts(self, positions: Mapping[str, int]) -> ItemTexts | None:
        """Returns the texts of items by position (id -> position), None where there are none; raises DataError."""
