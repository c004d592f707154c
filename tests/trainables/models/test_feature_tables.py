"""Where models say that features and item embeddings are, and bundles with other features, for every entry."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_reference import build

from trainables.data.bundle import DataBundle
from trainables.data.graph_cache import GraphCache
from trainables.models import MODELS
from trainables.models.base import Recommender

WITH_FEATURES = [name for name, model in MODELS.items() if model.uses_features]
TRAINED_FEATURES = {"bm3", "freedom"}
WITHOUT_ITEM_EMBEDDINGS = {"dualgnn", "dragon"}
ITEM_GRAPHS = {"freedom", "dragon"}


def tensors(model: Recommender) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def other_features(data: DataBundle) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in data.features.items()}


def scores(model: Recommender, data: DataBundle) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().score(model.extract(model.fuse()), torch.arange(data.num_users))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("modalities", [("image", "text"), ("text",), ("text", "audio", "image")])
def test_every_modality_is_found_once_with_the_features_of_the_bundle(name, modalities, make_toy):
    data = make_toy(modalities=modalities)
    model = build(name, data)
    known, seen = tensors(model), []
    for tensor, columns in model.feature_tables().items():
        covered = np.zeros(known[tensor].shape[1], dtype=int)
        for modality, place in columns.items():
            part = known[tensor][:, place].detach()
            np.testing.assert_array_equal(part.numpy(), data.features[modality].astype(part.numpy().dtype))
            covered[place] += 1
            seen.append(modality)
        assert (covered == 1).all()
    assert sorted(seen) == (sorted(modalities) if name in WITH_FEATURES else [])


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_features_are_trained_in_some_models_and_outside_the_checkpoint_in_the_others(name, toy):
    model = build(name, toy)
    places = set(model.feature_tables())
    weights = {tensor for tensor, value in model.named_parameters() if value.requires_grad}
    assert places <= weights if name in TRAINED_FEATURES else places.isdisjoint(model.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_item_tables_are_parameters_with_a_row_for_every_item(name, toy):
    model = build(name, toy)
    parameters, places = dict(model.named_parameters()), model.item_tables()
    assert bool(places) == (name not in WITHOUT_ITEM_EMBEDDINGS)
    for tensor, rows in places.items():
        assert len(parameters[tensor][rows]) == toy.num_items


@pytest.mark.parametrize("name", sorted(set(MODELS) - WITHOUT_ITEM_EMBEDDINGS))
def test_a_changed_row_changes_its_item_and_nobody_else_where_it_has_no_interaction(name, toy):
    # FREEDOM's and LGMRec's items are also neighbours of each other by their features.
    alone = [] if name in {"freedom", "lgmrec"} else [10]
    for item in (4, *alone):
        model = build(name, toy)
        before = scores(model, toy)
        ((tensor, rows),) = model.item_tables().items()
        with torch.no_grad():
            # Not along the row itself: some models use its direction alone.
            dict(model.named_parameters())[tensor][rows][item, ::2] += 1.0
        changed = (scores(model, toy) != before).any(dim=0)
        assert not changed[:10].any() if item == 10 else changed[4]


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_other_features_change_scores_and_other_graphs_only_where_they_are_rebuilt(name, toy):
    features = other_features(toy)
    kept, rebuilt = (toy.with_features(features, rebuild_graphs=rebuild) for rebuild in (False, True))
    models = [build(name, data) for data in (toy, kept, rebuilt)]
    results = [scores(model, toy) for model in models]
    if name not in TRAINED_FEATURES:  # there, scores come from ids and graphs alone
        assert not torch.equal(results[0], results[1])
    graphs = [[value.to_dense() for key, value in m.named_buffers() if key.startswith("item_graph")] for m in models]
    assert bool(graphs[0]) == (name in ITEM_GRAPHS)
    assert all(torch.equal(a, b) for a, b in zip(graphs[0], graphs[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(graphs[0], graphs[2], strict=True))
    assert torch.equal(results[1], results[2]) == (name not in ITEM_GRAPHS)
    if name == "freedom":
        assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_bundle_with_other_features_keeps_the_rest_and_says_what_its_graphs_come_from(rebuild, toy):
    features = other_features(toy)
    other = toy.with_features(features, rebuild_graphs=rebuild)
    source = features if rebuild else toy.features
    expected = toy.with_features(source, rebuild_graphs=True)
    for k, weight in ((2, 0.1), (4, 0.7)):
        for found, own in (
            (other.item_knn("text", k), expected.item_knn("text", k)),
            (other.item_graph(k, weight), expected.item_graph(k, weight)),
        ):
            np.testing.assert_array_equal(found.to_scipy().toarray(), own.to_scipy().toarray())
    assert other.train is toy.train and other.valid is toy.valid and other.graphs is toy.graphs
    assert all(np.array_equal(other.features[name], array) for name, array in features.items())
    assert other.bipartite() is toy.bipartite() and toy.graph_features is None


def test_graphs_stay_those_of_the_first_features_through_several_changes_until_they_are_rebuilt(toy):
    once = toy.with_features(other_features(toy), rebuild_graphs=False)
    twice = once.with_features({name: 2 + array for name, array in toy.features.items()}, rebuild_graphs=False)
    assert twice.item_knn("text", 3) is toy.item_knn("text", 3)
    rebuilt = twice.with_features(other_features(toy), rebuild_graphs=True)
    assert rebuilt.graph_features is None and rebuilt.item_knn("text", 3) is not toy.item_knn("text", 3)


def test_pickling_keeps_what_graphs_are_built_from(toy):
    for data in (toy, toy.with_features(other_features(toy), rebuild_graphs=False)):
        copy = pickle.loads(pickle.dumps(data))
        assert (copy.graph_features is None) == (data.graph_features is None)
        for ours, theirs in ((data.features, copy.features), (data.graph_features or {}, copy.graph_features or {})):
            assert list(ours) == list(theirs) and all(np.array_equal(ours[name], theirs[name]) for name in ours)
            assert not any(array.flags.writeable for array in theirs.values())
        np.testing.assert_array_equal(
            data.item_knn("image", 3).to_scipy().toarray(), copy.item_knn("image", 3).to_scipy().toarray()
        )


def test_joint_features_are_kept_in_the_folder_for_the_features_of_the_files_alone(toy, tmp_path):
    data = replace(toy, graphs=GraphCache(tmp_path))
    other = data.with_features(other_features(data), rebuild_graphs=True)
    for bundle, files in ((other, 0), (pickle.loads(pickle.dumps(other)), 0), (data, 1)):
        expected = np.concatenate(list(bundle.features.values()), axis=1)
        np.testing.assert_array_equal(bundle.joint_features(), expected)
        assert len(list(tmp_path.iterdir())) == files


def test_joint_features_of_one_modality_are_its_own_memory(make_toy):
    data = make_toy(modalities=("text",))
    assert data.joint_features() is data.features["text"]
