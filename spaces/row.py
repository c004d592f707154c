"""One line of a registry: what a sweep knows about a model, objective, update or optimizer without importing torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from spaces.errors import SpaceError
from spaces.nearest import did_you_mean
from spaces.params import Value
from spaces.space import SearchSpace


@dataclass(frozen=True)
class Row:
    """The defaults and ranges of one entry.

    Attributes:
        summary: one line for `recsweep show`.
        source: the paper or repository that the published grid comes from.
        defaults: every field of the matching `Config`, by its bare name ("rho"), with its default.
        paper: exactly the published grid; keys are full names ("update.rho"). A model's may include hyperparameters of
            the optimizer that it was published with ("optimizer.learning_rate").
        extended: ranges that contain it.
        uses_features: whether it works on the items' modality features: a model that has them in its loss and scores,
            an objective that perturbs them and so needs such a model.
    """

    summary: str
    source: str
    defaults: Mapping[str, Value]
    paper: SearchSpace
    extended: SearchSpace
    uses_features: bool = False

    def accept(self, field: str, value: Value) -> Value:
        """Return `value` in the type of the field's default (a whole number becomes a float where that is one).

        Raises:
            SpaceError: there is no such field, or the value is of another kind.
        """
        if field not in self.defaults:
            raise SpaceError(f"{field!r} must be one of {', '.join(self.defaults)}{did_you_mean(field, self.defaults)}")
        default = self.defaults[field]
        if type(value) is type(default):
            return value
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        raise SpaceError(f"must be {_KINDS[type(default)]}, but got {value!r}")


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
