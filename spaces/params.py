"""The values that one hyperparameter may take: `Float`, `Int`, `Choice` or `Fixed`, frozen and validated."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from spaces.errors import SpaceError

Value: TypeAlias = float | int | str | bool


class Suggester(Protocol):
    """Whoever picks values: the part of `optuna.Trial` that spaces use.

    A space asks once per parameter and trial, in the space's order, under the parameter's full name. What comes back
    must lie inside the bounds, both ends included.
    """

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float:
        """Return a number in [low, high]; with `log`, one whose logarithm is spread evenly."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = ...) -> int:
        """Return a whole number in [low, high]; with `log`, one whose logarithm is spread evenly."""

    def suggest_categorical(self, name: str, choices: Sequence[Value | None]) -> Value | None:
        """Return one of the choices. None stands here because Optuna's signature has it; no space offers it."""


class _Domain(BaseModel):
    """What all four kinds share: immutable, no unknown keys, no conversions, only finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Float(_Domain):
    """Every number in [low, high]; with `log`, sampled evenly in its logarithm."""

    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Float":
        _check_range(self.low, self.high)
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold where `log` is true, but got low={self.low}")
        return self

    def suggest(self, name: str, suggester: Suggester) -> float:
        """Return the number that the suggester picks."""
        return suggester.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether `value` is a number in [low, high]."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self) -> None:
        """Return None: a continuous range has no grid."""
        return None

    def size(self) -> None:
        """Return None: a continuous range has no count of values."""
        return None

    def describe(self) -> str:
        """Return the range in words, for tables and error sentences."""
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


class Int(_Domain):
    """Every whole number in [low, high]; with `log`, sampled evenly in its logarithm."""

    kind: Literal["int"] = "int"
    low: Annotated[int, Field(ge=-(2**53))]
    high: Annotated[int, Field(le=2**53)]
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Int":
        _check_range(self.low, self.high)
        if self.log and self.low < 1:
            raise ValueError(f"`low >= 1` must hold where `log` is true, but got low={self.low}")
        return self

    def suggest(self, name: str, suggester: Suggester) -> int:
        """Return the whole number that the suggester picks."""
        return suggester.suggest_int(name, self.low, self.high, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether `value` is a whole number in [low, high], and an int."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self) -> tuple[int, ...]:
        """Return every value, smallest first."""
        return tuple(range(self.low, self.high + 1))

    def size(self) -> int:
        """Return how many values there are."""
        return self.high - self.low + 1

    def describe(self) -> str:
        """Return the range in words, for tables and error sentences."""
        return f"whole numbers {self.low} to {self.high}{' (log)' if self.log else ''}"


class Choice(_Domain):
    """One of the listed values, which are distinct and keep their order."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Value, ...], Strict(False), Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "Choice":
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"values must be distinct, but got {list(self.values)}")
        return self

    def suggest(self, name: str, suggester: Suggester) -> Value:
        """Return the value that the suggester picks.

        Raises:
            SpaceError: it picked something that is not listed.
        """
        chosen = suggester.suggest_categorical(name, self.values)
        if chosen is None or not self.contains(chosen):
            raise SpaceError(f"{name} must be {self.describe()}, but the suggester picked {chosen!r}")
        return chosen

    def contains(self, value: Value) -> bool:
        """Return whether `value` is listed; 1 and 1.0 are the same value, 1 and true are not."""
        return any(_same(value, listed) for listed in self.values)

    def grid(self) -> tuple[Value, ...]:
        """Return the values in their order."""
        return self.values

    def size(self) -> int:
        """Return how many values there are."""
        return len(self.values)

    def describe(self) -> str:
        """Return the values in words, for tables and error sentences."""
        return "one of " + ", ".join(map(str, self.values))


class Fixed(_Domain):
    """One value, which no suggester is asked about."""

    kind: Literal["fixed"] = "fixed"
    value: Value

    def suggest(self, name: str, suggester: Suggester) -> Value:
        """Return the value."""
        return self.value

    def contains(self, value: Value) -> bool:
        """Return whether `value` is the fixed one; 1 and 1.0 are the same value, 1 and true are not."""
        return _same(value, self.value)

    def grid(self) -> tuple[Value]:
        """Return the value alone."""
        return (self.value,)

    def size(self) -> int:
        """Return 1."""
        return 1

    def describe(self) -> str:
        """Return the value in words, for tables and error sentences."""
        return f"fixed at {self.value}"


Parameter = Annotated[Float | Int | Choice | Fixed, Field(discriminator="kind")]


def covers(outer: Parameter, inner: Parameter) -> bool:
    """Return whether every value of `inner` is a value of `outer`."""
    if isinstance(inner, Float):
        return isinstance(outer, Float) and outer.low <= inner.low and inner.high <= outer.high
    if isinstance(inner, Int):
        if isinstance(outer, Float | Int):
            return outer.contains(inner.low) and outer.contains(inner.high)
        return inner.size() <= outer.size() and all(map(outer.contains, inner.grid()))
    return all(outer.contains(value) for value in inner.grid())


def _check_range(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"`low < high` must hold, but got low={low}, high={high}")


def _same(left: Value, right: Value) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)
