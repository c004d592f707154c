"""The sweep file as a typed tree: YAML and overrides in, a validated `SweepSpec` and its studies out."""

import itertools
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from search.errors import SpecError
from search.names import ConfigValue, digest
from search.overrides import apply
from search.sections import (
    AXIS_VALUES,
    AxesSection,
    BudgetSection,
    CheckpointSection,
    DataSection,
    GoalSection,
    ProtocolsSection,
    ResourcesSection,
    SchedulerSection,
    SearchSection,
    Section,
    SpaceSection,
    TrainSection,
    WatchSection,
)
from search.spec_errors import sentence
from search.study_spec import Cell, StudySpec, check_combinations
from search.yaml_loader import MAX_BYTES, read
from spaces.nearest import did_you_mean

__all__ = ["SchedulerSection", "StudySpec", "SweepSpec", "builtin_sweeps", "cells", "load", "parse", "studies"]


OPERATION = ("resources", "checkpoint", "budget", "watch")
"""Sections that say how a sweep is run and not what it finds; a resume may change them."""


class SweepSpec(Section):
    """A whole sweep. Every default is filled in, so it says by itself what runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    data: DataSection
    axes: AxesSection
    space: SpaceSection = SpaceSection()
    search: SearchSection = SearchSection()
    train: TrainSection = TrainSection()
    goal: GoalSection = GoalSection()
    resources: ResourcesSection = ResourcesSection()
    checkpoint: CheckpointSection = CheckpointSection()
    budget: BudgetSection = BudgetSection()
    watch: WatchSection = WatchSection()
    protocols: ProtocolsSection = ProtocolsSection()
    store: str | None = None
    """Where results go; relative as for `data.root`. Null leaves it to the command."""

    @model_validator(mode="after")
    def _check_sections_together(self) -> "SweepSpec":
        scheduler = self.search.scheduler
        if scheduler.kind == "asha" and scheduler.grace_epochs < self.train.validate_every:
            rule = "must be at least train.validate_every, as no trial can be judged before it is validated"
            got = f"got {scheduler.grace_epochs} < {self.train.validate_every}"
            raise ValueError(f"search.scheduler.grace_epochs: {rule}, but {got}")
        check_combinations(cells(self))
        self.space.recipe().check_keys(cells(self))
        self._check_overrides()
        for study in studies(self):
            if self.search.sampler == "grid" and (continuous := study.space.continuous()):
                rule = "a grid needs finitely many values of every hyperparameter"
                remedy = "narrow it to a choice, or take the preset paper"
                raise ValueError(f"search.sampler: {rule}, but {continuous[0]} of {study.cell} is continuous; {remedy}")
        return self

    def _check_overrides(self) -> None:
        """A value may be named that the axes lack, so that a file with fewer of them needs no other change."""
        for key in self.resources.overrides:
            axis, _, value = key.partition(".")
            known = tuple(AXIS_VALUES.get(axis, self.data.names))
            if value not in known:
                rule = f"must name one of {', '.join(known)}"
                raise ValueError(f"resources.overrides.{key}: {rule}, but got {value!r}{did_you_mean(value, known)}")

    @property
    def digest(self) -> str:
        """The SHA-256 in hex of what decides the numbers: not name, places, resources, checkpoints, budgets."""
        content = self.model_dump(mode="json", exclude={"name", "store", *OPERATION})
        del content["data"]["root"]
        if not content["space"]["settings"]:
            # A sweep without a key has the digest that it had before there was one; so for the next four.
            del content["space"]["settings"]
        if self.train.init_from is None:
            del content["train"]["init_from"]
        if self.train.precision == "float32":
            del content["train"]["precision"]
        if self.train.early_validation is None:
            del content["train"]["early_validation"]
        if not self.protocols.given():
            del content["protocols"]
        return digest(content)


def load(sweep: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Return the sweep of a YAML file or of a built-in name, with `a.b.c=value` overrides.

    What ends in .yaml or .yml or has a folder in it is a path; everything else is the name of a built-in sweep.

    Raises:
        SpecError: one sentence with the file or override, key, rule, value and the nearest valid name.
    """
    path = Path(sweep)
    is_path = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    source = str(sweep) if is_path else f"{sweep}.yaml"
    text = _read_file(path) if is_path else _read_builtin(str(sweep))
    raw = read(text, source)
    if not isinstance(raw, dict):
        raise SpecError(f"{source}: a sweep must be a mapping of keys, but got {type(raw).__name__}")
    if is_path:
        raw = with_absolute_paths(raw, path.absolute().parent)
    changed, origins = apply(raw, overrides, SweepSpec)
    return parse(with_absolute_paths(changed, Path.cwd()), source, origins)


