"""What a protocol measures: one number and where it belongs. Importable without torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measurement:
    """One number; NaN where a training diverged or a loss or representation left the numbers.

    Attributes:
        subject: robustness: "clean" or the corruption's name; generalisation: "both", "split" or "init"; landscape:
            "filter_norm", "paper", "ascent_sharpness", "average_sharpness" or "hessian_eigenvalue"; "confirmation".
        metric: a ranking metric ("recall@20"), "snr/<modality>", "snr/item_embedding", "loss", "value"; of the
            eigenvalue also "residual" and "iterations".
        value: the number.
        split: the interactions that it was measured on; the test split in confirmations alone.
        phase: robustness: "test" (corrupted only when judged) or "train_test" (trained on corrupted data too).
        level: label of the severity, such as "0.05", "L1", "3%".
        severity: the number behind the level: a standard deviation, a share, a radius.
        draw: number of the noise draw, from 0.
        point: number of the grid point, from 0; rows of equal y one after the other.
        x, y: coordinates of a landscape's point.
        gradient_evaluations, train_seconds: cost of the training behind the number.
    """

    subject: str
    metric: str
    value: float
    split: Literal["valid", "train", "test"] = "valid"
    phase: str = ""
    level: str = ""
    severity: float | None = None
    draw: int = 0
    point: int = 0
    x: float | None = None
    y: float | None = None
    gradient_evaluations: int = 0
    train_seconds: float = 0.0
