"""What a trial's result says of its cost."""

from collections.abc import Mapping
from typing import Any

TIMES = ("train_seconds", "evaluation_seconds", "setup_seconds")


def spent_seconds(result: Mapping[str, Any]) -> float:
    """Seconds that the trial has held its device for, over all of its starts."""
    return float(sum(result.get(name) or 0.0 for name in TIMES))


def device_seconds(result: Mapping[str, Any], share: tuple[float, float]) -> float:
    """The same times its share of the device: of GPUs where it ran on one, else of CPUs.

    Args:
        share: logical CPUs and GPUs that the trial occupies.
    """
    cpu, gpu = share
    return (cpu if result.get("device", "cpu") == "cpu" else gpu) * spent_seconds(result)
