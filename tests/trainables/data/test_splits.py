"""Splits: properties that hold for every data set, and who is dropped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.config import DataConfig
from trainables.data.interactions import InteractionTable
from trainables.data.splits import (
    TEST,
    TRAIN,
    VALID,
    divide,
    global_time_split,
    leave_one_out_split,
    random_split,
    split_labels,
)
from trainables.errors import DataError

PER_USER = st.lists(st.integers(0, 45), min_size=1, max_size=12).filter(any)


def table(users, items=None, times=None, labels=None, columns=("userID", "itemID")):
    users = np.asarray(users)
    items = np.arange(len(users)) if items is None else np.asarray(items)
    labels = None if labels is None else np.asarray(labels)
    return InteractionTable("tiny.inter", users, items, times, labels, columns)


def shuffled_users(per_user, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(per_user)), per_user))


@settings(deadline=None)
@given(per_user=PER_USER, seed=st.integers(0, 100))
def test_the_random_split_holds_out_a_tenth_of_every_user_twice(per_user, seed):
    users = shuffled_users(per_user)
    labels = random_split(users, np.random.default_rng(seed))
    for user, count in enumerate(per_user):
        own = labels[users == user]
        held_out = max(1, count // 10) if count >= 3 else 0
        assert [(own == label).sum() for label in (TRAIN, VALID, TEST)] == [count - 2 * held_out, held_out, held_out]


def test_the_random_split_depends_on_the_seed_alone():
    users = shuffled_users([30] * 20)
    first, again, other = (random_split(users, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_random_split_takes_every_row_with_equal_chance():
    users = np.zeros(10, dtype=np.int64)
    rng = np.random.default_rng(0)
    counts = np.zeros((3, 10))
    for _ in range(6000):
        labels = random_split(users, rng)
        counts[labels, np.arange(10)] += 1
    np.testing.assert_allclose(counts / 6000, [[0.8] * 10, [0.1] * 10, [0.1] * 10], atol=0.03)


@settings(deadline=None)
@given(per_user=PER_USER, seed=st.integers(0, 100))
def test_leave_one_out_tests_each_users_last_row_and_validates_the_one_before(per_user, seed):
    users = shuffled_users(per_user)
    times = np.random.default_rng(seed).permutation(len(users)) * 0.5
    labels = leave_one_out_split(users, times, np.random.default_rng(seed))
    for user, count in enumerate(per_user):
        in_time = labels[users == user][np.argsort(times[users == user])].tolist()
        assert in_time == ([TRAIN] * (count - 2) + [VALID, TEST] if count >= 3 else [TRAIN] * count)


def test_leave_one_out_without_times_draws_one_row_each_by_the_seed():
    users = shuffled_users([8] * 30)
    first, again, other = (leave_one_out_split(users, None, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert all(sorted(first[users == user]) == [TRAIN] * 6 + [VALID, TEST] for user in range(30))


def test_leave_one_out_breaks_equal_times_at_random():
    users = np.zeros(5, dtype=np.int64)
    last = {int(np.argmax(leave_one_out_split(users, users, np.random.default_rng(seed)))) for seed in range(60)}
    assert last == {0, 1, 2, 3, 4}


@settings(deadline=None)
@given(times=st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_the_time_split_never_puts_anything_earlier_after_anything_later(times):
    times = np.array(times)
    labels = global_time_split(times)
    for earlier, later in ((TRAIN, VALID), (VALID, TEST), (TRAIN, TEST)):
        if (labels == earlier).any() and (labels == later).any():
            assert times[labels == earlier].max() < times[labels == later].min()
    assert (labels == TRAIN).sum() >= 0.8 * len(times)


def test_the_time_split_of_distinct_times_is_eight_to_one_to_one():
    labels = global_time_split(np.random.default_rng(0).permutation(1000))
    assert np.bincount(labels).tolist() == [800, 100, 100]


def test_a_given_split_is_followed_to_the_letter():
    labels = [0, 2, 1, 0, 1]
    division = divide(table([0, 0, 0, 1, 1], labels=labels), DataConfig())
    np.testing.assert_array_equal(division.train.items, [0, 3])
    np.testing.assert_array_equal(division.valid.items, [2, 4])
    np.testing.assert_array_equal(division.test.items, [1])


@pytest.mark.parametrize("split", ["random", "leave_one_out", "global_time"])
def test_every_other_rule_ignores_a_given_split(split):
    users = shuffled_users([20] * 5)
    times = np.arange(100)
    labelled = split_labels(table(users, times=times, labels=[0] * 100), DataConfig(split=split))
    plain = split_labels(table(users, times=times), DataConfig(split=split))
    np.testing.assert_array_equal(labelled, plain)
    assert len(np.unique(labelled)) == 3


def test_the_three_splits_are_disjoint_and_complete():
    division = divide(table(shuffled_users([20] * 5)), DataConfig(split="random", split_seed=4))
    items = np.concatenate([division.train.items, division.valid.items, division.test.items])
    np.testing.assert_array_equal(np.sort(items), np.arange(100))


def test_evaluation_rows_of_users_without_training_rows_are_dropped_and_counted():
    labels = [0, 1, 2, 1, 1, 2, 2]
    division = divide(table([0, 0, 0, 1, 1, 1, 2], labels=labels), DataConfig())
    assert (len(division.valid), len(division.test)) == (1, 1)
    assert (division.dropped_valid.users, division.dropped_valid.interactions) == (1, 2)
    assert (division.dropped_test.users, division.dropped_test.interactions) == (2, 2)


def test_a_given_split_without_labels_names_the_choices_and_the_nearest_column():
    with pytest.raises(DataError, match=r"'x_label', .* \(did you mean 'x_lable'\?\); or set data\.split to 'random'"):
        divide(table([0, 0], columns=("userID", "itemID", "x_lable")), DataConfig())


def test_a_time_split_without_times_names_the_choices():
    with pytest.raises(DataError, match=r"'timestamp', .*; or set data\.split to 'random' or 'leave_one_out'"):
        divide(table([0, 0]), DataConfig(split="global_time"))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([2, 1, 1], r"tiny\.inter: the training split must hold interactions, but is empty"),
        ([0, 0, 2], r"the validation split must hold .*, but is empty \(data\.split 'given', 0 rows dropped\)"),
        ([0, 0, 1], r"the validation split must hold .*, but is empty \(data\.split 'given', 1 rows dropped\)"),
    ],
)
def test_an_empty_training_or_validation_split_is_an_error(labels, sentence):
    with pytest.raises(DataError, match=sentence):
        divide(table([0, 0, 1], labels=labels), DataConfig())
