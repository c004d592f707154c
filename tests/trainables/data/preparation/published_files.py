"""What others publish, in small: reviews and metadata in Amazon's layouts, and an encoder that anybody can check."""

import json
from collections.abc import Sequence

import numpy as np

Row = tuple[str, str, float, int]
"""User, item, rating, seconds."""


def random_rows(seed: int = 0, num_users: int = 40, num_items: int = 25, count: int = 700) -> list[Row]:
    """Rows with repeated pairs, of which some users and items have few."""
    rng = np.random.default_rng(seed)
    users = rng.geometric(0.06, count) % num_users
    items = rng.geometric(0.12, count) % num_items
    ratings, times = rng.integers(1, 6, count), 1_300_000_000 + rng.integers(0, 500, count)
    # Ids whose order as text is neither that of the numbers nor that of their first rows.
    return [
        (f"A{u * 7919 % 1009}", f"B{i * 6007 % 997:09d}", float(r), int(t))
        for u, i, r, t in zip(users.tolist(), items.tolist(), ratings.tolist(), times.tolist(), strict=True)
    ]


def review_2014(row: Row) -> str:
    user, item, rating, time = row
    keys = {"reviewerID": user, "asin": item, "reviewerName": "J. \u00c9.", "helpful": [1, 2], "reviewText": "fine\n"}
    return json.dumps(keys | {"overall": rating, "summary": "s", "unixReviewTime": time, "reviewTime": "01 1, 2014"})


def review_2018(row: Row) -> str:
    user, item, rating, time = row
    keys = {"overall": rating, "verified": True, "reviewTime": "01 1, 2018", "reviewerID": user, "asin": item}
    return json.dumps(keys | {"style": {"Size:": " 3"}, "unixReviewTime": time})


def review_2023(row: Row) -> str:
    user, item, rating, time = row
    keys = {"rating": rating, "title": "t", "text": "x", "images": [], "asin": "VARIANT", "parent_asin": item}
    return json.dumps(keys | {"user_id": user, "timestamp": time * 1000, "helpful_vote": 0, "verified_purchase": True})


REVIEWS = {"2014": review_2014, "2018": review_2018, "2023": review_2023}


def letters(texts: Sequence[str]) -> np.ndarray:
    """How often each of 26 letters is in a text: an encoder whose result anybody can compute."""
    return np.array([[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts], dtype=np.float32)
