"""The epoch sampler: a full shuffle, uniform negatives, never a known positive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainables.data.bundle import Interactions
from trainables.data.sampling import EpochSampler
from trainables.errors import DataError


def rngs(seed=0):
    return np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])


@st.composite
def training_pairs(draw):
    """Distinct pairs in which no user has every item that occurs."""
    num_users, num_items = draw(st.integers(1, 8)), draw(st.integers(2, 12))
    taken = draw(st.lists(st.integers(0, num_users * num_items - 1), min_size=1, max_size=60, unique=True))
    users, items = np.divmod(np.array(taken), num_items)
    counts = np.bincount(users, minlength=num_users)
    kept = counts[users] < len(np.unique(items))
    if not kept.any() or (np.bincount(users[kept]) >= len(np.unique(items[kept]))).any():
        users, items, kept = np.array([0, 1]), np.array([0, 1]), np.array([True, True])
    return Interactions(users[kept], items[kept]), max(num_users, 2), num_items


def pairs(users, items):
    return set(zip(users.tolist(), items.tolist(), strict=True))


@settings(deadline=None)
@given(data=training_pairs(), num_negatives=st.integers(0, 4), seed=st.integers(0, 1000))
def test_an_epoch_is_every_pair_once_with_negatives_from_train_that_are_never_positives(data, num_negatives, seed):
    train, num_users, num_items = data
    users, positives, negatives = EpochSampler(train, num_users, num_items).epoch(*rngs(seed), num_negatives)
    known = pairs(train.users, train.items)
    assert users.dtype == positives.dtype == negatives.dtype == np.int64
    assert negatives.shape == (len(train), num_negatives)
    assert len(users) == len(known) and pairs(users, positives) == known
    for column in negatives.T:
        assert not pairs(users, column) & known
    assert np.isin(negatives, train.items).all()


@settings(deadline=None)
@given(data=training_pairs(), num_negatives=st.integers(1, 3), seed=st.integers(0, 1000))
def test_the_bitmap_and_the_sorted_search_give_the_same_numbers(data, num_negatives, seed):
    bitmap, search = (EpochSampler(*data, bitmap_bytes=size) for size in (2**20, 0))
    for ours, theirs in zip(
        bitmap.epoch(*rngs(seed), num_negatives), search.epoch(*rngs(seed), num_negatives), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_both_tests_agree_on_more_pairs_than_one_block_holds():
    keys = np.random.default_rng(0).permutation(400 * 300)[:40_000]
    train = Interactions(*np.divmod(keys, 300))
    bitmap, search = (EpochSampler(train, 400, 300, bitmap_bytes=size).epoch(*rngs(), 2) for size in (2**20, 0))
    for ours, theirs in zip(bitmap, search, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    known = set(keys.tolist())
    assert not known & set((bitmap[0][:, None] * 300 + bitmap[2]).ravel().tolist())


def test_negatives_are_uniform_over_the_items_that_the_user_lacks():
    train = Interactions(np.array([0, 0, 1, 2, 2]), np.array([1, 2, 4, 5, 6]))
    sampler = EpochSampler(train, 3, 9)
    users, _, negatives = sampler.epoch(*rngs(), 20_000)
    for user in range(3):
        lacking = np.setdiff1d(train.items, train.items[train.users == user])
        drawn = negatives[users == user].ravel()
        counts = [np.count_nonzero(drawn == item) for item in lacking]
        assert sum(counts) == len(drawn)
        assert stats.chisquare(counts).pvalue > 0.001


def test_negatives_are_uniform_also_for_a_user_who_has_nearly_every_item():
    items = np.arange(2000)
    train = Interactions(np.concatenate([np.zeros(1997, dtype=np.int64), np.ones(3, dtype=np.int64)]), items)
    _, positives, negatives = EpochSampler(train, 2, 2000).epoch(*rngs(), 3)
    drawn = negatives[positives < 1997].ravel()
    counts = np.bincount(drawn, minlength=2000)
    assert counts[:1997].sum() == 0
    assert stats.chisquare(counts[1997:]).pvalue > 0.001


def test_every_order_of_the_pairs_is_equally_likely():
    train = Interactions(np.array([0, 0, 0]), np.array([0, 1, 2]))
    rng = np.random.default_rng(0)
    sampler = EpochSampler(train, 1, 3, negatives=False)
    orders = [tuple(sampler.epoch(rng, rng, 0)[1].tolist()) for _ in range(3000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 0.001


def test_the_numbers_depend_on_the_two_generators_alone():
    train = Interactions(*np.divmod(np.random.default_rng(0).permutation(600)[:200], 30))
    sampler = EpochSampler(train, 20, 30)
    first, again = sampler.epoch(*rngs(1), 2), sampler.epoch(*rngs(1), 2)
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    more_negatives = sampler.epoch(*rngs(1), 5)
    np.testing.assert_array_equal(first[1], more_negatives[1])
    other_batches = sampler.epoch(np.random.default_rng(5), rngs(1)[1], 2)
    assert (first[1] != other_batches[1]).any()


def test_the_order_of_the_file_does_not_matter():
    train = Interactions(*np.divmod(np.random.default_rng(0).permutation(600)[:200], 30))
    turned = Interactions(train.users[::-1], train.items[::-1])
    for ours, theirs in zip(
        EpochSampler(train, 20, 30).epoch(*rngs(), 1), EpochSampler(turned, 20, 30).epoch(*rngs(), 1), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_caller_may_write_into_an_epoch_without_harm_to_the_next():
    train = Interactions(np.array([0, 1]), np.array([0, 1]))
    sampler = EpochSampler(train, 2, 2)
    for array in sampler.epoch(*rngs(), 1):
        array[:] = -1
    users, positives, negatives = sampler.epoch(*rngs(), 1)
    assert pairs(users, positives) == {(0, 0), (1, 1)}
    assert pairs(users, negatives[:, 0]) == {(0, 1), (1, 0)}


def test_a_user_with_every_training_item_is_an_error_where_negatives_are_wanted():
    train = Interactions(np.array([0, 1, 1]), np.array([0, 0, 1]))
    with pytest.raises(DataError, match=r"user 1 has all 2 of them \(1 such users\)"):
        EpochSampler(train, 2, 5)
    users, _, negatives = EpochSampler(train, 2, 5, negatives=False).epoch(*rngs(), 0)
    assert len(users) == 3 and negatives.shape == (3, 0)


def test_negatives_from_a_sampler_made_without_them_are_an_error():
    train = Interactions(np.array([0]), np.array([0]))
    with pytest.raises(DataError, match="must be asked for none, but got num_negatives=1"):
        EpochSampler(train, 1, 1, negatives=False).epoch(*rngs(), 1)
