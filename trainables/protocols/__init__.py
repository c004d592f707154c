"""Protocols that judge trained configurations: under corruptions, over splits and seeds, and by the loss around them.

Each is a function `(config, data, settings, *, device="cpu") -> list[Measurement]` that trains from the configuration,
is deterministic in it, and judges on validation data; the test split stays sealed. `confirmation` has the same form
and is the exception: it opens the test split. Settings, `variants` and `Measurement` can be imported without torch; the
functions bring it along when they are first asked for.
"""

from typing import TYPE_CHECKING

from trainables.protocols.config import (
    CorruptionConfig,
    GeneralisationConfig,
    LandscapeConfig,
    RobustnessConfig,
    Variant,
    variants,
)
from trainables.protocols.measurement import Measurement

if TYPE_CHECKING:
    from trainables.protocols.confirm import confirmation
    from trainables.protocols.generalisation_protocol import generalisation
    from trainables.protocols.landscape_protocol import landscape
    from trainables.protocols.robustness_protocol import robustness

__all__ = [
    "CorruptionConfig",
    "GeneralisationConfig",
    "LandscapeConfig",
    "Measurement",
    "RobustnessConfig",
    "Variant",
    "confirmation",
    "generalisation",
    "landscape",
    "robustness",
    "variants",
]


def __getattr__(name: str) -> object:
    """The protocols, whose modules load torch."""
    if name == "confirmation":
        from trainables.protocols.confirm import confirmation

        return confirmation
    if name == "robustness":
        from trainables.protocols.robustness_protocol import robustness

        return robustness
    if name == "generalisation":
        from trainables.protocols.generalisation_protocol import generalisation

        return generalisation
    if name == "landscape":
        from trainables.protocols.landscape_protocol import landscape

        return landscape
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
