"""The registry of updates: a new one is a line here and a row in `spaces/updates.py`."""

from trainables.updates.asam import ASAM
from trainables.updates.base import Update
from trainables.updates.bsam import BSAM
from trainables.updates.descent import Descent, DoubleBatch
from trainables.updates.fisher_sam import FisherSAM
from trainables.updates.friendly_sam import FriendlySAM
from trainables.updates.mirror_gradient import ExtraSteps, MirrorGradient
from trainables.updates.mixed import GNP, ASAMPlus, BSAMPlus, FisherSAMPlus, FriendlySAMPlus, SAMPlus
from trainables.updates.sam import SAM

UPDATES: dict[str, type[Update]] = {
    "descent": Descent,
    "double_batch": DoubleBatch,
    "extra_steps": ExtraSteps,
    "mirror_gradient": MirrorGradient,
    "sam": SAM,
    "sam_plus": SAMPlus,
    "asam": ASAM,
    "asam_plus": ASAMPlus,
    "fisher_sam": FisherSAM,
    "fisher_sam_plus": FisherSAMPlus,
    "friendly_sam": FriendlySAM,
    "friendly_sam_plus": FriendlySAMPlus,
    "bsam": BSAM,
    "bsam_plus": BSAMPlus,
    "gnp": GNP,
}
