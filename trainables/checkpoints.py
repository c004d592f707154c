"""Checkpoints on disk: `weights.pt` and `progress.json`, in a folder that appears whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.errors import TrainableError

TENSORS, NUMBERS = "weights.pt", "progress.json"


def save(folder: Path, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Writes both files into a new folder beside the target, syncs them, and renames the folder into place.

    A reader sees the old checkpoint or the new one. An existing checkpoint of that name is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    with open(fresh / TENSORS, "wb") as file:
        torch.save(dict(tensors), file)
        os.fsync(file.fileno())
    with open(fresh / NUMBERS, "w") as text:
        json.dump(numbers, text)
        text.flush()
        os.fsync(text.fileno())
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(fresh, folder)


def load(folder: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, numbers) of a checkpoint, without running any code that the file might hold.

    Raises:
        TrainableError: the folder is not a whole checkpoint.
    """
    if not (folder / TENSORS).is_file() or not (folder / NUMBERS).is_file():
        raise TrainableError(f"{folder} must hold {TENSORS} and {NUMBERS}, but does not")
    tensors = torch.load(folder / TENSORS, map_location=device, weights_only=True)
    return tensors, json.loads((folder / NUMBERS).read_text())
