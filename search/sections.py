"""The sections of a sweep file, each a frozen pydantic class whose fields say what they mean and how far they go."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search.study_spec import Cell, SpaceRecipe
from spaces.aliases import UPDATE_ALIASES
from spaces.models import MODELS
from spaces.nearest import did_you_mean
from spaces.objectives import OBJECTIVES
from spaces.optimizers import OPTIMIZERS
from spaces.params import Parameter, Value
from spaces.presets import Group
from spaces.settings import SETTINGS
from spaces.updates import UPDATES
from trainables.data.config import SplitName
from trainables.early_validation import EarlyValidation
from trainables.protocols.config import GeneralisationConfig, LandscapeConfig, RobustnessConfig

Entry = TypeVar("Entry", str, int)
ProtocolSettings: TypeAlias = RobustnessConfig | GeneralisationConfig | LandscapeConfig

METRICS = tuple(f"{name}@{k}" for name in ("recall", "ndcg", "precision", "map") for k in (5, 10, 20, 50))

Names = Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

AXES = ("dataset", "model", "objective", "update", "optimizer")
"""The axes of a cell, as `resources.overrides` names their values."""


@dataclass(frozen=True)
class Share:
    """What a trial occupies: logical CPUs and a share of a GPU, or several whole ones."""

    cpu: int
    gpu: float


class Section(BaseModel):
    """What all sections share: immutable, no unknown keys, no conversions between types, only finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSection(Section):
    """Which data sets are swept over, and how each is split."""

    names: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ...], Strict(False), Field(min_length=1)
    ]
    """Folders below `root`, or `synthetic` for the embedded data set."""
    root: str | None = None
    """The folder with the data sets' folders; in a file relative to the file, in an override to the current folder."""
    modalities: Annotated[tuple[str, ...], Strict(False)] | None = None
    """Modalities that models see, in this order; null for all that a data set has, [] for none."""
    split: SplitName = "given"
    """`given` follows the files' x_label; every other rule makes the split anew."""
    split_seed: Annotated[int, Field(ge=0)] = 999
    """Seed of a split that draws at random."""

    @field_validator("names", "modalities")
    @classmethod
    def _check_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else _distinct(names)


AXIS_VALUES: Mapping[str, Collection[str]] = {
    "model": MODELS,
    "objective": OBJECTIVES,
    "update": UPDATES,
    "optimizer": OPTIMIZERS,
}
"""What an axis may hold; data sets have names of their own."""


class AxesSection(Section):
    """The names that are combined, each with each; every combination with a data set is one study."""

    model: Names
    objective: Names = ("plain",)
    update: Names
    optimizer: Names = ("adam",)

    @field_validator("model", "objective", "optimizer")
    @classmethod
    def _check_names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return _known(names, AXIS_VALUES[str(info.field_name)])

    @field_validator("update")
    @classmethod
    def _check_updates(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(tuple(UPDATE_ALIASES.get(name, name) for name in names), UPDATES, UPDATE_ALIASES)


class SpaceSection(Section):
    """What is searched inside every study."""

    preset: Literal["paper", "extended"] = "extended"
    """`paper`: exactly the published grids; `extended`: ranges that contain them."""
    tune: Annotated[tuple[Group, ...], Strict(False)] = ("model", "objective", "update", "optimizer")
    """The groups whose hyperparameters are searched; those of the others keep their defaults."""
    narrow: dict[str, Parameter] = Field(default_factory=dict)
    """A range inside the preset's, or any range for a hyperparameter that the preset does not search; by full name."""
    fix: dict[str, Value] = Field(default_factory=dict)
    """A value instead of a range; by full name. Keys apply to the studies that have the hyperparameter."""
    settings: Annotated[tuple[str, ...], Strict(False)] = ()
    """Named sets of values instead of ranges, for the entries that they belong to: see `recsweep show presets`. `fix`
    holds against them."""

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, SETTINGS)

    def recipe(self) -> SpaceRecipe:
        """Return the same as a function from cells to spaces."""
        return SpaceRecipe(self.preset, self.tune, self.narrow, self.fix, self.settings)


