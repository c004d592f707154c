"""Checkpoints on disk: `weights.pt` and `progress.json`, in a folder that appears whole or not at all."""

import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.errors import TrainableError

TENSORS, NUMBERS = "weights.pt", "progress.json"


def save(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Writes both files into a new folder beside the target, syncs them, and renames the folder into place.

    A reader sees a whole checkpoint or none. An existing one of that name is moved aside and then removed; every save
    of a sweep goes to a new folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        fresh, old = Path(place) / "fresh", Path(place) / "old"
        fresh.mkdir()
        _write(fresh, tensors, numbers)
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)


def _write(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    with open(folder / TENSORS, "wb") as file:
        torch.save(dict(tensors), file)
        os.fsync(file.fileno())
    with open(folder / NUMBERS, "w") as text:
        json.dump(numbers, text)
        text.flush()
        os.fsync(text.fileno())


def load(folder: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, numbers) of a checkpoint, without running any code that the file might hold.

    Raises:
        TrainableError: the folder is not a whole checkpoint.
    """
    if not (folder / TENSORS).is_file() or not (folder / NUMBERS).is_file():
        raise TrainableError(f"{folder} must hold {TENSORS} and {NUMBERS}, but does not")
    try:
        tensors = torch.load(folder / TENSORS, map_location=device, weights_only=True)
        return tensors, json.loads((folder / NUMBERS).read_text())
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise TrainableError(f"{folder} must be a whole checkpoint, but cannot be read: {error}") from error
