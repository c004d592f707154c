"""Random streams: functions of a seed and a name, independent of each other and of everything else."""

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.seeding import numpy_stream, stream_seed, torch_stream

NAMES = st.tuples(
    st.integers(0, 2**32),
    st.sampled_from(["init", "batches", "negatives", "noise", "graph"]),
    st.lists(st.integers(0, 300), max_size=4).map(tuple),
)


@given(NAMES)
def test_a_streams_seed_fits_every_generator_and_repeats(name: tuple[int, str, tuple[int, ...]]) -> None:
    seed, purpose, indices = name
    drawn = stream_seed(seed, purpose, *indices)
    assert 0 <= drawn < 2**63
    assert drawn == stream_seed(seed, purpose, *indices)


@given(st.sets(NAMES, min_size=2, max_size=30))
def test_no_two_streams_share_a_seed(names: set[tuple[int, str, tuple[int, ...]]]) -> None:
    assert len({stream_seed(seed, purpose, *indices) for seed, purpose, indices in names}) == len(names)


def test_digits_do_not_move_between_the_parts_of_a_name() -> None:
    assert stream_seed(1, "noise", 23) != stream_seed(12, "noise", 3) != stream_seed(1, "noise", 2, 3)


def test_seeds_are_the_same_on_every_machine_and_for_ever() -> None:
    # Results in stores depend on these numbers: whoever changes them changes every trial.
    assert stream_seed(999, "init", 0) == 8512600728318567043
    assert stream_seed(999, "noise", 1, 2, 0) == 5245073734168791839


def test_streams_repeat_whatever_was_drawn_elsewhere() -> None:
    first = torch.rand(5, generator=torch_stream(3, "init", 0)), numpy_stream(3, "batches", 1).random(5)
    torch.rand(17, generator=torch_stream(3, "init", 1))
    numpy_stream(3, "batches", 0).random(3)
    second = torch.rand(5, generator=torch_stream(3, "init", 0)), numpy_stream(3, "batches", 1).random(5)
    assert torch.equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_neighbouring_streams_are_not_correlated() -> None:
    draws = np.stack([numpy_stream(1, "batches", epoch).standard_normal(2000) for epoch in range(5)])
    correlations = np.corrcoef(draws)[np.triu_indices(5, 1)]
    # Ten correlations of 2000 pairs each: 5 standard errors are 0.11.
    assert np.abs(correlations).max() < 0.11


def test_global_random_states_are_left_alone() -> None:
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    torch.rand(3, generator=torch_stream(1, "init")), numpy_stream(1, "init").random(3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()