class SchedulerSection(Section):
    """Which trials are ended early because others of their cell are better."""

    kind: Literal["fifo", "asha"] = "fifo"
    """`fifo`: none; `asha`: all but the best 1/reduction at every rung."""
    grace_epochs: Count = 5
    """Epochs that every trial gets (asha)."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """A rung's epochs over those of the rung before (asha)."""

    @model_validator(mode="after")
    def _check_unused(self) -> "SchedulerSection":
        if self.kind == "fifo" and (self.grace_epochs, self.reduction) != (5, 3):
            raise ValueError(
                "grace_epochs and reduction must be left out where kind is fifo, which has no use for them"
            )
        return self


class SearchSection(Section):
    """How many configurations are tried, and who picks them."""

    sampler: Literal["random", "grid", "tpe"] = "random"
    """`random`: evenly, a finite space without repetition; `grid`: a finite space in order; `tpe`: adaptive."""
    trials: Count = 32
    """Configurations per study, each run once per seed."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Strict(False), Field(min_length=1)] = (999,)
    """Seeds of the trials; the first is also the sampler's."""
    scheduler: SchedulerSection = SchedulerSection()

    @field_validator("seeds")
    @classmethod
    def _check_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _distinct(seeds)


class TrainSection(Section):
    """How long a trial trains."""

    max_epochs: Count = 1000
    """Most epochs of a trial."""
    patience: Annotated[int, Field(ge=0)] = 20
    """A trial stops when more than this many validations in a row bring no new best."""
    batch_size: Count = 2048
    """Positive interactions a batch."""
    validate_every: Count = 1
    """Epochs from one validation to the next; the last epoch is always validated."""
    init_from: str | None = None
    """Folder of a trial's checkpoint, of the same model and sizes, whose best weights every trial starts from, as AMR
    does from a trained VBPR; relative as for `data.root`. Null draws the weights."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """In which matrices are multiplied in training: `tf32` lets a GPU round all factors to 10 bits behind the point and
    does nothing on a CPU; `bf16` rounds those of large dense products, as with features, to 7 bits on every device.
    Both are faster and change the numbers."""
    early_validation: EarlyValidation | None = None
    """How the validations of the first epochs are made cheaper, such as {epochs: 10, users: 2048, precision: bf16};
    null makes all of them full. What they find are estimates: only schedulers and samplers see them."""

    @model_validator(mode="after")
    def _check_early_validation(self) -> "TrainSection":
        if self.early_validation is not None:
            self.early_validation.check_epochs(self.max_epochs, self.validate_every)
        return self

    def validations(self) -> tuple[int, int]:
        """Return how many validations a trial of full length makes, and how many of them are estimates."""
        early = self.early_validation
        estimates = 0 if early is None else early.validations(self.validate_every)
        return math.ceil(self.max_epochs / self.validate_every), estimates


class GoalSection(Section):
    """What trials are compared by: a metric on the validation split. There is no key for a split."""

    metric: str = "recall@20"
    mode: Literal["max", "min"] = "max"

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            rule = "must be recall, ndcg, precision or map, @5, 10, 20 or 50"
            raise ValueError(f"{rule}, but got {metric!r}{did_you_mean(metric, METRICS)}")
        return metric


def _share(gpu: float | None) -> float | None:
    if gpu is not None and gpu > 1 and not float(gpu).is_integer():
        raise ValueError(f"must be a share up to 1 or a whole number, but got {gpu}")
    return gpu


class TrialShare(Section):
    """What the trials of one axis value occupy, where that differs; null leaves the sweep's own."""

    cpu: Count | None = None
    gpu: Annotated[float, Field(ge=0), AfterValidator(_share)] | None = None


class ResourcesSection(Section):
    """What a trial occupies, and how many run at once."""

    cpu: Count = 1
    """CPUs of a trial, which are also its threads."""
    gpu: Annotated[float, Field(ge=0), AfterValidator(_share)] = 0
    """Share of a GPU; 0.25 packs four trials on one."""
    max_concurrent: Count | Literal["auto"] = "auto"
    """Most trials at once; `auto` for as many as the cluster holds, growing and shrinking with it."""
    overrides: Mapping[str, TrialShare] = {}
    """Other shares for trials with an axis value, such as {model.freedom: {gpu: 0.5}}; of several that fit a cell the
    last one counts."""

    @field_validator("overrides")
    @classmethod
    def _check_axes(cls, overrides: Mapping[str, TrialShare]) -> Mapping[str, TrialShare]:
        for key in overrides:
            axis, _, value = key.partition(".")
            if axis not in AXES or not value:
                known = ", ".join(f"{each}.*" for each in AXES)
                raise ValueError(f"must name axis values ({known}), but got {key!r}{did_you_mean(axis, AXES)}")
        return overrides

    def of(self, cell: Cell) -> Share:
        """Return what a trial of the cell occupies."""
        values = {axis: getattr(cell, axis) for axis in AXES}
        cpu, gpu = self.cpu, self.gpu
        for key, share in self.overrides.items():
            axis, _, value = key.partition(".")
            if values[axis] == value:
                cpu = cpu if share.cpu is None else share.cpu
                gpu = gpu if share.gpu is None else share.gpu
        return Share(cpu, gpu)


