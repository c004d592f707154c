"""One cell of a sweep: what is searched in it, and the full configuration of each of its trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.errors import SpecError
from search.names import ConfigValue, cell_name
from spaces.errors import SpaceError
from spaces.nearest import did_you_mean
from spaces.params import Choice, Fixed, Parameter, Value
from spaces.presets import REGISTRIES, Group, find_row, preset_space
from spaces.row import Row
from spaces.settings import find_settings, settings_values
from spaces.space import SearchSpace


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep's axes."""

    dataset: str
    model: str
    objective: str
    update: str
    optimizer: str

    @property
    def cell(self) -> str:
        """The cell's name, such as "lfm2k/vbpr/plain/bsam_plus/adam"."""
        return cell_name(self.dataset, self.model, self.objective, self.update, self.optimizer)

    def entries(self) -> dict[Group, str]:
        """Return the names of the four registry rows that the cell combines."""
        return {
            "model": self.model,
            "objective": self.objective,
            "update": self.update,
            "optimizer": self.optimizer,
        }

    def rows(self) -> dict[Group, Row]:
        """Return the four registry rows that the cell combines."""
        return {group: find_row(group, name) for group, name in self.entries().items()}

    def defaults(self) -> dict[str, Value]:
        """Return every hyperparameter of the cell by its full name, such as "update.rho", at its default."""
        return {f"{group}.{name}": value for group, row in self.rows().items() for name, value in row.defaults.items()}

    def accept(self, key: str, value: Value) -> Value:
        """Return the value in the type of that hyperparameter's default.

        Raises:
            SpaceError: the cell has no such hyperparameter, or the value is of another kind.
        """
        for group, row in self.rows().items():
            if key.startswith(f"{group}."):
                return row.accept(key.removeprefix(f"{group}."), value)
        raise SpaceError(f"{key!r} must be a hyperparameter of {self.cell}{did_you_mean(key, self.defaults())}")


@dataclass(frozen=True)
class StudySpec(Cell):
    """One cell together with what is tried in it: one Optuna study.

    Attributes:
        space: what is searched, and what the sweep fixes; every other hyperparameter keeps its default.
        trials: configurations to try, never more than the space holds; each runs once per seed of the sweep.
        base: the flat configuration without the seed, every hyperparameter at its default.
    """

    space: SearchSpace
    trials: int
    base: Mapping[str, ConfigValue]

    def config(self, point: Mapping[str, Value], seed: int) -> dict[str, ConfigValue]:
        """Return the complete flat configuration of one trial, JSON-able, with values in their defaults' types.

        Raises:
            SpaceError: the point does not lie in the space.
        """
        self.space.check(point)
        return {"seed": seed, **self.base, **{key: self.accept(key, value) for key, value in point.items()}}


@dataclass(frozen=True)
class SpaceRecipe:
    """How a sweep makes a cell's space.

    A preset over the groups to tune, then the sweep's own ranges, then the values of named settings, then those that it
    fixes one by one, which hold against the settings'.
    """

    preset: str
    tune: Sequence[Group]
    narrow: Mapping[str, Parameter]
    fix: Mapping[str, Value]
    settings: Sequence[str] = ()

    def build(self, cell: Cell) -> SearchSpace:
        """Return the cell's space; ranges and values of hyperparameters that the cell lacks are left out.

        A hyperparameter of a group that is not tuned is searched all the same where `narrow` gives its range.

        Raises:
            SpecError: a range is wider than the preset's, or a value is of the wrong kind.
        """
        space = preset_space(
            self.preset,
            model=cell.model,
            objective=cell.objective,
            update=cell.update,
            optimizer=cell.optimizer,
            tune=self.tune,
        )
        space = _with_ranges(space, cell, self.narrow)
        fixed = {key: _fixed(cell, key, value) for key, value in self.fix.items() if key in cell.defaults()}
        return SearchSpace({**space.parameters, **self._named(cell), **fixed})

    def _named(self, cell: Cell) -> dict[str, Fixed]:
        try:
            values = settings_values(self.settings, cell.entries())
        except SpaceError as error:
            raise SpecError(f"space.settings: {error}") from None
        known = {key: value for key, value in values.items() if key in cell.defaults()}
        for key in known:
            if key in self.narrow:
                rule = "a hyperparameter must be narrowed or given by space.settings, but this one is both"
                raise SpecError(f"space.narrow.{key}: {rule} for {cell.cell}")
        return {key: Fixed(value=cell.accept(key, value)) for key, value in known.items()}

    def check_keys(self, cells: Sequence[Cell]) -> None:
        """Return if every key of `narrow` and `fix`, and every set of settings, is for at least one of the cells.

        Raises:
            SpecError: naming the first key or set that is not, or the key that is in both.
        """
        for name in self.settings:
            settings = find_settings(name)
            if not any(cell.entries()[settings.group] in settings.entries for cell in cells):
                rule = f"must be for one of the sweep's cells, but {name} is for the {settings.group}s"
                raise SpecError(f"space.settings: {rule} {', '.join(settings.entries)}")
        known = {key for cell in cells for key in cell.defaults()}
        for place, keys in (("space.narrow", self.narrow), ("space.fix", self.fix)):
            for key in keys:
                if key not in known:
                    raise SpecError(f"{place}.{key}: {_unknown_key(key, known)}")
        both = [key for key in self.narrow if key in self.fix]
        if both:
            raise SpecError(f"space.fix.{both[0]}: a hyperparameter must be narrowed or fixed, but this one is both")


def _with_ranges(space: SearchSpace, cell: Cell, narrow: Mapping[str, Parameter]) -> SearchSpace:
    for key, parameter in narrow.items():
        if key not in cell.defaults():
            continue
        try:
            _check_kind(cell, key, parameter)
            if key in space.parameters:
                space = space.narrow({key: parameter})
            else:
                space = space.union(SearchSpace({key: parameter}))
        except SpaceError as error:
            raise SpecError(f"space.narrow.{str(error) if str(error).startswith(key) else f'{key}: {error}'}") from None
    return space


def _check_kind(cell: Cell, key: str, parameter: Parameter) -> None:
    if isinstance(parameter, Choice | Fixed):
        for value in parameter.grid():
            cell.accept(key, value)
    else:
        cell.accept(key, parameter.low)


def _fixed(cell: Cell, key: str, value: Value) -> Fixed:
    try:
        return Fixed(value=cell.accept(key, value))
    except SpaceError as error:
        raise SpecError(f"space.fix.{key}: {error}") from None


def _unknown_key(key: str, known: set[str]) -> str:
    group, _, name = key.partition(".")
    if group not in REGISTRIES or not name:
        groups = ", ".join(f"{known_group}.*" for known_group in REGISTRIES)
        return f"a key must be one of {groups}, but got {key!r}{did_you_mean(key, known)}"
    registry = next(rows for known_group, rows in REGISTRIES.items() if known_group == group)
    owners = [owner for owner, row in registry.items() if name in row.defaults]
    reason = f"only {', '.join(owners)} have it" if owners else "none has it"
    rule = f"must be a hyperparameter of one of the sweep's cells, but {reason}"
    return f"{rule}{'' if owners else did_you_mean(key, known)}"


def check_combinations(cells: Sequence[Cell]) -> None:
    """Return if every cell has a meaning.

    Raises:
        SpecError: naming the first cell that has none: its objective works on features, and its model has none.
    """
    for cell in cells:
        rows = cell.rows()
        if rows["objective"].uses_features and not rows["model"].uses_features:
            raise SpecError(
                f"axes.objective: {cell.objective} must go with models that use modality features, but {cell.model} "
                "uses none; sweep over the two apart"
            )
