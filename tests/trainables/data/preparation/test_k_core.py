"""The k-core against a loop over sets, and as the largest set with its property."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.preparation.k_core import k_core

PAIRS = st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=60)


def core_of(pairs, core):
    users, items = (np.array([pair[place] for pair in pairs], dtype=np.int32) for place in (0, 1))
    kept, rounds = k_core(users, items, core)
    return {pair for pair, stays in zip(pairs, kept.tolist(), strict=True) if stays}, rounds


def has_property(pairs, core):
    return all(sum(other[place] == pair[place] for other in pairs) >= core for pair in pairs for place in (0, 1))


def one_at_a_time(pairs, core):
    """Removes one pair of a user or item with too few, again and again."""
    left = set(pairs)
    while True:
        poor = next((p for p in left for place in (0, 1) if sum(q[place] == p[place] for q in left) < core), None)
        if poor is None:
            return left
        left.remove(poor)


@given(PAIRS, st.integers(1, 5))
def test_the_core_is_what_is_left_when_pairs_go_one_at_a_time(pairs, core):
    assert core_of(sorted(pairs), core)[0] == one_at_a_time(pairs, core)


@given(PAIRS, st.integers(1, 4), st.data())
def test_every_set_with_the_property_lies_in_the_core(pairs, core, data):
    ordered = sorted(pairs)
    found, _ = core_of(ordered, core)
    assert has_property(found, core)
    if ordered:
        subset = set(data.draw(st.lists(st.sampled_from(ordered), unique=True)))
        assert one_at_a_time(subset, core) <= found


def test_a_chain_unravels_round_by_round_and_its_length_is_counted():
    # u0 - i0 - u1 - i1 - ...: in each round both ends go.
    chain = [(step // 2, (step + 1) // 2) for step in range(10)]
    assert core_of(chain, 2) == (set(), 5)
    assert core_of(chain, 1) == (set(chain), 0)


def test_no_pairs_have_an_empty_core():
    assert core_of([], 3) == (set(), 0)