def parse(raw: Mapping[str, object], source: str = "the sweep", origins: Mapping[str, str] | None = None) -> SweepSpec:
    """Return the sweep that a mapping describes; paths are taken as they are.

    Args:
        source: the file's name, for error sentences.
        origins: for dotted keys that came from elsewhere, what to name instead of `source`.

    Raises:
        SpecError: as for `load`.
    """

    def source_of(key: str) -> str:
        above = [
            origin for start, origin in (origins or {}).items() if f"{key}.".startswith((f"{start}.", f"{start}["))
        ]
        return above[-1] if above else source

    try:
        return SweepSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(sentence(error, raw, SweepSpec, source_of)) from None


def builtin_sweeps() -> tuple[str, ...]:
    """Return the names of the built-in sweeps, sorted."""
    folder = resources.files("search").joinpath("sweeps")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def cells(spec: SweepSpec) -> tuple[Cell, ...]:
    """Return every combination of data set and axes, in the file's order; the optimizer varies fastest."""
    axes = spec.axes
    combinations = itertools.product(spec.data.names, axes.model, axes.objective, axes.update, axes.optimizer)
    return tuple(Cell(*combination) for combination in combinations)


def studies(spec: SweepSpec) -> tuple[StudySpec, ...]:
    """Return one study per cell, in the order of `cells`.

    Raises:
        SpecError: a range or value of `space` does not suit a cell.
    """
    recipe = spec.space.recipe()
    result = []
    for cell in cells(spec):
        space = recipe.build(cell)
        size = space.size()
        trials = spec.search.trials if size is None else min(spec.search.trials, size)
        parts = (cell.dataset, cell.model, cell.objective, cell.update, cell.optimizer)
        result.append(StudySpec(*parts, space=space, trials=trials, base=_base_config(spec, cell)))
    return tuple(result)


def _base_config(spec: SweepSpec, cell: Cell) -> dict[str, ConfigValue]:
    data = spec.data
    return {
        "data.name": cell.dataset,
        "data.root": data.root,
        "data.modalities": None if data.modalities is None else list(data.modalities),
        "data.split": data.split,
        "data.split_seed": data.split_seed,
        "model.name": cell.model,
        "objective.name": cell.objective,
        "update.name": cell.update,
        "optimizer.name": cell.optimizer,
        **cell.defaults(),
        **{f"train.{key}": value for key, value in _given(spec.train).items()},
        "train.metric": spec.goal.metric,
        "train.mode": spec.goal.mode,
    }


def _given(train: TrainSection) -> dict[str, ConfigValue]:
    """The section's keys in a trial; of the younger ones those that say something, so that trials keep their names."""
    unsaid = {"precision"} if train.precision == "float32" else set()
    return train.model_dump(exclude_none=True, exclude=unsaid)


def with_absolute_paths(raw: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return a sweep's mapping with the paths in it taken from a folder."""
    changed = dict(raw)
    if isinstance(data := raw.get("data"), dict) and isinstance(root := data.get("root"), str):
        changed["data"] = {**data, "root": _absolute(root, folder)}
    if isinstance(train := raw.get("train"), dict) and isinstance(start := train.get("init_from"), str):
        changed["train"] = {**train, "init_from": _absolute(start, folder)}
    if isinstance(store := raw.get("store"), str):
        changed["store"] = _absolute(store, folder)
    return changed


def _absolute(path: str, folder: Path) -> str:
    # s3://bucket/sweeps is an address, not a path.
    return path if "://" in path else str(folder / Path(path).expanduser())


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: must be a readable file, but the system says {error.strerror!r}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: must be UTF-8 text, but byte {error.start} is not") from None


def _read_builtin(name: str) -> str:
    known = builtin_sweeps()
    if name not in known:
        rule = f"a sweep must be a path ending in .yaml or one of the built-in {', '.join(known)}"
        raise SpecError(f"{rule}, but got {name!r}{did_you_mean(name, known)}")
    return resources.files("search").joinpath(f"sweeps/{name}.yaml").read_text(encoding="utf-8")
