"""The registry of objectives: a new one is a line here and a row in `spaces/objectives.py`."""

from trainables.objectives.amr import AMR
from trainables.objectives.base import Objective
from trainables.objectives.dvib import DVIBAdaptive, DVIBConstant
from trainables.objectives.entropy import EntropyPenalty
from trainables.objectives.plain import Plain

OBJECTIVES: dict[str, type[Objective]] = {
    "plain": Plain,
    "dvib_c": DVIBConstant,
    "dvib_a": DVIBAdaptive,
    "amr": AMR,
    "entropy": EntropyPenalty,
}
