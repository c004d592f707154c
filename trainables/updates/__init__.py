"""The registry of updates: a new one is a line here and a row in `spaces/updates.py`."""

from trainables.updates.base import Update
from trainables.updates.bsam import BSAM
from trainables.updates.descent import Descent
from trainables.updates.mirror_gradient import MirrorGradient
from trainables.updates.mixed import BSAMPlus, SAMPlus
from trainables.updates.sam import SAM

UPDATES: dict[str, type[Update]] = {
    "descent": Descent,
    "mirror_gradient": MirrorGradient,
    "sam": SAM,
    "sam_plus": SAMPlus,
    "bsam": BSAM,
    "bsam_plus": BSAMPlus,
}
