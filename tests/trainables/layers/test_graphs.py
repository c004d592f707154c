"""Graphs against a second, dense computation in float64."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import ModelError
from trainables.layers import graphs
from trainables.layers.graphs import CsrArrays, item_knn, normalised_bipartite, prune_edges, weighted_sum

USERS = np.array([0, 0, 1, 1, 1, 3], dtype=np.int64)
ITEMS = np.array([2, 0, 0, 1, 2, 4], dtype=np.int64)
SHAPE = (4, 6)


def dense(graph):
    return graph.to_scipy().toarray()


def dense_bipartite(users, items, shape):
    """The upper right block of D^-1/2 A D^-1/2 with D = row sums + 1e-7, from the full N x N matrix."""
    num_users, num_items = shape
    adjacency = np.zeros((num_users + num_items,) * 2)
    for user, item in zip(users, items, strict=True):
        adjacency[user, num_users + item] = adjacency[num_users + item, user] = 1.0
    scale = np.diag((adjacency.sum(axis=1) + 1e-7) ** -0.5)
    return (scale @ adjacency @ scale)[:num_users, num_users:]


def dense_knn(features, k):
    result = np.zeros((len(features),) * 2)
    for row, own in enumerate(features):
        similarities = []
        for column, other in enumerate(features):
            lengths = np.linalg.norm(own) * np.linalg.norm(other)
            cosine = own @ other / lengths if lengths else 0.0
            similarities.append((-math.inf if column == row else -cosine, column))
        for _, column in sorted(similarities)[:k]:
            result[row, column] = 1.0 / (k + 1e-7)
    return result


def random_edges(seed, shape=(30, 20), share=0.2):
    users, items = np.nonzero(np.random.default_rng(seed).random(shape) < share)
    return users, items


# The normalised user-item graph


def test_the_bipartite_graph_is_the_block_of_the_normalised_adjacency():
    np.testing.assert_allclose(
        dense(normalised_bipartite(USERS, ITEMS, *SHAPE)), dense_bipartite(USERS, ITEMS, SHAPE), rtol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_bipartite_graph_of_random_edges_in_random_order_is_that_block(seed):
    users, items = random_edges(seed)
    order = np.random.default_rng(seed).permutation(len(users))
    graph = normalised_bipartite(users[order], items[order], 30, 20)
    np.testing.assert_allclose(dense(graph), dense_bipartite(users, items, (30, 20)), rtol=1e-12)


def test_users_and_items_without_an_edge_have_zero_rows_and_no_nan():
    graph = dense(normalised_bipartite(USERS, ITEMS, *SHAPE))
    assert np.isfinite(graph).all()
    assert not graph[2].any() and not graph[:, 3].any() and not graph[:, 5].any()


def test_a_repeated_edge_is_an_error():
    with pytest.raises(ModelError, match="the edges of a graph must be distinct, but 1 of them are repeated"):
        normalised_bipartite(np.array([0, 1, 0]), np.array([1, 1, 1]), 2, 2)


# The arrays


def test_indices_are_32_bit_sorted_within_rows_and_values_double():
    users, items = random_edges(0)
    order = np.random.default_rng(0).permutation(len(users))
    for graph in (normalised_bipartite(users[order], items[order], 30, 20), item_knn(np.eye(6, 4), 3)):
        assert (graph.indptr.dtype, graph.indices.dtype, graph.values.dtype) == (np.int32, np.int32, np.float64)
        rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
        assert (np.diff(rows * graph.shape[1] + graph.indices) > 0).all()


def test_transposing_transposes_and_keeps_columns_sorted():
    graph = normalised_bipartite(*random_edges(1), 30, 20)
    turned = graph.transpose()
    np.testing.assert_array_equal(dense(turned), dense(graph).T)
    assert turned.shape == (20, 30)
    assert turned.indices.dtype == np.int32 and turned.to_scipy().has_sorted_indices


def test_nobody_can_write_into_a_graph_even_after_pickling():
    graph = item_knn(np.eye(5, 3), 2)
    for copy in (graph, graph.transpose(), pickle.loads(pickle.dumps(graph))):
        for array in (copy.indptr, copy.indices, copy.values):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_making_a_graph_leaves_the_given_arrays_writable():
    values = np.ones(2)
    CsrArrays(np.array([0, 1, 2], dtype=np.int32), np.array([0, 1], dtype=np.int32), values, (2, 2))
    values[0] = 3.0


# Nearest items


@pytest.mark.parametrize("k", [1, 2, 7, 25])
@pytest.mark.parametrize("block_rows", [1, 4, 25, 512])
def test_the_item_graph_is_the_naive_one_whatever_the_block(k, block_rows):
    features = np.random.default_rng(k).standard_normal((25, 6))
    np.testing.assert_array_equal(dense(item_knn(features, k, block_rows)), dense_knn(features, k))


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("num_items", [64, 67])
def test_the_item_graph_is_the_naive_one_where_groups_of_items_are_looked_at_first(k, num_items, monkeypatch):
    monkeypatch.setattr(graphs, "_GROUP", 4)
    monkeypatch.setattr(graphs, "_GROUPS_WORTH_IT", 1)
    features = np.random.default_rng(k).standard_normal((num_items, 6))
    features[10:20], features[33] = features[9], 0.0  # groups that tie, and a row that is equally far from all
    looked = []
    sort = graphs._sorted_columns
    monkeypatch.setattr(graphs, "_sorted_columns", lambda matrix, k: looked.append(matrix.shape) or sort(matrix, k))
    np.testing.assert_array_equal(dense(item_knn(features, k)), dense_knn(features, k))
    # Most rows by k groups of 4 and what is left over, those that tie by all items; nothing ties with a row itself.
    assert {columns for _, columns in looked} == {4 * k + num_items % 4} | ({num_items} if k > 1 else set())


def test_every_row_has_k_entries_of_one_over_k_and_itself_among_them():
    features = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    graph = dense(item_knn(features, 10))
    np.testing.assert_array_equal(np.unique(graph), [0.0, 1 / (10 + 1e-7)])
    assert (np.count_nonzero(graph, axis=1) == 10).all()
    assert (np.diag(graph) > 0).all()


def test_identical_items_do_not_push_an_item_out_of_its_own_neighbourhood():
    graph = dense(item_knn(np.ones((9, 3), dtype=np.float32), 2))
    assert (np.diag(graph) > 0).all()


def test_equal_similarities_go_to_the_lowest_index():
    features = np.zeros((6, 4))
    features[[1, 3, 5], 0] = 2.0
    np.testing.assert_array_equal(dense(item_knn(features, 3)), dense_knn(features, 3))
    np.testing.assert_array_equal(np.flatnonzero(dense(item_knn(features, 3))[5]), [1, 3, 5])


def test_zero_rows_give_no_nan_and_neighbour_the_lowest_indices():
    features = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    features[4] = 0.0
    graph = dense(item_knn(features, 3))
    assert np.isfinite(graph).all()
    np.testing.assert_array_equal(np.flatnonzero(graph[4]), [0, 1, 4])


def test_only_the_direction_of_features_counts_even_where_squares_overflow():
    features = np.random.default_rng(3).standard_normal((12, 4)).astype(np.float32)
    lengths = 2.0 ** np.linspace(-60, 80, 12).round().astype(np.float32)[:, None]
    np.testing.assert_array_equal(dense(item_knn(features * lengths, 4)), dense(item_knn(features, 4)))


@pytest.mark.parametrize("k", [0, -1, 6])
def test_more_neighbours_than_items_or_none_are_an_error(k):
    with pytest.raises(ModelError, match=rf"`1 <= k <= number of items`, but got k={k} for 5 items"):
        item_knn(np.eye(5), k)


# Sums of graphs


def test_a_weighted_sum_is_the_sum_of_the_dense_matrices():
    rng = np.random.default_rng(0)
    first, second = (item_knn(rng.standard_normal((15, 4)), 4) for _ in range(2))
    expected = 0.1 * dense(first) + 0.9 * dense(second)
    np.testing.assert_allclose(dense(weighted_sum([first, second], [0.1, 0.9])), expected, rtol=1e-15)


def test_a_graph_of_weight_zero_leaves_no_entries():
    first, second = item_knn(np.eye(6), 3), item_knn(np.eye(6)[::-1], 2)
    total = weighted_sum([first, second], [0.0, 1.0])
    np.testing.assert_array_equal(total.indices, second.indices)
    np.testing.assert_array_equal(total.values, second.values)
    assert len(weighted_sum([first], [0.0]).values) == 0


def test_the_sum_of_one_graph_with_weight_one_is_that_graph():
    graph = item_knn(np.eye(6), 3)
    np.testing.assert_array_equal(dense(weighted_sum([graph], [1.0])), dense(graph))


def test_sums_need_a_weight_for_each_graph_and_one_shape():
    graph = item_knn(np.eye(6), 3)
    with pytest.raises(ModelError, match="one weight for each, but got 1 graphs and 2 weights"):
        weighted_sum([graph], [0.5, 0.5])
    with pytest.raises(ModelError, match="one weight for each, but got 0 graphs"):
        weighted_sum([], [])
    with pytest.raises(ModelError, match=r"must have one shape, but got \[\(6, 6\), \(5, 5\)\]"):
        weighted_sum([graph, item_knn(np.eye(5), 2)], [0.5, 0.5])


# Pruned edges


@settings(deadline=None)
@given(num_edges=st.integers(1, 300), percent=st.integers(0, 99), rule=st.sampled_from(["degree", "uniform"]))
def test_pruning_keeps_exactly_the_floor_of_the_share_and_invents_nothing(num_edges, percent, rule):
    users, items = np.divmod(np.random.default_rng(num_edges).permutation(400)[:num_edges], 20)
    kept = num_edges * (100 - percent) // 100
    arguments = (users, items, percent / 100, np.random.default_rng(percent))
    if not kept:
        with pytest.raises(ModelError, match="leave an edge"):
            prune_edges(*arguments, shape=(20, 20), rule=rule)
        return
    some_users, some_items = prune_edges(*arguments, shape=(20, 20), rule=rule)
    left = list(zip(some_users.tolist(), some_items.tolist(), strict=True))
    assert len(left) == len(set(left)) == kept
    remaining = iter(zip(users.tolist(), items.tolist(), strict=True))
    assert all(edge in remaining for edge in left), "the kept edges must be a subsequence"


def test_the_floor_is_taken_of_the_decimal_number():
    edges = np.arange(100)
    assert math.floor(100 * (1 - 0.8)) == 19
    assert len(prune_edges(edges, edges, 0.8, np.random.default_rng(0), shape=(100, 100))[0]) == 20


def test_no_dropout_keeps_every_edge():
    users, items = prune_edges(USERS, ITEMS, 0.0, np.random.default_rng(0), shape=SHAPE)
    np.testing.assert_array_equal(users, USERS)
    np.testing.assert_array_equal(items, ITEMS)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, math.nan])
def test_dropout_outside_its_range_is_an_error(dropout):
    with pytest.raises(ModelError, match=r"dropout must lie in \[0, 1\)"):
        prune_edges(USERS, ITEMS, dropout, np.random.default_rng(0), shape=SHAPE)


def test_the_same_generator_state_prunes_the_same_edges():
    users, items = random_edges(0)
    first, second = (prune_edges(users, items, 0.5, np.random.default_rng(3), shape=(30, 20)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def inclusion_by_successive_draws(weights, kept):
    """Exact probability of each edge to be among `kept` draws without replacement."""
    result = np.zeros(len(weights))

    def descend(taken, probability):
        if len(taken) == kept:
            result[list(taken)] += probability
            return
        rest = [edge for edge in range(len(weights)) if edge not in taken]
        total = sum(weights[edge] for edge in rest)
        for edge in rest:
            descend((*taken, edge), probability * weights[edge] / total)

    descend((), 1.0)
    return result


@pytest.mark.parametrize("rule", ["degree", "uniform"])
def test_edges_are_kept_with_the_probabilities_of_successive_weighted_draws(rule):
    user_degree, item_degree = np.bincount(USERS), np.bincount(ITEMS)
    weights = [(user_degree[u] * item_degree[i]) ** -0.5 for u, i in zip(USERS, ITEMS, strict=True)]
    expected = inclusion_by_successive_draws(weights if rule == "degree" else [1.0] * len(USERS), 3)
    rng, rounds = np.random.default_rng(0), 5_000
    counts = np.zeros(len(USERS))
    for _ in range(rounds):
        users, items = prune_edges(USERS, ITEMS, 0.5, rng, shape=SHAPE, rule=rule)
        counts += np.isin(USERS * 6 + ITEMS, users * 6 + items)
    # Five standard errors of a share.
    np.testing.assert_allclose(counts / rounds, expected, atol=5 * 0.5 / math.sqrt(rounds))
