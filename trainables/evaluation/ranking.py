"""Full ranking: every item is scored for every evaluated user, training items left out."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainables.data.bundle import Interactions
from trainables.evaluation.metrics import CUTOFFS, per_user_metrics

SCORES_AT_ONCE = 2**21
"""Scores of a chunk of users: 8 MB in float32, so that the passes after the product find them in the cache."""

USERS_AT_LEAST = 64
"""Users of a chunk where items are so many that these have more scores: the product reads all items for each chunk."""

_GROUP = 16
"""Items of which only the best is compared first."""


class RankingEvaluator:
    """Ranks all items for each user of a split who has training rows, and averages the metrics over those users.

    Training items are never ranked; items of another evaluated split are (models.md §0). Of equal scores the item with
    the lower number comes first, whether it is a positive or not; a score that is no number counts as the largest of
    another item, and as the smallest of a positive.
    """

    def __init__(self, train: Interactions, judged: Interactions, num_items: int) -> None:
        """Prepares the masks and the relevant items.

        Args:
            train: training interactions; their items are masked.
            judged: interactions to be found: the validation split, or the unsealed test split.
        """
        self.num_items = num_items
        known = np.isin(judged.users, train.users)
        users, items = judged.users[known], judged.items[known]
        order = np.lexsort((items, users))
        self.users, counts = np.unique(users[order], return_counts=True)
        self.num_positives = counts
        self._positives = _Grouped(items[order], np.concatenate([[0], counts.cumsum()]))
        order = np.lexsort((train.items, train.users))
        seen_users, seen_items = train.users[order], train.items[order]
        starts, ends = np.searchsorted(seen_users, self.users), np.searchsorted(seen_users, self.users, side="right")
        self._seen = _Grouped.gather(seen_items, starts, ends)
        self._prepared: dict[torch.device, list[_Chunk]] = {}

    def of_some(self, number: int, generator: np.random.Generator) -> "RankingEvaluator":
        """One that ranks a random sample of the users, drawn without replacement; in their order.

        Of two samples from the same stream the smaller one is part of the larger.

        Args:
            number: of users, at most all.
        """
        places = np.sort(generator.permutation(len(self.users))[:number])
        chosen = copy.copy(self)
        chosen.users, chosen.num_positives = self.users[places], self.num_positives[places]
        chosen._positives, chosen._seen = self._positives.rows(places), self._seen.rows(places)
        chosen._prepared = {}
        return chosen

    def per_user(self, score: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, np.ndarray]:
        """Each metric [n] for the n evaluated users in the order of `self.users`.

        Args:
            score: users [b] -> scores of all items [b, I], which are overwritten.
        """
        hits = np.zeros((len(self.users), min(max(CUTOFFS), self.num_items)), dtype=bool)
        for chunk in self._chunks(device):
            scores = score(chunk.users).contiguous()
            scores.view(-1)[chunk.seen] = -torch.inf
            found, ranks = _first_ranks(scores, chunk.rows, chunk.items, hits.shape[1])
            hits[chunk.start + chunk.rows[found].numpy(force=True), ranks.numpy(force=True)] = True
        return _spread(hits, self.num_positives)

    def __call__(self, score: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, float]:
        """Each metric's mean over the evaluated users, in full precision."""
        return {name: float(values.mean()) for name, values in self.per_user(score, device).items()}

    def _chunks(self, device: torch.device) -> "list[_Chunk]":
        """All users in parts, which stay on the device from one evaluation to the next."""
        if device not in self._prepared:
            size = max(USERS_AT_LEAST, SCORES_AT_ONCE // self.num_items)
            self._prepared[device] = [self._chunk(start, size, device) for start in range(0, len(self.users), size)]
        return self._prepared[device]

    def _chunk(self, start: int, size: int, device: torch.device) -> "_Chunk":
        (seen_rows, seen_items), (rows, items) = (
            each.cells(start, start + size) for each in (self._seen, self._positives)
        )
        parts = self.users[start : start + size], seen_rows * self.num_items + seen_items, rows, items
        return _Chunk(start, *(torch.from_numpy(part).to(device) for part in parts))


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Consecutive users.

    Attributes:
        start: the first one's place among all evaluated users.
        users: their numbers [b].
        seen: places of their training items in the flattened scores [b * I].
        rows: of each positive, its user's place in the chunk.
        items: of each positive.
    """

    start: int
    users: Int[Tensor, " b"]
    seen: Int[Tensor, " S"]
    rows: Int[Tensor, " P"]
    items: Int[Tensor, " P"]


def _first_ranks(
    scores: Float[Tensor, "b I"], rows: Int[Tensor, " P"], items: Int[Tensor, " P"], limit: int
) -> tuple[Int[Tensor, " F"], Int[Tensor, " F"]]:
    """(which, rank): of the cells (row, item) those before which fewer than `limit` items come, and how many.

    Counts in two steps instead of sorting, for only a few positives come first: where already `limit` groups of items
    have a larger score, no item needs to be looked at.
    """
    targets = scores[rows, items][:, None]
    num_groups = scores.shape[1] // _GROUP
    best = scores[:, : num_groups * _GROUP].view(len(scores), _GROUP, num_groups).amax(1)  # [b, groups]
    larger = (best[rows] <= targets).logical_not_().sum(1)
    near = (larger < limit).nonzero()[:, 0]
    ranks = [_ranks(scores[rows[part]], targets[part], items[part, None]) for part in torch.split(near, len(scores))]
    rank = torch.cat(ranks)
    first = rank < limit
    return near[first], rank[first]


def _ranks(scores: Float[Tensor, "n I"], targets: Float[Tensor, "n 1"], items: Int[Tensor, "n 1"]) -> Int[Tensor, " n"]:
    """How many items come before each row's item; where its own score is no number, all do."""
    before = (scores <= targets).logical_not_()
    everything = torch.arange(scores.shape[1], device=scores.device)
    return before.logical_or_((scores == targets) & (everything < items)).sum(1)


def _spread(hits: np.ndarray, num_positives: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of all users, computed for those alone who have a hit; without one all metrics are 0."""
    some = hits.any(1)
    result = {}
    for name, values in per_user_metrics(hits[some], num_positives[some]).items():
        result[name] = np.zeros(len(hits))
        result[name][some] = values
    return result


class _Grouped:
    """Item lists of consecutive users, as one flat array and its borders."""

    def __init__(self, items: np.ndarray, borders: np.ndarray) -> None:
        self.items = items
        self.borders = borders

    @classmethod
    def gather(cls, items: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> "_Grouped":
        """The slices items[starts[i]:ends[i]], put one behind the other."""
        counts = ends - starts
        borders = np.concatenate([[0], counts.cumsum()])
        within = np.arange(borders[-1]) - np.repeat(borders[:-1], counts)
        return cls(items[np.repeat(starts, counts) + within], borders)

    def rows(self, places: np.ndarray) -> "_Grouped":
        """The lists at these places."""
        return _Grouped.gather(self.items, self.borders[places], self.borders[places + 1])

    def cells(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(row, item) of every entry of users start..stop, rows counted from `start`."""
        borders = self.borders[start : stop + 1]
        users = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
        return users, self.items[borders[0] : borders[-1]]
