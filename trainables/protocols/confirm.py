"""The confirmation: a chosen configuration trained anew and judged where nothing was chosen, on the test split."""

import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import open_test_split
from trainables.protocols.measurement import Measurement
from trainables.protocols.training import not_a_number, train


def confirmation(
    config: TrialConfig, data: DataBundle, settings: None = None, *, device: torch.device | str = "cpu"
) -> list[Measurement]:
    """Trains with the configuration's seed and returns all metrics of the best validation epoch on validation and test.

    The test split is opened when the training is over, for this evaluation alone; a training that diverged opens it
    not, and is NaN on both.

    Args:
        settings: none; protocols take some.

    Raises:
        DataError: there is no test row.
        ModelError: the model cannot work with the data set.
    """
    trained = train(config, data, device)
    test = not_a_number() if trained.diverged else trained.trainer.evaluate_best(open_test_split(config.data))
    judged = [Measurement("confirmation", name, value, "valid") for name, value in trained.validation.items()]
    judged += [Measurement("confirmation", name, value, "test") for name, value in test.items()]
    return trained.priced(judged)
