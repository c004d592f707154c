"""The graph cache: nothing is built twice, nothing is confused, nothing broken is used."""

import pickle

import numpy as np
import pytest

from trainables.data.graph_cache import GraphCache
from trainables.errors import DataError
from trainables.layers.graphs import item_knn

FEATURES = np.random.default_rng(0).standard_normal((12, 4))


class Builder:
    """Builds item graphs and counts how often."""

    def __init__(self):
        self.calls = 0

    def fetch(self, cache, features=FEATURES, k=3, kind="item_knn"):
        def build():
            self.calls += 1
            return item_knn(features, k)

        return cache.fetch(kind, [features], {"k": k}, build)


@pytest.fixture
def builder():
    return Builder()


def same(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("indptr", "indices", "values"))


def test_a_second_call_returns_the_same_graph_without_building(builder):
    cache = GraphCache()
    assert builder.fetch(cache) is builder.fetch(cache)
    assert builder.calls == 1


def test_an_equal_array_elsewhere_in_memory_is_the_same_input(builder):
    cache = GraphCache()
    assert builder.fetch(cache) is builder.fetch(cache, FEATURES.copy())


def test_no_two_inputs_kinds_or_parameters_share_an_entry(builder):
    cache = GraphCache()
    changed = FEATURES.copy()
    changed[0, 0] += 1e-9
    builder.fetch(cache)
    builder.fetch(cache, k=4)
    builder.fetch(cache, changed)
    builder.fetch(cache, FEATURES.reshape(24, 2))
    builder.fetch(cache, FEATURES.astype(np.float32))
    builder.fetch(cache, kind="other")
    assert builder.calls == 6


def test_close_numbers_are_different_parameters():
    cache = GraphCache()
    weights = (0.1, 0.15, 0.1 + 1e-16)
    assert len(set(weights)) == 3
    graphs = [cache.fetch("w", [FEATURES], {"w": weight}, lambda: item_knn(FEATURES, 2)) for weight in weights]
    assert len({id(graph) for graph in graphs}) == 3


def test_an_array_that_was_changed_in_place_is_a_different_input(builder):
    cache, features = GraphCache(), FEATURES.copy()
    before = builder.fetch(cache, features)
    features[:] = features[::-1].copy()
    assert not same(before, builder.fetch(cache, features))


def test_the_graph_used_longest_ago_goes_first(builder):
    cache = GraphCache(capacity=2)
    for k in (1, 2, 1, 3, 1):
        builder.fetch(cache, k=k)
    assert builder.calls == 3
    builder.fetch(cache, k=2)
    assert builder.calls == 4


def test_a_folder_serves_other_processes_without_building(builder, tmp_path):
    first = builder.fetch(GraphCache(tmp_path / "graphs"))
    second = builder.fetch(GraphCache(tmp_path / "graphs"))
    assert builder.calls == 1 and same(first, second)
    assert second.shape == (12, 12) and second.indices.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        second.values[0] = 0.0


def test_only_whole_files_under_their_final_name_are_left_behind(builder, tmp_path):
    builder.fetch(GraphCache(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "replaced", "unsound"])
def test_a_damaged_file_is_built_again_and_replaced(builder, tmp_path, damage):
    whole = builder.fetch(GraphCache(tmp_path))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    if damage == "unsound":
        np.savez(path, indptr=whole.indptr, indices=whole.indices + 100, values=whole.values, shape=whole.shape)
    else:
        damaged = {"truncated": content[:middle], "flipped": content, "emptied": b"", "replaced": b"PK nothing"}
        path.write_bytes(bytes(damaged[damage]))
    assert same(whole, builder.fetch(GraphCache(tmp_path)))
    assert builder.calls == 2
    builder.fetch(GraphCache(tmp_path))
    assert builder.calls == 2


def test_pickling_keeps_the_folder_and_leaves_the_graphs_behind(builder, tmp_path):
    cache = GraphCache(tmp_path, capacity=5)
    empty = len(pickle.dumps(cache))
    builder.fetch(cache)
    copy = pickle.loads(pickle.dumps(cache))
    assert len(pickle.dumps(cache)) == empty
    assert (copy.folder, copy.capacity) == (tmp_path, 5)
    builder.fetch(copy)
    assert builder.calls == 1


def test_a_folder_that_cannot_be_written_is_an_error(builder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the graph cache's folder .*file must be writable, but"):
        builder.fetch(GraphCache(tmp_path / "file"))


TABLES = [
    np.random.default_rng(seed).standard_normal((6, width)).astype(np.float32) for seed, width in ((0, 3), (1, 2))
]


def mapped_file(array):
    """The array at the bottom of a view, where that is a mapped file."""
    while not isinstance(array, np.memmap) and array.base is not None:
        array = array.base
    return array if isinstance(array, np.memmap) else None


def test_joined_tables_are_one_file_that_every_process_maps_and_none_writes(tmp_path):
    expected = np.concatenate(TABLES, axis=1)
    for joined in (GraphCache(tmp_path / "graphs").joined(TABLES) for _ in range(2)):
        np.testing.assert_array_equal(joined, expected)
        assert joined.dtype == np.float32 and type(joined) is np.ndarray
        (path,) = (tmp_path / "graphs").iterdir()
        assert mapped_file(joined).filename == path
        with pytest.raises(ValueError, match="read-only"):
            joined[0, 0] = 0.0


def test_tables_are_joined_in_memory_where_there_is_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    for cache in (GraphCache(), GraphCache(tmp_path / "file")):
        joined = cache.joined(TABLES)
        np.testing.assert_array_equal(joined, np.concatenate(TABLES, axis=1))
        assert mapped_file(joined) is None and not joined.flags.writeable


def test_a_cut_file_of_joined_tables_is_not_used(tmp_path):
    GraphCache(tmp_path).joined(TABLES)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(GraphCache(tmp_path).joined(TABLES), np.concatenate(TABLES, axis=1))


def test_other_tables_or_another_order_are_another_file(tmp_path):
    cache = GraphCache(tmp_path)
    for tables in (TABLES, TABLES[::-1], [2 * table for table in TABLES]):
        np.testing.assert_array_equal(cache.joined(tables), np.concatenate(tables, axis=1))
    assert len(list(tmp_path.iterdir())) == 3
