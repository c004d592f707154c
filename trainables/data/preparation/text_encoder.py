"""Features of texts by sentence-transformers, where the extra `features` is installed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.preparation.extra import cannot_load, first_line, folder_digest, needs_extra
from trainables.data.preparation.feature_rows import Encode, Encoder
from trainables.errors import DataError

_WITHOUT = "--text-model none"


def sentence_encoder(model: str, device: str | None = None) -> Encoder:
    """Returns an encoder by a model of sentence-transformers.

    Args:
        model: its name on the hub, or the path of its folder.
        device: as in PyTorch ("cpu", "cuda:0"); None for the best there is.
    """
    return Encoder(f"sentence-transformers:{_name(model)}", lambda: _load(model, device))


def _name(model: str) -> str:
    folder = Path(model)
    return f"{folder.name}@{folder_digest(folder)}" if folder.is_dir() else model


def _load(model: str, device: str | None) -> Encode:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise needs_extra("texts", "sentence-transformers", _WITHOUT) from error
    except Exception as error:
        raise cannot_load("texts", "sentence-transformers", error, _WITHOUT) from error
    try:
        loaded = SentenceTransformer(model, device=device)
    except Exception as error:
        raise DataError(
            f"text model {model!r} must be a folder or be had from the hub, but: {first_line(error)}; without a "
            "network, fetch the model on another machine and give its folder to --text-model"
        ) from error

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(loaded.encode(list(texts), show_progress_bar=False, convert_to_numpy=True))

    return encode
