"""What a sweep needs to go on from the store: its specification, its past, and whether it would be the same sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import ResumeError, SpecError
from search.history import PastTrial, past_trials, stored_spec
from search.overrides import apply
from search.provenance import changes
from search.spec import OPERATION, SweepSpec, parse, studies, with_absolute_paths
from search.store import Store
from search.study_spec import StudySpec


@dataclass(frozen=True)
class Past:
    """A stored sweep.

    Attributes:
        spec: as it was started, with what the resume changes.
        trials: what earlier drivers ran.
        started: the row of its last start or resume.
    """

    spec: SweepSpec
    cells: tuple[StudySpec, ...]
    trials: tuple[PastTrial, ...]
    started: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every trial has ended for good."""
        planned = sum(cell.trials for cell in self.cells) * len(self.spec.search.seeds)
        return sum(trial.ended for trial in self.trials) >= planned

    def check_same(self, now: dict[str, object], *, accept: bool) -> str | None:
        """What has changed since the last start that could change numbers, where that is accepted; None for nothing.

        Raises:
            ResumeError: something has changed and is not accepted.
        """
        found = changes(self.started, now)
        if not found:
            return None
        what = ", ".join(found)
        if not accept:
            raise ResumeError(
                f"sweep {self.spec.name} must go on with what it was started with, but there changed: {what}; "
                "--accept-changes goes on all the same"
            )
        return f"went on although there changed: {what}"


def read_past(store: Store, sweep: str, overrides: Sequence[str] = ()) -> Past:
    """The sweep of that name as the store holds it.

    Args:
        overrides: "key=value" for sections that say how a sweep is run, and `data.root`.

    Raises:
        StoreError: there is no such sweep.
        SpecError: an override is wrong, or would make another sweep of it.
    """
    name = store.resolve(sweep)
    spec = _changed(stored_spec(store, name), overrides)
    started = store.table("sweeps", name).sort_by("started").to_pylist()[-1]
    return Past(spec, studies(spec), tuple(past_trials(store, spec)), started)


def _changed(spec: SweepSpec, overrides: Sequence[str]) -> SweepSpec:
    allowed = (*OPERATION, "data.root")
    for override in overrides:
        key = override.partition("=")[0]
        if not any(f"{key}.".startswith(f"{each}.") for each in allowed):
            raise SpecError(
                f"a resume may change {', '.join(allowed)}, but got {override!r}: launch another sweep for it"
            )
    changed, origins = apply(spec.model_dump(mode="json"), overrides, SweepSpec)
    return parse(with_absolute_paths(changed, Path.cwd()), "the stored sweep", origins)
