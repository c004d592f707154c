"""Where trials keep their checkpoints, and how these are removed: what a driver must know of them, without PyTorch."""

from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

from pyarrow import fs

from trainables.places import Place, below


@dataclass(frozen=True)
class CheckpointPlan:
    """Where trials keep their checkpoints and how often.

    Attributes:
        root: a folder or an s3:// or gs:// address; every trial has a folder of its name in it.
        every_epochs: epochs from one checkpoint to the next.
        keep: checkpoints that a running trial keeps.
    """

    root: str
    every_epochs: int = 5
    keep: int = 2

    def place(self, name: str) -> str:
        """The address of the trial of that name."""
        return below(self.root, name)


def remove_all(address: str, filesystem: fs.FileSystem | None = None) -> None:
    """Removes a trial's checkpoints; where there are none, nothing happens.

    Raises:
        OSError: they could not be removed.
    """
    with suppress(FileNotFoundError):
        Place(address, filesystem).delete_folder()


def remove_needless(address: str, needless: Container[str], filesystem: fs.FileSystem | None = None) -> None:
    """Removes, of all trials that keep their checkpoints below an address, those of the needless ones.

    Raises:
        OSError: they could not be removed.
    """
    place = Place(address, filesystem)
    for trial in place.listed():
        if trial in needless:
            with suppress(FileNotFoundError):
                place.delete_folder(trial)
