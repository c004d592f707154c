"""Synthetic data sets: exact sizes, noise and redundancy of the promised size, content that helps."""

import errno
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from trainables.data import synthetic
from trainables.data.bundle import DataBundle
from trainables.data.catalog import check, describe, load
from trainables.data.config import DataConfig
from trainables.data.synthetic import RECIPES, Recipe, synthesize, write_folder
from trainables.errors import ConfigError, DataError

PURE = {"noise": 0.0, "redundancy": 0.0}
SMALL = Recipe(num_users=60, num_items=40, num_interactions=700, widths={"image": 30, "audio": 20})


@pytest.fixture(scope="module")
def embedded() -> DataBundle:
    return load(DataConfig())


def recall_at_20(scores, bundle):
    """Mean over users of the share of their validation items among the 20 best that are not in train."""
    scores = scores.copy()
    scores[bundle.train.users, bundle.train.items] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    recalls = []
    for user in np.unique(bundle.valid.users):
        wanted = bundle.valid.items[bundle.valid.users == user]
        recalls.append(np.isin(wanted, best[user]).mean())
    return float(np.mean(recalls))


def item_weights(rows, penalty):
    """EASE (Steck, WWW 2019): the item-item weights of a ridge regression of every item on all others."""
    inverse = np.linalg.inv(rows.T @ rows + penalty * np.eye(rows.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


# Sizes


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("recipe", [SMALL, Recipe(20, 30, 300, {"text": 3}, popularity=3.0, activity=2.0)])
def test_pairs_are_distinct_as_many_as_asked_and_respect_both_minima(recipe, seed):
    data = synthesize(recipe, seed)
    assert len(data.users) == recipe.num_interactions
    assert len(np.unique(data.users * recipe.num_items + data.items)) == recipe.num_interactions
    users = np.bincount(data.users, minlength=recipe.num_users)
    items = np.bincount(data.items, minlength=recipe.num_items)
    assert len(users) == recipe.num_users and len(items) == recipe.num_items
    assert users.min() >= recipe.min_per_user and items.min() >= recipe.min_per_item
    assert users.max() < recipe.num_items, "a user with every item has no negatives"


@pytest.mark.parametrize("recipe", [SMALL, Recipe(), Recipe(30, 40, 590, {"text": 3}, popularity=3.0, activity=2.0)])
def test_pairs_drawn_by_candidates_keep_the_same_promises(recipe, monkeypatch):
    dense = synthesize(recipe, 0)
    monkeypatch.setattr("trainables.data.synthetic.DENSE_CELLS", 0)
    data = synthesize(recipe, 0)
    assert len(data.users) == len(np.unique(data.users * recipe.num_items + data.items)) == recipe.num_interactions
    users = np.bincount(data.users, minlength=recipe.num_users)
    items = np.bincount(data.items, minlength=recipe.num_items)
    assert (len(users), len(items)) == (recipe.num_users, recipe.num_items)
    assert users.min() >= recipe.min_per_user and items.min() >= recipe.min_per_item
    odds = dense.user_factors @ dense.item_factors.T
    assert odds[data.users, data.items].mean() > odds.mean() + 0.25 * odds.std()


def test_every_user_has_rows_in_all_three_splits():
    data = synthesize(SMALL, 0)
    for label in range(3):
        assert len(np.unique(data.users[data.labels == label])) == SMALL.num_users


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data():
    first, again, other = (synthesize(SMALL, seed) for seed in (5, 5, 6))
    for name in ("users", "items", "times", "labels", "user_factors", "item_factors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.features["image"], again.features["image"])
    assert (first.features["image"] != other.features["image"]).any()
    assert len(first.items) == len(other.items) and (first.items != other.items).any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"noise": 0.7, "redundancy": 0.4}, "shares of at most 1 together"),
        ({"noise": -0.1}, "shares of at most 1 together"),
        ({"num_interactions": 9_999}, "must lie between 10000 .* but is 9999"),
        ({"num_interactions": 480_001}, "480000 .half of all pairs., but is 480001"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_an_error(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Recipe(**changes)


def test_the_presets_have_the_sizes_of_the_published_data_sets():
    baby, lfm2k = RECIPES["baby"], RECIPES["lfm2k"]
    assert (baby.num_users, baby.num_items, baby.num_interactions) == (19_445, 7_050, 160_792)
    assert dict(baby.widths) == {"image": 4096, "text": 384}
    assert (lfm2k.num_users, lfm2k.num_items, lfm2k.num_interactions) == (1_858, 1_425, 56_345)


# Features


def explained(features, factors):
    """Share of the features' variance that is linear in the factors."""
    centred = features - features.mean(axis=0)
    basis = np.column_stack([factors, np.ones(len(factors))])
    residual = centred - basis @ np.linalg.lstsq(basis, centred, rcond=None)[0]
    return 1 - residual.var() / centred.var()


@pytest.mark.parametrize(("noise", "redundancy"), [(0.0, 0.0), (0.1, 0.2), (0.5, 0.0), (0.3, 0.7)])
def test_features_have_variance_one_and_the_promised_share_of_it_is_taste(noise, redundancy):
    recipe = Recipe(300, 2000, 20_000, {"image": 200, "text": 100}, noise=noise, redundancy=redundancy)
    data = synthesize(recipe, 0)
    for array in data.features.values():
        assert array.dtype == np.float32
        assert array.var() == pytest.approx(1.0, abs=0.06)
        assert explained(array, data.item_factors) == pytest.approx(1 - noise - redundancy, abs=0.04)


def test_redundancy_is_of_low_rank_and_noise_is_not():
    def effective_rank(**shares):
        recipe = Recipe(300, 1500, 15_000, {"image": 200}, shared=6, private=2, **shares)
        values = np.linalg.svd(synthesize(recipe, 0).features["image"], compute_uv=False)
        return int((values > 0.05 * values[0]).sum())

    assert effective_rank(noise=0.0, redundancy=0.0) == 8
    assert effective_rank(noise=0.0, redundancy=0.5) == 16
    assert effective_rank(noise=0.5, redundancy=0.0) == 200


def test_a_modality_shows_the_shared_and_its_own_factors_and_no_others():
    recipe = Recipe(300, 1500, 15_000, {"image": 60, "text": 60}, shared=4, private=3, hidden=2, **PURE)
    data = synthesize(recipe, 0)
    shown = {"image": [0, 1, 2, 3, 4, 5, 6], "text": [0, 1, 2, 3, 7, 8, 9]}
    for modality, own in shown.items():
        others = [column for column in range(12) if column not in own]
        assert explained(data.features[modality], data.item_factors[:, own]) > 0.999
        assert explained(data.features[modality], data.item_factors[:, others]) < 0.02


# Interactions


def test_popularity_skews_the_items():
    def share_of_the_top_tenth(popularity):
        counts = np.sort(np.bincount(synthesize(Recipe(num_interactions=14_000, popularity=popularity), 0).items))
        return counts[-80:].sum() / counts.sum()

    flat, skewed = share_of_the_top_tenth(0.0), share_of_the_top_tenth(1.5)
    assert skewed > flat + 0.1


def test_users_choose_what_their_factors_say():
    data = synthesize(Recipe(), 0)
    odds = data.user_factors @ data.item_factors.T
    assert odds[data.users, data.items].mean() > odds.mean() + odds.std()


def test_on_the_embedded_data_content_adds_clearly_to_interactions_and_both_beat_popularity(embedded):
    rows = np.zeros((embedded.num_users, embedded.num_items))
    rows[embedded.train.users, embedded.train.items] = 1.0
    content = np.hstack([array / np.linalg.norm(array, axis=1, keepdims=True) for array in embedded.features.values()])
    popular = recall_at_20(np.tile(rows.sum(axis=0), (len(rows), 1)), embedded)
    joint = np.vstack([rows, np.sqrt(5) * content.T])
    interactions, both = (
        max(recall_at_20(rows @ item_weights(evidence, penalty), embedded) for penalty in (50, 200, 500))
        for evidence in (rows, joint)
    )
    assert interactions > 1.5 * popular
    assert both > 1.2 * interactions


def test_many_items_of_the_embedded_data_are_nearly_cold(embedded):
    counts = np.bincount(embedded.train.items, minlength=embedded.num_items)
    assert np.quantile(counts, 0.25) <= 6
    assert counts.max() >= 5 * np.median(counts)


# Folders


def test_a_written_folder_is_sound_and_holds_the_generated_data(tmp_path):
    data = synthesize(SMALL, 1)
    write_folder(tmp_path / "made" / "small", data)
    config = DataConfig.of_folder(tmp_path / "made" / "small")
    assert check(config) == ()
    bundle = load(config)
    np.testing.assert_array_equal(bundle.train.items, data.items[data.labels == 0])
    np.testing.assert_array_equal(bundle.features["audio"], data.features["audio"])
    assert describe(config)["columns"] == ["userID", "itemID", "timestamp", "x_label"]
    assert len(load(config.model_copy(update={"split": "global_time"})).train) >= 560


def test_the_embedded_data_written_to_a_folder_is_the_same_data_set(tmp_path, embedded):
    write_folder(tmp_path / "copy", synthesize(RECIPES["synthetic"], 999))
    bundle = load(DataConfig.of_folder(tmp_path / "copy"))
    np.testing.assert_array_equal(bundle.valid.items, embedded.valid.items)
    np.testing.assert_array_equal(bundle.features["text"], embedded.features["text"])


def test_an_existing_folder_is_never_written_into(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    data = synthesize(SMALL, 0)
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match=r"must be written to a new or empty folder, but .* has content"):
            write_folder(taken, data)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_finished_is_not_begun(tmp_path, monkeypatch):
    def full(path: Path, columns: Mapping[str, np.ndarray]) -> None:
        assert (path.parent / "audio_feat.npy").exists()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(synthetic, "write_interactions", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path / "made", synthesize(SMALL, 0))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "made").mkdir()
    write_folder(tmp_path / "made", synthesize(SMALL, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
    assert check(DataConfig.of_folder(tmp_path / "made")) == ()
