"""The configuration of one trial, as a typed tree read from a flat mapping."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainables.data.config import DataConfig
from trainables.early_validation import EarlyValidation
from trainables.errors import ConfigError
from trainables.models import MODELS
from trainables.models.base import ModelConfig
from trainables.objectives import OBJECTIVES
from trainables.objectives.base import ObjectiveConfig
from trainables.optimizers import OPTIMIZERS, OptimizerConfig
from trainables.precision import Precision
from trainables.updates import UPDATES
from trainables.updates.base import UpdateConfig

GROUPS = ("data", "model", "objective", "update", "optimizer", "train")

SomeConfig = TypeVar("SomeConfig", bound=BaseModel)


class TrainConfig(BaseModel):
    """How long a trial trains and what it is judged by; the split is always validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_epochs: int = Field(default=1000, ge=1)
    """Most epochs of training."""
    patience: int = Field(default=20, ge=0)
    """Training stops when more than this many validations in a row bring no new best."""
    batch_size: int = Field(default=2048, ge=1)
    """Positive interactions a batch."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next; the last epoch is always validated."""
    metric: str = Field(default="recall@20", pattern=r"^(recall|ndcg|precision|map)@(5|10|20|50)$")
    """Validation metric that early stopping and the search look at."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of the metric is better."""
    init_from: str | None = None
    """Folder of a checkpoint of the same model, whose best weights are this trial's first ones; None draws them."""
    precision: Precision = "float32"
    """In which matrices are multiplied in training: `tf32` lets a GPU round all factors to 10 bits behind the point and
    does nothing on a CPU; `bf16` rounds those of large dense products (features) to 7 bits on every device. Weights,
    gradients, sums, losses and full validations are float32 in any case."""
    early_validation: EarlyValidation | None = None
    """How the validations of the first epochs are made cheaper; None makes all of them full."""

    @model_validator(mode="after")
    def _check_early_validation(self) -> "TrainConfig":
        if self.early_validation is not None:
            self.early_validation.check_epochs(self.max_epochs, self.validate_every)
        return self


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides a trial's numbers, apart from the data set's content."""

    seed: int
    data: DataConfig
    model_name: str
    model: ModelConfig
    objective_name: str
    objective: ObjectiveConfig
    update_name: str
    update: UpdateConfig
    optimizer_name: str
    optimizer: OptimizerConfig
    train: TrainConfig

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> "TrialConfig":
        """The configuration from keys such as "seed", "model.name", "model.reg_weight", "update.rho".

        Raises:
            ConfigError: an unknown key or name (the nearest known one is named), or a value outside its range.
        """
        groups = _grouped(flat)
        model_name, model = _chosen("model", groups["model"], {n: m.Config for n, m in MODELS.items()}, "lightgcn")
        objective_name, objective = _chosen(
            "objective", groups["objective"], {n: o.Config for n, o in OBJECTIVES.items()}, "plain"
        )
        update_name, update = _chosen("update", groups["update"], {n: u.Config for n, u in UPDATES.items()}, "descent")
        optimizer_name, optimizer = _chosen("optimizer", groups["optimizer"], OPTIMIZERS, "adam")
        return cls(
            seed=_seed(flat.get("seed", 999)),
            data=_parsed("data", DataConfig, groups["data"]),
            model_name=model_name,
            model=model,
            objective_name=objective_name,
            objective=objective,
            update_name=update_name,
            update=update,
            optimizer_name=optimizer_name,
            optimizer=optimizer,
            train=_parsed("train", TrainConfig, groups["train"]),
        )


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"seed must be an integer >= 0, but got {value!r}")
    return value


def _grouped(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for key, value in flat.items():
        group, _, name = key.partition(".")
        if key == "seed":
            continue
        if group not in groups or not name:
            raise ConfigError(f"{key} is not a key of a trial; keys are seed and {', '.join(g + '.*' for g in GROUPS)}")
        groups[group][name] = value
    return groups


def _chosen(
    group: str, fields: dict[str, Any], known: Mapping[str, type[SomeConfig]], default: str
) -> tuple[str, SomeConfig]:
    name = fields.pop("name", default)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{group}.name must be one of {', '.join(known)}, but got {name!r}{_nearest(name, known)}")
    return name, _parsed(group, known[name], fields)


def _parsed(group: str, config: type[SomeConfig], fields: Mapping[str, Any]) -> SomeConfig:
    try:
        return config(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if not name:  # a rule between fields, in its own words
            raise ConfigError(f"{group}.{first['ctx']['error']!s}") from None
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{group}.{name} is unknown{_nearest(name, list(config.model_fields))}") from None
        if name == "early_validation" and first["type"] == "value_error":
            raise ConfigError(f"{group}.{name} {first['ctx']['error']!s}, but got {first['input']!r}") from None
        raise ConfigError(f"{group}.{name}: {first['msg']}, but got {first['input']!r}") from None


def _nearest(name: object, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
