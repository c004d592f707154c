"""Full ranking: every item is scored for every evaluated user, training items left out."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainables.data.bundle import Interactions
from trainables.evaluation.metrics import CUTOFFS, per_user_metrics

SCORES_AT_ONCE = 2**21


class RankingEvaluator:
    """Ranks all items for each user of a split who has training rows, and averages the metrics over those users.

    Training items are never ranked; items of another evaluated split are (models.md §0). Ties are broken as `topk`
    does, which never favours the positives.
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

    def per_user(self, score: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, np.ndarray]:
        """Each metric [n] for the n evaluated users in the order of `self.users`.

        Args:
            score: users [b] -> scores of all items [b, I].
        """
        chunk = max(1, SCORES_AT_ONCE // self.num_items)
        hits = [self._hits(score, device, start, start + chunk) for start in range(0, len(self.users), chunk)]
        return per_user_metrics(np.concatenate(hits), self.num_positives)

    def __call__(self, score: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, float]:
        """Each metric's mean over the evaluated users, in full precision."""
        return {name: float(values.mean()) for name, values in self.per_user(score, device).items()}

    def _hits(self, score: Callable[[Tensor], Tensor], device: torch.device, start: int, stop: int) -> np.ndarray:
        scores = score(torch.from_numpy(self.users[start:stop]).to(device))  # [b, I]
        scores[self._seen.cells(start, stop, device)] = -torch.inf
        top = scores.topk(min(max(CUTOFFS), self.num_items), dim=1).indices  # [b, K]
        relevant = torch.zeros(scores.shape, dtype=torch.bool, device=device)
        relevant[self._positives.cells(start, stop, device)] = True
        return relevant.gather(1, top).cpu().numpy()


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

    def cells(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(row, item) of every entry of users start..stop, rows counted from `start`."""
        borders = self.borders[start : stop + 1]
        users = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
        items = self.items[borders[0] : borders[-1]]
        return torch.from_numpy(users).to(device), torch.from_numpy(items).to(device)
