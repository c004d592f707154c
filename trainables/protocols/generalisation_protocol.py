"""The generalisation protocol: one of its trainings (strategies.md §9)."""

import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.protocols.config import GeneralisationConfig
from trainables.protocols.measurement import Measurement
from trainables.protocols.training import train


def generalisation(
    config: TrialConfig, data: DataBundle, settings: GeneralisationConfig, *, device: torch.device | str = "cpu"
) -> list[Measurement]:
    """Trains one variant and returns every validation metric of its best epoch; NaN, each, where it diverged.

    Args:
        config: of a variant (`config.variants`), with its seed and split in place.
        data: divided as the variant says.
        settings: only `vary` matters here; it is the measurements' subject.

    Raises:
        ModelError: the model cannot work with the data set.
    """
    trained = train(config, data, device)
    return trained.priced([Measurement(settings.vary, name, value) for name, value in trained.validation.items()])
