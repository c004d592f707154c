"""What can go wrong in a trial, as one hierarchy.

ValueError
  TrainableError          everything that a user can cause and mend
    ConfigError           a key, type or range of a trial's configuration
    DataError             a file of a data set breaks a rule
    ModelError            a model and a data set or batch do not fit together
RuntimeError
  Diverged                the loss left the numbers; a result of the trial, not a crash
"""


class TrainableError(ValueError):
    """A mistake in what the user gave; its text is one sentence for a person."""


class ConfigError(TrainableError):
    """A key, type or range of a trial's configuration is wrong."""


class DataError(TrainableError):
    """A data set breaks a rule that training relies on."""


class ModelError(TrainableError):
    """A model cannot work with this data set or batch."""


class Diverged(RuntimeError):  # noqa: N818 - a result, not an error
    """The training loss became NaN or infinite, or exploded.

    Attributes:
        epoch: the epoch (from 1) in which it happened.
        step: the optimiser step within that epoch (from 1); 0 where only the epoch is known.
        loss: the loss seen there.
    """

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        super().__init__(f"the loss must stay finite and bounded, but was {loss} at epoch {epoch}, step {step}")
        self.epoch = epoch
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, int, float]]:
        return (Diverged, (self.epoch, self.step, self.loss))
