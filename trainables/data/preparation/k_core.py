"""The k-core: what is left when users and items with too few interactions go, and go, until none is left to go."""

import numpy as np
from jaxtyping import Bool, Int


def k_core(users: Int[np.ndarray, " E"], items: Int[np.ndarray, " E"], core: int) -> tuple[Bool[np.ndarray, " E"], int]:
    """Returns which pairs lie in the k-core, and after how many rounds nothing changed any more.

    The core is the largest set of the pairs in which every user and every item that occurs has at least `core` pairs:
    the union of two such sets is one, so there is a largest, and what is removed in a round can be in none. It may be
    empty.

    Args:
        users, items: codes, not negative; pairs are distinct.
        core: at least 1; 1 keeps all pairs.
    """
    left = np.arange(len(users))
    rounds = 0
    while len(left):
        stays = _often_enough(users[left], core) & _often_enough(items[left], core)
        if stays.all():
            break
        left = left[stays]
        rounds += 1
    kept = np.zeros(len(users), dtype=np.bool_)
    kept[left] = True
    return kept, rounds


def _often_enough(codes: np.ndarray, core: int) -> np.ndarray:
    often: np.ndarray = (np.bincount(codes) >= core)[codes]
    return often
