"""Ranking metrics per user, from the hits in a top list."""

from collections.abc import Sequence

import numpy as np

CUTOFFS = (5, 10, 20, 50)
METRIC_NAMES = tuple(f"{name}@{k}" for name in ("recall", "ndcg", "precision", "map") for k in CUTOFFS)


def per_user_metrics(
    hits: np.ndarray, num_positives: np.ndarray, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, np.ndarray]:
    """Each metric [n], float64, for n users with binary relevance (models.md §0).

    recall@k = hits / positives; precision@k = hits / k; ndcg@k with gain 1 and discount 1/log2(rank + 1), the ideal
    list cut at min(k, positives); map@k = mean of precision at the hits, over min(k, positives). TREC's AP divides by
    all positives instead.

    Args:
        hits: [n, K] bool, whether the item at each rank is a positive; K >= max(cutoffs) or all items there are.
        num_positives: [n], at least 1.
    """
    width = max(*cutoffs, hits.shape[1])
    hit = np.zeros((hits.shape[0], width))
    hit[:, : hits.shape[1]] = hits
    ranks = np.arange(1, width + 1)
    discount = 1 / np.log2(ranks + 1)
    found = hit.cumsum(1)
    gain = (hit * discount).cumsum(1)
    precision_sum = (hit * found / ranks).cumsum(1)
    result: dict[str, np.ndarray] = {}
    for k in cutoffs:
        ideal_length = np.minimum(num_positives, k)
        result[f"recall@{k}"] = found[:, k - 1] / num_positives
        result[f"ndcg@{k}"] = gain[:, k - 1] / discount.cumsum()[ideal_length - 1]
        result[f"precision@{k}"] = found[:, k - 1] / k
        result[f"map@{k}"] = precision_sum[:, k - 1] / ideal_length
    return result
