"""Which points a sweep tries, known before it starts: random and grid search do not depend on results."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from search.study_spec import StudySpec
from spaces.params import Value
from spaces.space import SearchSpace


class NumpySuggester:
    """A numpy generator behind the `Suggester` protocol: every value, or every logarithm, is equally likely."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in [low, high]."""
        if not log:
            return float(min(high, self.generator.uniform(low, high)))
        # Rounding of exp and log may lead out of the range by one unit in the last place.
        return float(min(high, max(low, math.exp(self.generator.uniform(math.log(low), math.log(high))))))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return a whole number in [low, high]; with `log`, n as often as a log-uniform number rounds to n."""
        if not log:
            return int(self.generator.integers(low, high, endpoint=True))
        drawn = round(self.suggest_float(name, low - 0.5, high + 0.5, log=True))
        return min(high, max(low, drawn))

    def suggest_categorical(self, name: str, choices: Sequence[Value | None]) -> Value | None:
        """Return one of the choices."""
        return choices[int(self.generator.integers(len(choices)))]


def planned_points(study: StudySpec, sampler: str, seed: int) -> list[dict[str, Value]] | None:
    """Return the points of one cell in the order in which they are tried; None where results decide on them (tpe).

    `random` draws evenly over the space; from a finite one without replacement. `grid` takes the grid in order. Both
    give `study.trials` points, and of a longer sweep the first ones are the same: point number i is drawn from a stream
    of its own, made from (seed, cell, i).

    Args:
        seed: the sampler's, which is the first of the sweep's seeds.
    """
    if sampler == "tpe":
        return None
    size = study.space.size()
    if sampler == "grid":
        return [study.space.point(index) for index in range(min(study.trials, study.space.finite_size()))]
    streams = [_stream(seed, study.cell, index) for index in range(study.trials)]
    if size is None:
        return [study.space.suggest(NumpySuggester(stream)) for stream in streams]
    return _without_replacement(study.space, size, streams)


def _without_replacement(
    space: SearchSpace, size: int, streams: Sequence[np.random.Generator]
) -> list[dict[str, Value]]:
    """Return the first cards of a Fisher-Yates shuffle of the grid, of which only the moved ones are kept in memory."""
    moved: dict[int, int] = {}
    points = []
    for position, stream in enumerate(streams[:size]):
        # 256 bits for any size: the remainder's bias is below 1e-50.
        drawn = position + int.from_bytes(stream.bytes(32), "little") % (size - position)
        points.append(space.point(moved.get(drawn, drawn)))
        moved[drawn] = moved.get(position, position)
    return points


def _stream(seed: int, cell: str, index: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{cell}/{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
