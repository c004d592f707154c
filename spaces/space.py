"""A search space: named parameters and the few things a sweep does with them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spaces.errors import SpaceError
from spaces.nearest import did_you_mean
from spaces.params import Fixed, Int, Parameter, Suggester, Value, covers


@dataclass(frozen=True)
class SearchSpace:
    """The product of independent parameters, in a fixed order; keys are full names such as "update.rho"."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", dict(self.parameters))

    def union(self, other: "SearchSpace") -> "SearchSpace":
        """Return the space with the parameters of both, this one's first.

        Raises:
            SpaceError: a name is in both.
        """
        shared = [name for name in other.parameters if name in self.parameters]
        if shared:
            raise SpaceError(f"two spaces that are joined must have no parameter in common, but both have {shared[0]}")
        return SearchSpace({**self.parameters, **other.parameters})

    def narrow(self, parameters: Mapping[str, Parameter]) -> "SearchSpace":
        """Return the space with these parameters in place of its own of the same names.

        Raises:
            SpaceError: a name is not in the space, or a value of the new parameter lies outside the old one.
        """
        self._check_names(parameters)
        for name, parameter in parameters.items():
            if not covers(self.parameters[name], parameter):
                old, new = self.parameters[name].describe(), parameter.describe()
                raise SpaceError(f"{name}: a narrower range must lie inside {old}, but got {new}")
        return SearchSpace({**self.parameters, **parameters})

    def fix(self, values: Mapping[str, Value]) -> "SearchSpace":
        """Return the space with these parameters fixed, inside their ranges or not.

        Raises:
            SpaceError: a name is not in the space.
        """
        self._check_names(values)
        return SearchSpace({**self.parameters, **{name: Fixed(value=value) for name, value in values.items()}})

    def suggest(self, suggester: Suggester) -> dict[str, Value]:
        """Return one point, asking the suggester about every parameter that is not fixed, in order."""
        return {name: parameter.suggest(name, suggester) for name, parameter in self.parameters.items()}

    def check(self, point: Mapping[str, Value]) -> None:
        """Return if `point` names every parameter, no other, and each value is inside its range.

        Raises:
            SpaceError: naming the first parameter for which that does not hold.
        """
        self._check_names(point)
        for name, parameter in self.parameters.items():
            if name not in point:
                raise SpaceError(f"{name} must be given, but the point has only {', '.join(point) or 'no values'}")
            if not parameter.contains(point[name]):
                raise SpaceError(f"{name} must be in the range {parameter.describe()}, but got {point[name]!r}")

    def grid(self) -> tuple[dict[str, Value], ...]:
        """Return every point; the last parameter varies fastest.

        Raises:
            SpaceError: a parameter is continuous.
        """
        return tuple(self.point(index) for index in range(self.finite_size()))

    def point(self, index: int) -> dict[str, Value]:
        """Return the grid's point number `index` (from 0) without building the grid.

        Raises:
            SpaceError: a parameter is continuous, or the grid has no such point.
        """
        size = self.finite_size()
        if not 0 <= index < size:
            raise SpaceError(f"a point's number must be in 0..{size - 1}, but got {index}")
        chosen: dict[str, Value] = {}
        for name in reversed(list(self.parameters)):
            values = _values(self.parameters[name])
            index, position = divmod(index, len(values))
            chosen[name] = values[position]
        return {name: chosen[name] for name in self.parameters}

    def size(self) -> int | None:
        """Return the number of points; None where a parameter is continuous."""
        return None if self.continuous() else self.finite_size()

    def finite_size(self) -> int:
        """Return the number of points.

        Raises:
            SpaceError: a parameter is continuous.
        """
        if self.continuous():
            raise SpaceError(
                f"a grid needs parameters with finitely many values, but {self.continuous()[0]} is continuous"
            )
        return math.prod(parameter.size() or 1 for parameter in self.parameters.values())

    def continuous(self) -> tuple[str, ...]:
        """Return the names of the parameters without a grid."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.size() is None)

    def tuned(self) -> tuple[str, ...]:
        """Return the names of the parameters that have more than one value."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.size() != 1)

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters)
                known = ", ".join(self.parameters) or "empty"
                raise SpaceError(f"{name!r} must be a parameter of the space ({known}){hint}")


def _values(parameter: Parameter) -> Sequence[Value]:
    # A range of whole numbers may be too long to be listed.
    return range(parameter.low, parameter.high + 1) if isinstance(parameter, Int) else parameter.grid() or ()
