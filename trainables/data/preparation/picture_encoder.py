"""Features of pictures by timm, where the extra `features` is installed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.features import file_digest
from trainables.data.preparation.extra import cannot_load, first_line, needs_extra
from trainables.data.preparation.feature_rows import Encode, Encoder
from trainables.errors import DataError

_WITHOUT = "the published features (--images FILE.b)"
_BATCH = 64


def picture_encoder(model: str, weights: Path | None = None, device: str | None = None) -> Encoder:
    """Returns an encoder by a model of timm: what the model passes to its classifier.

    Args:
        model: its name in timm.
        weights: a .safetensors file of it; None for those that timm gets from the hub.
        device: as in PyTorch ("cpu", "cuda:0"); None for the best there is.

    Raises:
        DataError: the weights are not a .safetensors file, and reading them could run code.
    """
    if weights is not None and (weights.suffix != ".safetensors" or not weights.is_file()):
        raise DataError(f"--image-weights must be a .safetensors file, but is {weights}")
    name = f"timm:{model}" + ("" if weights is None else f"@{file_digest(weights)}")
    return Encoder(name, lambda: _load(model, weights, device))


def _load(model: str, weights: Path | None, device: str | None) -> Encode:
    try:
        import timm
    except ImportError as error:
        raise needs_extra("pictures", "timm", _WITHOUT) from error
    except Exception as error:
        raise cannot_load("pictures", "timm", error, _WITHOUT) from error
    local = None if weights is None else {"file": str(weights)}
    try:
        loaded = timm.create_model(model, pretrained=True, num_classes=0, pretrained_cfg_overlay=local)
    except Exception as error:
        raise DataError(
            f"image model {model!r} must be one of timm's with weights, but: {first_line(error)}; without a network, "
            "give a file with its weights to --image-weights"
        ) from error
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded), is_training=False)
    return _encoding(loaded.eval(), transform, device)


def _encoding(model: Any, transform: Callable[[Any], Any], device: str | None) -> Encode:
    import torch

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(place)
    # In some models more layers follow the features before the classifier.
    width = getattr(model, "head_hidden_size", None) or model.num_features

    def encode(paths: Sequence[str]) -> np.ndarray:
        rows = np.full((len(paths), width), np.nan, dtype=np.float32)
        for start in range(0, len(paths), _BATCH):
            pictures = {
                start + offset: picture
                for offset, path in enumerate(paths[start : start + _BATCH])
                if (picture := _opened(path)) is not None
            }
            if pictures:
                with torch.inference_mode():
                    features = model(torch.stack([transform(picture) for picture in pictures.values()]).to(place))
                rows[list(pictures)] = features.float().cpu().numpy()
        return rows

    return encode


def _opened(path: str) -> Any:
    """A picture in colour, None where the file holds none."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
