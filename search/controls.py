"""Which arms of a comparison need a control beside them, and whether it is there (strategies.md §12.10e)."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from search.arms import arm_name

Pair: TypeAlias = tuple[str, str]
"""An objective's name and an update's: what tells arms apart."""


@dataclass(frozen=True)
class Control:
    """Entries that do something besides their idea, and those that do that alone; strategies.md §12.10e asks for both.

    Attributes:
        axis: what the names are names of.
        pattern: which entries need a control, as a shell's pattern.
        controls: the entries that are one, the best first; any of them will do.
        reason: what the controlled entries do besides.
    """

    axis: Literal["objective", "update"]
    pattern: str
    controls: tuple[str, ...]
    reason: str

    def missing(self, present: Set[Pair]) -> dict[str, str]:
        """Return the arms that lack a control, each with the arm that would be one."""
        found = {}
        for objective, update in sorted(present):
            judged = objective if self.axis == "objective" else update
            if {objective, update} & ONLY_CONTROLS or not fnmatchcase(judged, self.pattern):
                continue
            pairs = [(name, update) if self.axis == "objective" else (objective, name) for name in self.controls]
            if not present & set(pairs):
                found[arm_name(objective, update)] = arm_name(*pairs[0])
        return found


ONLY_CONTROLS = {"entropy", "extra_steps", "double_batch"}
"""Entries that are there for the sake of others."""

_STEPS = "it takes extra steps on some batches"
_BATCHES = "the _plus forms see two batches a step and take half the steps"
_AVERAGE = "what sets bsam apart is how much of the gradients' moving average it takes out"
_ENTROPY = "its distillation may act by the entropy of the scores alone, without any noise"

CONTROLS = (
    Control("update", "mirror_gradient", ("extra_steps",), _STEPS),
    Control("update", "*_plus", ("double_batch",), _BATCHES),
    Control("update", "bsam", ("friendly_sam",), _AVERAGE),
    Control("update", "bsam_plus", ("friendly_sam", "friendly_sam_plus"), _AVERAGE),
    Control("objective", "dvib_*", ("entropy",), _ENTROPY),
)


def missing_controls(arms: Iterable[Pair]) -> Iterator[str]:
    """Yield a sentence for every kind of arm whose control is not among the arms.

    What claims nothing of its own needs none: see `ONLY_CONTROLS`.
    """
    present = set(arms)
    wanted: dict[str, dict[str, str]] = {}
    for control in CONTROLS:
        wanted.setdefault(control.reason, {}).update(control.missing(present))
    for reason, missing in wanted.items():
        if missing:
            controls = ", ".join(dict.fromkeys(missing.values()))
            yield f"No control is part of this comparison for {', '.join(missing)}: {reason}. It would take {controls}."
