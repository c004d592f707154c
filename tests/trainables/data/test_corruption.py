"""Corruptions of features: their moments, their sizes, and what they leave alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data import corruption
from trainables.errors import DataError

SEVERE = {
    "gaussian": lambda f, g: corruption.gaussian(f, 0.5, g),
    "text_redundancy": lambda f, g: corruption.text_redundancy(f, 0.5, 0.5, g),
    "visual_redundancy": lambda f, g: corruption.visual_redundancy(f, 3.0, (3, 2), g),
    "ridge_adjustment": lambda f, g: corruption.ridge_adjustment(f, 0.5, 0.1, g),
    "shuffle_adjustment": lambda f, g: corruption.shuffle_adjustment(f, 0.5, g),
}
NONE = {
    "gaussian": lambda f, g: corruption.gaussian(f, 0.0, g),
    "text_redundancy": lambda f, g: corruption.text_redundancy(f, 0.0, 0.5, g),
    "text_redundancy of no item": lambda f, g: corruption.text_redundancy(f, 0.5, 0.0, g),
    "visual_redundancy": lambda f, g: corruption.visual_redundancy(f, 3.0, (0, 0), g),
    "ridge_adjustment": lambda f, g: corruption.ridge_adjustment(f, 0.0, 0.1, g),
    "shuffle_adjustment": lambda f, g: corruption.shuffle_adjustment(f, 0.0, g),
}


def features(num_items=60, seed=0, **widths):
    rng = np.random.default_rng(seed)
    widths = widths or {"image": 7, "text": 5}
    return {name: rng.standard_normal((num_items, width)).astype(np.float32) for name, width in widths.items()}


def stream(seed=1):
    return np.random.default_rng(seed)


def same(left, right):
    return list(left) == list(right) and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("corrupt", SEVERE.values(), ids=SEVERE)
def test_the_same_stream_gives_the_same_numbers_another_one_others_and_the_input_stays(corrupt):
    clean = features()
    kept = {name: array.copy() for name, array in clean.items()}
    noisy = corrupt(clean, stream())
    assert same(noisy, corrupt(clean, stream())) and not same(noisy, corrupt(clean, stream(2)))
    assert same(clean, kept) and not same(clean, noisy)
    assert list(noisy) == list(clean) and all(array.dtype == np.float32 for array in noisy.values())


@pytest.mark.parametrize("corrupt", NONE.values(), ids=NONE)
def test_severity_zero_is_the_clean_features_bit_for_bit(corrupt):
    clean = features()
    assert same(corrupt(clean, stream()), clean)


@pytest.mark.parametrize("std", [1e-3, 10**-2.5, 1e-2, 0.05])
def test_the_noise_has_mean_0_its_standard_deviation_and_is_normal(std):
    zeros = {"text": np.zeros((400, 500), dtype=np.float32)}
    noise = corruption.gaussian(zeros, std, stream())["text"].astype(np.float64) / std
    moments = [np.mean(noise**power) for power in (1, 2, 3, 4)]
    # Standard errors of the first four sample moments of N(0, 1): 1, √2, √15, √96, over the root of the sample size.
    errors = np.sqrt(np.array([1, 2, 15, 96]) / noise.size)
    assert np.all(np.abs(np.array(moments) - [0, 1, 0, 3]) < 4 * errors)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 4 * errors[0]


def test_modalities_get_different_noise_of_the_same_deviation_and_two_severities_the_same_noise():
    clean = features(image=5, text=5)
    one, three = corruption.gaussian(clean, 0.25, stream()), corruption.gaussian(clean, 0.75, stream())
    noise = {name: one[name] - clean[name] for name in clean}
    assert not np.allclose(noise["image"], noise["text"])
    for name in clean:
        np.testing.assert_allclose(three[name] - clean[name], 3 * noise[name], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(ratio=st.floats(0, 3), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_text_redundancy_turns_its_share_of_rows_and_keeps_every_norm(ratio, share, seed):
    clean = features(num_items=20)
    clean["text"][3] = 0
    noisy = corruption.text_redundancy(clean, ratio, share, stream(seed))
    assert np.array_equal(noisy["image"], clean["image"])
    np.testing.assert_allclose(
        np.linalg.norm(noisy["text"], axis=1), np.linalg.norm(clean["text"], axis=1), rtol=1e-5, atol=1e-12
    )
    touched = (noisy["text"] != clean["text"]).any(axis=1)
    assert touched.sum() <= round(20 * share) and not touched[3]
    if ratio > 1e-3:
        assert touched.sum() >= round(20 * share) - 1


def test_text_redundancy_adds_a_direction_of_the_given_relative_norm():
    clean = features(num_items=51, text=6, image=2)
    noisy = corruption.text_redundancy(clean, 0.7, 0.5, stream())
    rng = stream()
    chosen = rng.permutation(51)[:26]
    for item, draw in zip(chosen, rng.standard_normal((26, 6)), strict=True):
        x = clean["text"][item].astype(np.float64)
        norm = np.sqrt((x**2).sum())
        turned = x + 0.7 * norm * draw / np.sqrt((draw**2).sum())
        np.testing.assert_allclose(noisy["text"][item], norm * turned / np.sqrt((turned**2).sum()), rtol=1e-5)
    rest = np.setdiff1d(np.arange(51), chosen)
    assert np.array_equal(noisy["text"][rest], clean["text"][rest])


def test_visual_redundancy_puts_noise_and_then_zeros_behind_the_original_columns():
    clean = features(num_items=300, image=4, text=3)
    noisy = corruption.visual_redundancy(clean, 3.0, (512, 512), stream())
    assert noisy["image"].shape == (300, 4 + 1024) and noisy["text"] is clean["text"]
    assert np.array_equal(noisy["image"][:, :4], clean["image"]) and not noisy["image"][:, 516:].any()
    drawn = noisy["image"][:, 4:516].astype(np.float64)
    assert drawn.min() >= 0
    # Moments of |N(1, 3²)|: the second is 1 + 9, the first that of the folded normal.
    folded = 3 * np.sqrt(2 / np.pi) * np.exp(-1 / 18) + (1 - 2 * 0.36944134018176367)
    assert np.mean(drawn**2) == pytest.approx(10, rel=0.02) and np.mean(drawn) == pytest.approx(folded, rel=0.01)


def test_ridge_replaces_selected_rows_by_what_the_other_modality_predicts_from_the_rest():
    rng = np.random.default_rng(3)
    text = rng.standard_normal((80, 3))
    image = text @ rng.standard_normal((3, 4)) + 7
    clean = {"image": image.astype(np.float32), "text": text.astype(np.float32)}
    chosen = np.random.default_rng(1).random(80) < 0.3
    broken = {name: array.copy() for name, array in clean.items()}
    broken["image"][chosen] += 5  # What a selected image said before must not reach its new self.
    adjusted = corruption.ridge_adjustment(broken, 0.3, 1e-9, stream())
    np.testing.assert_allclose(adjusted["image"], clean["image"], atol=1e-4)
    for name in clean:
        assert np.array_equal(adjusted[name][~chosen], broken[name][~chosen])
    # Text takes what the broken image predicts: not what it was.
    assert (np.abs(adjusted["text"][chosen] - clean["text"][chosen]).max(axis=1) > 0.1).all()


def test_ridge_prediction_is_the_minimiser_with_an_intercept_and_free_of_scale():
    rng = np.random.default_rng(5)
    source, target = (rng.standard_normal((30, width)).astype(np.float32) for width in (4, 2))
    asked = rng.standard_normal((6, 4)).astype(np.float32)
    centred = source.astype(np.float64) - source.mean(axis=0, dtype=np.float64)
    size = 0.3 * (centred**2).sum() / 4
    stacked = np.vstack(
        [np.hstack([source, np.ones((30, 1))]), np.hstack([np.sqrt(size) * np.eye(4), np.zeros((4, 1))])]
    )
    solution = np.linalg.lstsq(stacked, np.vstack([target, np.zeros((4, 2))]), rcond=None)[0]
    expected = np.hstack([asked, np.ones((6, 1))]) @ solution
    np.testing.assert_allclose(corruption.ridge_prediction(source, target, asked, 0.3), expected, atol=1e-5)
    scaled = corruption.ridge_prediction(1000 * source, target, 1000 * asked, 0.3)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)
    constant = corruption.ridge_prediction(np.ones_like(source), target, asked, 0.3)
    np.testing.assert_allclose(constant, np.tile(target.mean(axis=0), (6, 1)), atol=1e-6)


def test_three_modalities_speak_for_text_together_and_text_for_each():
    clean = features(num_items=40, audio=2, image=3, text=4)
    adjusted = corruption.ridge_adjustment(clean, 0.4, 0.1, stream())
    chosen = stream().random(40) < 0.4
    both = np.hstack([clean["audio"], clean["image"]])
    expected = {
        "text": corruption.ridge_prediction(both[~chosen], clean["text"][~chosen], both[chosen], 0.1),
        "audio": corruption.ridge_prediction(
            clean["text"][~chosen], clean["audio"][~chosen], clean["text"][chosen], 0.1
        ),
    }
    for name, rows in expected.items():
        assert np.array_equal(adjusted[name][chosen], rows)


def test_shuffled_items_take_all_modalities_of_one_other_item():
    ids = np.arange(900, dtype=np.float32)[:, None]
    noisy = corruption.shuffle_adjustment({"image": ids + 100, "text": ids}, 0.9, stream())
    taken = noisy["text"][:, 0].astype(int)
    assert np.array_equal(noisy["image"][:, 0] - 100, noisy["text"][:, 0])
    moved = stream().random(900) < 0.9
    assert (taken[moved] != np.arange(900)[moved]).all() and (taken[~moved] == np.arange(900)[~moved]).all()


def test_every_item_is_selected_with_the_same_probability_and_small_shares_lie_in_large_ones():
    clean = {"image": np.zeros((1, 1), np.float32), "text": np.zeros((1, 1), np.float32)}
    clean = {name: np.arange(20000, dtype=np.float32)[:, None] for name in clean}
    changed = []
    for share in (0.01, 0.03, 0.05):
        noisy = corruption.shuffle_adjustment(clean, share, stream())["text"]
        changed.append((noisy != clean["text"])[:, 0])
        assert changed[-1].mean() == pytest.approx(share, abs=4 * np.sqrt(share / 20000))
    assert (changed[0] <= changed[1]).all() and (changed[1] <= changed[2]).all()


def test_the_ratio_is_that_of_frobenius_norms_and_counts_further_columns_as_noise():
    clean = {"image": np.full((2, 2), 3, np.float32), "text": np.full((4, 1), 5, np.float32)}
    noisy = {"image": np.array([[3, 3, 4], [3, 6, 0]], np.float32), "text": clean["text"]}
    assert corruption.signal_to_noise(clean, noisy) == {"image": pytest.approx(6 / 5), "text": float("inf")}


def test_what_a_corruption_misses_is_named_in_one_sentence():
    with pytest.raises(DataError, match=r"text_redundancy needs the modality 'text', but the data set has \['image'\]"):
        corruption.text_redundancy(features(image=2), 0.1, 0.5, stream())
    with pytest.raises(DataError, match="visual_redundancy needs the modality 'image'"):
        corruption.visual_redundancy(features(text=2), 3.0, (1, 1), stream())
    for adjust in (SEVERE["ridge_adjustment"], SEVERE["shuffle_adjustment"]):
        with pytest.raises(DataError, match="needs a modality beside 'text'"):
            adjust(features(text=2), stream())
    with pytest.raises(DataError, match=r"must leave items to fit on, but share=0\.9\d* selects all 1"):
        corruption.ridge_adjustment(features(num_items=1), 0.9999999, 0.1, stream())
    with pytest.raises(DataError, match="must have another item to take from, but there is 1"):
        corruption.shuffle_adjustment(features(num_items=1), 0.5, stream())
