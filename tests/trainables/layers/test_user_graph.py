"""The users' graph against explicit loops, and the padding of its lists."""

import numpy as np
import pytest

from trainables.data.bundle import DataBundle
from trainables.errors import ModelError
from trainables.layers.graphs import CsrArrays, binary_bipartite
from trainables.layers.user_graph import co_occurrence, padding_repeats, softmax_rows


def random_interactions(seed: int, shape: tuple[int, int] = (30, 12), share: float = 0.15) -> CsrArrays:
    users, items = np.nonzero(np.random.default_rng(seed).random(shape) < share)
    return binary_bipartite(users, items, *shape)


def listed(interactions: CsrArrays, limit: int) -> list[list[tuple[int, float]]]:
    """Per user the (neighbour, shared items) of its `limit` largest overlaps, the lowest ids first among equals."""
    bought = [set(np.flatnonzero(row)) for row in interactions.to_scipy().toarray()]
    lists = []
    for user, own in enumerate(bought):
        shared = {other: len(own & theirs) for other, theirs in enumerate(bought) if other != user and own & theirs}
        nearest = sorted(shared, key=lambda other, shared=shared: (-shared[other], other))[:limit]
        lists.append([(other, float(shared[other])) for other in sorted(nearest)])
    return lists


def stored(graph: CsrArrays) -> list[list[tuple[int, float]]]:
    bounds = zip(graph.indptr[:-1], graph.indptr[1:], strict=True)
    return [list(zip(graph.indices[a:b].tolist(), graph.values[a:b].tolist(), strict=True)) for a, b in bounds]


def lists_of(*rows: dict[int, float]) -> CsrArrays:
    return CsrArrays(
        indptr=np.cumsum([0, *map(len, rows)]).astype(np.int32),
        indices=np.array([column for row in rows for column in row], dtype=np.int32),
        values=np.array([value for row in rows for value in row.values()], dtype=np.float64),
        shape=(len(rows), len(rows)),
    )


# Who shares items with whom


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_user_is_linked_to_those_with_whom_it_shares_most_items(seed: int, limit: int) -> None:
    interactions = random_interactions(seed)
    assert stored(co_occurrence(interactions, limit)) == listed(interactions, limit)


@pytest.mark.parametrize("block_products", [1, 50, 10**9])
def test_the_graph_does_not_depend_on_the_size_of_a_block(block_products: int) -> None:
    interactions = random_interactions(0)
    assert stored(co_occurrence(interactions, 4, block_products)) == listed(interactions, 4)


def test_nobody_is_its_own_neighbour_and_who_shares_nothing_has_none() -> None:
    alone = binary_bipartite(np.array([0, 0, 1, 3]), np.array([0, 1, 1, 2]), 5, 3)
    assert stored(co_occurrence(alone, 2)) == [[(1, 1.0)], [(0, 1.0)], [], [], []]


def test_a_graph_without_any_link_has_empty_lists() -> None:
    graph = co_occurrence(binary_bipartite(np.arange(3), np.arange(3), 3, 3), 2)
    assert stored(graph) == [[], [], []]
    assert len(padding_repeats(graph, 4, np.random.default_rng(0))) == 0
    assert stored(softmax_rows(graph, np.ones(0, dtype=np.int64))) == [[], [], []]


def test_a_data_set_keeps_the_graph_of_its_training_pairs_for_each_limit(toy: DataBundle) -> None:
    graphs = [toy.user_neighbours(limit) for limit in (2, 3)]
    assert [stored(graph) for graph in graphs] == [listed(toy.interactions(), limit) for limit in (2, 3)]
    assert toy.user_neighbours(2) is graphs[0] and toy.user_neighbours(3) is graphs[1]


def test_a_list_without_room_is_refused() -> None:
    with pytest.raises(ModelError, match="`limit >= 1`, but got limit=0"):
        co_occurrence(random_interactions(0), 0)


# Lists padded by repetition


def test_padded_lists_are_full_and_hold_every_neighbour() -> None:
    graph = lists_of({1: 2.0, 2: 1.0, 3: 1.0}, {}, {0: 1.0}, {0: 1.0, 1: 1.0, 2: 5.0, 4: 1.0, 5: 2.0}, {}, {3: 2.0})
    repeats = padding_repeats(graph, 5, np.random.default_rng(0))
    assert repeats.min() == 1
    assert np.add.reduceat(repeats, [0, 3, 4, 9]).tolist() == [5, 5, 5, 5]
    assert repeats[4:9].tolist() == [1] * 5


def test_padding_is_drawn_evenly_from_the_generator() -> None:
    graph = lists_of({1: 9.0, 2: 1.0, 3: 1.0}, {}, {}, {})
    repeats = padding_repeats(graph, 30_000, np.random.default_rng(1))
    assert np.abs(repeats - 10_000).max() < 400  # five standard deviations
    assert np.array_equal(repeats, padding_repeats(graph, 30_000, np.random.default_rng(1)))
    assert not np.array_equal(repeats, padding_repeats(graph, 30_000, np.random.default_rng(2)))


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_softmax_of_the_written_out_list(seed: int) -> None:
    graph = co_occurrence(random_interactions(seed), 6)
    repeats = padding_repeats(graph, 9, np.random.default_rng(seed))
    weights, counted = stored(softmax_rows(graph, repeats)), iter(repeats)
    for row, expected in zip(weights, listed(random_interactions(seed), 6), strict=True):
        written = [pair for pair in expected for _ in range(next(counted))]
        total = sum(np.exp(shared) for _, shared in written)
        sums = {user: sum(np.exp(shared) for other, shared in written if other == user) for user, _ in expected}
        assert row == [(user, pytest.approx(value / total)) for user, value in sums.items()]


def test_large_counts_do_not_overflow() -> None:
    weights = softmax_rows(lists_of({1: 2000.0, 2: 2001.0}, {0: 5.0}, {}), np.ones(3, dtype=np.int64))
    np.testing.assert_allclose(weights.values, [1 / (1 + np.e), np.e / (1 + np.e), 1.0])