class CheckpointSection(Section):
    """How often a trial's state is saved, and what stays of it."""

    every_epochs: Count = 5
    """Epochs from one checkpoint to the next: what a lost worker or driver costs a running trial at most."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Checkpoints that a running trial keeps; two at least, so that there is another where the last is damaged."""
    ended: Literal["best", "all", "none"] = "best"
    """Whose last checkpoint stays once the trial has ended: of each cell's best so far, of every trial, or of none."""


class BudgetSection(Section):
    """What a sweep may cost. Null is no limit; a limit that is reached ends the sweep with exit code 4."""

    device_hours: Positive | None = None
    """Device-hours of all trials together: then no trial begins, and running ones stop at their next checkpoint."""
    wall_hours: Positive | None = None
    """Hours since this start or resume of the sweep, with the same effect."""
    trial_minutes: Positive | None = None
    """Minutes of one trial: then it ends with what it has reached. One that reports nothing for so long has failed."""
    per: Literal["study", "sweep"] = "study"
    """Whether `amount` is for every study or for all together."""
    unit: Literal["gradient_evaluations", "device_seconds", "trials"] = "gradient_evaluations"
    """What `amount` counts."""
    amount: Count | None = None
    """Then no trial of the study (or sweep) begins, and running ones stop at their next checkpoint."""

    @model_validator(mode="after")
    def _check_used(self) -> "BudgetSection":
        if self.amount is None and (self.per, self.unit) != ("study", "gradient_evaluations"):
            raise ValueError("per and unit must be left out where amount is null, which has no use for them")
        return self


class WatchSection(Section):
    """When a sweep says that something is wrong with what it runs on."""

    stall_minutes: Positive = 30
    """Without any result for so long, a sentence says so, with the cause where it can be known."""
    disk_floor_gb: Annotated[float, Field(ge=0)] = 1
    """Free space (1e9 bytes) of the store's disk below which trials stop at their next checkpoint; 0 for none."""


class ProtocolsSection(Section):
    """What is measured of every cell's best configuration after the search; null for what is not, {} for defaults."""

    robustness: RobustnessConfig | None = None
    """Scores under corrupted features and embeddings."""
    generalisation: GeneralisationConfig | None = None
    """Scores over seeds and random splits; it has seeds of its own."""
    landscape: LandscapeConfig | None = None
    """The loss around the trained weights."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Strict(False), Field(min_length=1)] | None = (
        None
    )
    """Training seeds of robustness and landscape; null for those of the search."""

    @field_validator("seeds")
    @classmethod
    def _check_distinct(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if seeds is None else _distinct(seeds)

    @model_validator(mode="after")
    def _check_seeds_used(self) -> "ProtocolsSection":
        if self.seeds is not None and self.robustness is None and self.landscape is None:
            raise ValueError("seeds must be left out where neither robustness nor landscape is given")
        return self

    def given(self) -> dict[str, ProtocolSettings]:
        """Return the protocols that are asked for, by name."""
        every = {"robustness": self.robustness, "generalisation": self.generalisation, "landscape": self.landscape}
        return {name: settings for name, settings in every.items() if settings is not None}


def _distinct(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    if len(set(entries)) < len(entries):
        raise ValueError(f"must name nothing twice, but got {list(entries)}")
    return entries


def _known(names: tuple[str, ...], registry: Collection[str], aliases: Iterable[str] = ()) -> tuple[str, ...]:
    for name in names:
        if name not in registry:
            hint = did_you_mean(name, (*registry, *aliases))
            raise ValueError(f"must be among {', '.join(registry)}, but got {name!r}{hint}")
    return _distinct(names)
