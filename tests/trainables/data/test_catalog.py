"""Loading: what a bundle holds, that the test split stays sealed, what is said about a data set."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from trainables.data.catalog import check, describe, load, open_test_split
from trainables.data.config import DataConfig
from trainables.errors import DataError


def with_split(config, **changes):
    return config.model_copy(update=changes)


def pairs(interactions):
    return set(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def reachable_arrays(value):
    """Every array that can be reached from a value through attributes, mappings and sequences."""
    if isinstance(value, np.ndarray):
        return [value]
    if dataclasses.is_dataclass(value):
        return [array for field in dataclasses.fields(value) for array in reachable_arrays(getattr(value, field.name))]
    if isinstance(value, tuple | list):
        return [array for item in value for array in reachable_arrays(item)]
    if hasattr(value, "values"):
        return [array for item in value.values() for array in reachable_arrays(item)]
    return reachable_arrays(list(vars(value).values())) if hasattr(value, "__dict__") else []


# What a bundle holds


def test_a_folder_loads_with_its_splits_sizes_and_features(write, features):
    bundle = load(write(features=features))
    assert (bundle.name, bundle.num_users, bundle.num_items) == ("tiny", 3, 4)
    assert pairs(bundle.train) == {(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)}
    assert pairs(bundle.valid) == {(0, 2), (1, 0)}
    assert list(bundle.features) == ["image", "text"]
    for modality, array in bundle.features.items():
        np.testing.assert_array_equal(array, features[modality])


def test_modalities_come_in_the_order_that_was_asked_for(write, features):
    config = write(features=features)
    assert list(load(with_split(config, modalities=("text", "image"))).features) == ["text", "image"]
    assert list(load(with_split(config, modalities=("text",))).features) == ["text"]
    assert list(load(with_split(config, modalities=())).features) == []


def test_an_unused_modality_is_neither_read_nor_digested(write, features):
    config = with_split(write(features={**features, "text": np.full((4, 2), np.nan)}), modalities=("image",))
    assert set(load(config).file_digests) == {"tiny.inter", "image_feat.npy"}


def test_a_modality_that_is_not_there_is_an_error_with_the_nearest_name(write, features):
    with pytest.raises(DataError, match=r"\['image', 'text'\]\), but got 'images' \(did you mean 'image'\?\)"):
        load(with_split(write(features=features), modalities=("images",)))


def test_features_that_do_not_match_the_items_are_an_error(write, features):
    with pytest.raises(DataError, match=r"text_feat\.npy must have one row for each of the 4 items, but has 3 rows"):
        load(write(features={"text": features["text"][:3]}))


def test_an_item_that_occurs_only_in_the_test_split_still_counts(write):
    config = write(rows=[(0, 0, 0), (0, 1, 1), (0, 2, 2)])
    assert load(config).num_items == 3


def test_graphs_are_kept_in_the_given_folder(write, features, tmp_path):
    bundle = load(write(features=features), tmp_path / "graphs")
    bundle.item_knn("text", 2)
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_a_loaded_bundle_pickles(write, features):
    copy = pickle.loads(pickle.dumps(load(write(features=features))))
    assert pairs(copy.valid) == {(0, 2), (1, 0)}


# The sealed test split


@pytest.mark.parametrize("split", ["given", "random", "leave_one_out", "global_time"])
def test_no_test_row_is_reachable_from_a_bundle(split):
    config = DataConfig(split=split)
    bundle, test = load(config), open_test_split(config)
    bundle.bipartite()
    arrays = reachable_arrays(bundle)
    assert len(arrays) == 9, "users and items of train and valid, two modalities, three of the graph"
    lengths = {len(bundle.train), len(bundle.valid), bundle.num_items, bundle.num_users + 1}
    assert {len(array) for array in arrays} == lengths
    assert not pairs(test) & (pairs(bundle.train) | pairs(bundle.valid))


def test_the_test_split_is_opened_by_its_own_function_alone(write):
    config = write()
    assert pairs(open_test_split(config)) == {(0, 3), (2, 2)}
    assert not any("test" in field.name for field in dataclasses.fields(load(config)))


def test_test_rows_of_users_without_training_rows_are_dropped(write):
    rows = [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 1), (1, 1, 2), (1, 2, 2)]
    assert pairs(open_test_split(write(rows=rows))) == {(0, 2)}


def test_the_test_split_is_read_anew_every_time(write):
    config = write()
    before = pairs(open_test_split(config))
    write(rows=[(0, 0, 0), (0, 1, 1), (0, 2, 2)])
    assert pairs(open_test_split(config)) == {(0, 2)} != before


def test_an_empty_test_split_is_an_error_only_when_it_is_opened(write):
    config = write(rows=[(0, 0, 0), (0, 1, 1)])
    load(config)
    with pytest.raises(DataError, match=r"the test split must hold interactions, but is empty \(data\.split 'given'\)"):
        open_test_split(config)


def test_a_split_that_was_made_is_the_same_for_training_and_for_testing():
    config = DataConfig(split="random", split_seed=3)
    bundle, test = load(config), open_test_split(config)
    everything = pairs(bundle.train) | pairs(bundle.valid) | pairs(test)
    assert len(everything) == len(bundle.train) + len(bundle.valid) + len(test) == 11_000


# Digests


def test_the_digest_is_of_everything_that_decides_the_content(write, features):
    config = write(features=features)
    changes = [
        {},
        {"modalities": ("text", "image")},
        {"modalities": ("text",)},
        {"split": "leave_one_out"},
        {"split": "leave_one_out", "split_seed": 1},
    ]
    digests = {load(with_split(config, **change)).digest for change in changes}
    digests.add(load(write(features={"text": -features["text"]})).digest)
    digests.add(load(write(rows=[(0, 0, 0), (0, 1, 1), (0, 2, 0), (0, 3, 2)])).digest)
    assert len(digests) == 7


def test_the_digest_is_of_nothing_else(write, features, tmp_path):
    config = write(features=features)
    (tmp_path / "tiny" / "notes.txt").write_text("anything")
    assert load(config).digest == load(with_split(config, split_seed=5, modalities=("image", "text"))).digest


# What is said about a data set


def test_a_description_is_plain_json_with_the_statistics(write, features):
    features["text"][1] = 0.0
    rows = [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 0, 1), (1, 1, 2)]
    description = describe(write(rows=rows, features=features))
    assert json.loads(json.dumps(description)) == description
    assert (description["users"], description["items"]) == (2, 4)
    assert description["interactions"] == {"total": 6, "train": 2, "valid": 1, "test": 1}
    assert description["sparsity"] == pytest.approx(1 - 6 / 8)
    assert description["modalities"] == {"image": {"width": 5, "zero_rows": 0}, "text": {"width": 3, "zero_rows": 1}}
    assert description["dropped"] == {
        "valid": {"users": 1, "interactions": 1},
        "test": {"users": 1, "interactions": 1},
    }
    assert description["columns"] == ["userID", "itemID", "x_label"]
    assert set(description["file_digests"]) == {"tiny.inter", "image_feat.npy", "text_feat.npy"}


def test_a_description_has_the_digest_of_the_bundle_and_the_seed_only_where_it_matters(write):
    config = write()
    assert describe(config)["digest"] == load(config).digest
    assert describe(config)["split_seed"] is None
    assert describe(with_split(config, split="random"))["split_seed"] == 999


def test_a_sound_data_set_has_no_problems(write, features):
    assert check(write(features=features)) == ()
    assert check(DataConfig()) == ()


def test_a_check_reports_every_broken_file_at_once(write, features):
    features["text"][2, 1] = np.nan
    config = write(rows=[(0, 0, 0), (0, 1, 0), (0, 2, 2), (0, 3, 2)], features={**features, "audio": np.ones((3, 2))})
    problems = check(config)
    assert len(problems) == 3
    for problem, words in zip(problems, ("validation split", "audio_feat.npy", "row 2, column 1"), strict=True):
        assert words in problem


def test_a_check_reports_a_missing_folder_a_broken_table_and_a_missing_modality(write, tmp_path):
    assert len(check(DataConfig(name="nothing", root=str(tmp_path)))) == 1
    assert "line 2" in check(write("broken", rows=[("a", 0, 0)]))[0]
    assert "'smell'" in check(with_split(write(), modalities=("smell",)))[0]


def test_what_a_check_accepts_loads(write, features):
    config = write(features=features)
    assert check(config) == () and load(config).num_items == 4


# Real data


def test_lfm2k_loads_with_its_known_sizes(real_data):
    config = DataConfig(name="lfm2k", root=str(real_data))
    bundle = load(config)
    assert (bundle.num_users, bundle.num_items) == (1858, 1425)
    assert (len(bundle.train), len(bundle.valid), len(open_test_split(config))) == (44_327, 4_799, 7_219)
    assert {name: array.shape[1] for name, array in bundle.features.items()} == {
        "audio": 512,
        "text": 384,
        "vggish": 128,
    }
    assert check(config) == ()


def test_baby_loads_with_its_known_sizes_and_no_features(real_data):
    config = DataConfig(name="baby", root=str(real_data))
    bundle = load(config)
    assert (bundle.num_users, bundle.num_items, dict(bundle.features)) == (19_445, 7_050, {})
    assert len(bundle.train) + len(bundle.valid) + len(open_test_split(config)) == 160_792
    assert bundle.bipartite().shape == (19_445, 7_050)
