"""The bundle: immutable, picklable, with its graphs."""

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from trainables.data.bundle import DataBundle, Interactions
from trainables.data.graph_cache import GraphCache
from trainables.errors import DataError, ModelError
from trainables.layers.graphs import item_knn, normalised_bipartite


@pytest.fixture
def bundle(features, tmp_path):
    return DataBundle(
        name="tiny",
        digest="d",
        file_digests={"tiny.inter": "f"},
        num_users=3,
        num_items=4,
        train=Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])),
        valid=Interactions(np.array([0]), np.array([2])),
        features=features,
        graphs=GraphCache(tmp_path / "graphs"),
    )


def arrays(bundle):
    return [bundle.train.users, bundle.train.items, bundle.valid.users, bundle.valid.items, *bundle.features.values()]


def test_nothing_in_a_bundle_can_be_changed_also_after_pickling(bundle):
    for copy in (bundle, pickle.loads(pickle.dumps(bundle))):
        for array in arrays(copy):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
        with pytest.raises(TypeError):
            copy.features["image"] = np.zeros((4, 2))
        with pytest.raises(TypeError):
            copy.file_digests["x"] = "y"
        with pytest.raises(FrozenInstanceError):
            copy.num_users = 9


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_bundle_survives_pickling_whole(bundle, protocol):
    copy = pickle.loads(pickle.dumps(bundle, protocol))
    for name in ("name", "digest", "file_digests", "num_users", "num_items"):
        assert getattr(copy, name) == getattr(bundle, name)
    assert list(copy.features) == list(bundle.features)
    for ours, theirs in zip(arrays(bundle), arrays(copy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert copy.graphs.folder == bundle.graphs.folder


def test_arrays_travel_out_of_band_so_that_workers_can_share_them(bundle):
    buffers = []
    data = pickle.dumps(bundle, 5, buffer_callback=buffers.append)
    copy = pickle.loads(data, buffers=buffers)
    assert len(buffers) == len(arrays(bundle))
    assert np.shares_memory(copy.features["image"], bundle.features["image"])


def test_graphs_are_those_of_the_training_pairs_and_the_features(bundle):
    expected = normalised_bipartite(bundle.train.users, bundle.train.items, 3, 4).to_scipy()
    np.testing.assert_array_equal(bundle.bipartite().to_scipy().toarray(), expected.toarray())
    expected = item_knn(bundle.features["text"], 2).to_scipy()
    np.testing.assert_array_equal(bundle.item_knn("text", 2).to_scipy().toarray(), expected.toarray())


def test_graphs_are_built_once_per_parameter(bundle):
    assert bundle.bipartite() is bundle.bipartite()
    assert bundle.item_knn("text", 2) is bundle.item_knn("text", 2)
    assert bundle.item_knn("text", 2) is not bundle.item_knn("image", 2)
    assert bundle.item_knn("text", 2).shape == bundle.item_knn("text", 3).shape
    assert len(bundle.item_knn("text", 2).values) != len(bundle.item_knn("text", 3).values)


def test_a_bundle_with_other_features_gets_other_graphs_from_the_same_cache(bundle):
    rng = np.random.default_rng(9)
    corrupted = replace(bundle, features={"text": rng.standard_normal((4, 3)).astype(np.float32)})
    assert corrupted.graphs is bundle.graphs
    assert bundle.item_knn("text", 2) is not corrupted.item_knn("text", 2)


def test_a_modality_that_is_not_there_is_an_error_with_the_nearest_name(bundle):
    with pytest.raises(DataError, match=r"\['image', 'text'\]\), but got 'imgae' \(did you mean 'image'\?\)"):
        bundle.item_knn("imgae", 2)


def test_more_neighbours_than_items_are_an_error(bundle):
    with pytest.raises(ModelError, match="k=5 for 4 items"):
        bundle.item_knn("text", 5)


def test_interactions_have_a_length(bundle):
    assert (len(bundle.train), len(bundle.valid)) == (4, 1)
