"""Interactions as they are published, with original ids: what every reader returns, and how it is collected."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32

from trainables.data.preparation.lines import Skipped

NO_USER, NO_ITEM = "no user id that is printable text", "no item id that is printable text"
NO_RATING, NO_TIME = "no rating that is a number", "no time that is a number"


@dataclass(frozen=True, eq=False)
class RawInteractions:
    """Every sound row of the published files, in their order; pairs may repeat.

    Attributes:
        user_ids, item_ids: original ids; the codes in `users` and `items` are positions in them.
        ratings: None where the files have none.
        times: seconds; None where the files have none.
        rows: how many rows the files hold, broken ones among them.
        skipped: reason -> how many rows were left out for it, and where the first ones are.
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: Int32[np.ndarray, " R"]
    items: Int32[np.ndarray, " R"]
    ratings: Float32[np.ndarray, " R"] | None
    times: Float64[np.ndarray, " R"] | None
    rows: int
    skipped: Mapping[str, Mapping[str, object]]


class Collector:
    """Takes rows one by one in 20 bytes each: ids become codes as they come."""

    def __init__(self, *, rated: bool = True, timed: bool = True) -> None:
        """Starts without rows.

        Args:
            rated: whether every row must have a rating; else ratings are not kept.
            timed: whether every row must have a time; else times are not kept.
        """
        self.skipped = Skipped()
        self._rated, self._timed = rated, timed
        self._user_codes: dict[str, int] = {}
        self._item_codes: dict[str, int] = {}
        self._users, self._items, self._ratings, self._times = array("i"), array("i"), array("f"), array("d")
        self._rows = 0

    def add(self, line: int, user: object, item: object, rating: object = None, time: object = None) -> None:
        """Keeps a row, or counts the line as skipped where a part of it is not sound."""
        self._rows += 1
        rated, timed = number(rating) if self._rated else 0.0, number(time) if self._timed else 0.0
        if not is_id(user):
            self.skipped.add(NO_USER, line)
        elif not is_id(item):
            self.skipped.add(NO_ITEM, line)
        elif rated is None:
            self.skipped.add(NO_RATING, line)
        elif timed is None:
            self.skipped.add(NO_TIME, line)
        else:
            self._users.append(self._user_codes.setdefault(user, len(self._user_codes)))  # type: ignore[arg-type]
            self._items.append(self._item_codes.setdefault(item, len(self._item_codes)))  # type: ignore[arg-type]
            self._ratings.append(rated)
            self._times.append(timed)

    def skip(self, line: int, reason: str) -> None:
        """Counts a row that could not even be taken apart."""
        self._rows += 1
        self.skipped.add(reason, line)

    def collected(self) -> RawInteractions:
        """Returns all rows; ends the collection, whose memory the result takes over."""
        return RawInteractions(
            user_ids=list(self._user_codes),
            item_ids=list(self._item_codes),
            users=np.frombuffer(self._users, dtype=np.int32),
            items=np.frombuffer(self._items, dtype=np.int32),
            ratings=np.frombuffer(self._ratings, dtype=np.float32) if self._rated else None,
            times=np.frombuffer(self._times, dtype=np.float64) if self._timed else None,
            rows=self._rows,
            skipped=self.skipped.plain(),
        )


def is_id(value: object) -> bool:
    """Returns whether a value can be an id: text that is not empty, without tabs, line ends or broken characters."""
    return isinstance(value, str) and value != "" and value.isprintable()


def number(value: object) -> float | None:
    """Returns a finite number as float, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None
