"""Choosing interactions: the earliest of a pair, the core, the order of ids; nothing hangs on the order of rows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_files import random_rows

from trainables.data.preparation.choosing import choose, labelled
from trainables.data.preparation.raw import Collector
from trainables.data.preparation.settings import Settings
from trainables.errors import DataError


def collect(rows, **kept):
    collector = Collector(**kept)
    for line, row in enumerate(rows, start=1):
        collector.add(line, *row)
    return collector.collected()


def naive(rows, core, min_rating=None):
    """The chosen rows by user, time and item, computed with dictionaries and loops."""
    earliest = {}
    for row in sorted(rows, key=lambda row: (row[3], -row[2])):
        if min_rating is None or row[2] >= min_rating:
            earliest.setdefault(row[:2], row)
    left = list(earliest.values())
    while True:
        counts = [Counter(row[place] for row in left) for place in (0, 1)]
        stays = [row for row in left if counts[0][row[0]] >= core and counts[1][row[1]] >= core]
        if len(stays) == len(left):
            return sorted(left, key=lambda row: (row[0], row[3], row[1]))
        left = stays


def as_rows(chosen):
    return [
        (chosen.user_ids[user], chosen.item_ids[item], rating, time)
        for user, item, rating, time in zip(
            chosen.users.tolist(), chosen.items.tolist(), chosen.ratings.tolist(), chosen.times.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("core", [1, 3, 5])
@pytest.mark.parametrize("min_rating", [None, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_rows_are_those_of_the_plain_computation(core, min_rating, seed):
    rows = random_rows(seed)
    chosen = choose(collect(rows), Settings(core=core, min_rating=min_rating), "r")
    expected = naive(rows, core, min_rating)
    assert as_rows(chosen) == expected and expected
    counts = chosen.counts
    assert (
        counts["rows"]
        - counts["skipped"]
        - counts["below_min_rating"]
        - counts["repeated_pairs"]
        - counts["outside_core"]
        == counts["interactions"]
        == len(expected)
    )
    assert (counts["users"], counts["items"]) == tuple(len({row[place] for row in expected}) for place in (0, 1))


def test_ids_are_numbered_in_the_order_of_their_text(rows):
    chosen = choose(collect(rows), Settings(), "r")
    for ids in (chosen.user_ids, chosen.item_ids):
        assert ids == sorted(ids) and len(ids) > 3
    assert set(chosen.users.tolist()) == set(range(len(chosen.user_ids)))


@given(st.permutations(range(60)))
def test_the_order_of_rows_changes_nothing(order):
    # Few times, so that pairs repeat at the same moment with other ratings.
    rows = [
        (user, item, rating, time % 3) for user, item, rating, time in random_rows(num_users=5, num_items=5, count=60)
    ]
    first, second = (choose(collect(each), Settings(core=2), "r") for each in (rows, [rows[place] for place in order]))
    assert as_rows(first) == as_rows(second)


def test_without_ratings_and_times_rows_are_sorted_by_user_and_item(rows):
    chosen = choose(collect(rows, rated=False, timed=False), Settings(core=1), "r")
    assert chosen.ratings is None and chosen.times is None
    pairs = list(zip(chosen.users.tolist(), chosen.items.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert list(labelled(chosen, Settings(), "r")) == ["userID", "itemID", "x_label"]


def test_times_are_written_as_integers_where_all_are_whole(rows):
    whole = labelled(choose(collect(rows), Settings(), "r"), Settings(), "r")["timestamp"]
    assert whole.dtype == np.int64
    with_fraction = [(*row[:3], row[3] + 0.25) for row in rows]
    assert labelled(choose(collect(with_fraction), Settings(), "r"), Settings(), "r")["timestamp"].dtype == np.float64
    huge = [(*row[:3], row[3] * 1e200) for row in rows]
    assert labelled(choose(collect(huge), Settings(), "r"), Settings(), "r")["timestamp"].dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "kept", "sentence"),
    [
        ({"core": 500}, {}, r"r must hold users and items with at least 500 interactions each \(--core\), but of \d+ "),
        ({"min_rating": 6}, {}, "but of 0 interactions none is left"),
        ({"min_rating": 3}, {"rated": False}, "r must have ratings for a lowest one"),
    ],
)
def test_what_cannot_be_chosen_is_an_error(rows, changes, kept, sentence):
    with pytest.raises(DataError, match=sentence):
        choose(collect(rows, **kept), Settings(**changes), "r")


def test_a_split_by_time_without_times_is_an_error(rows):
    chosen = choose(collect(rows, timed=False), Settings(), "r")
    with pytest.raises(DataError, match=r"r must have times for a split by time \(--split global_time\), but has none"):
        labelled(chosen, Settings(split="global_time"), "r")
