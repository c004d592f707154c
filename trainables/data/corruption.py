"""What can happen to items' features: pure functions from features and a generator to features (strategies.md §8).

Each takes modality -> [I, F] float32, draws from the given generator alone, changes nothing in place, and gives back
the very same numbers at severity 0. What is drawn does not hang on the severity: one generator at two severities gives
the same noise at two sizes, and of two shares of items the smaller one's lie in the larger one's.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from trainables.errors import DataError

Features: TypeAlias = Mapping[str, Float32[np.ndarray, "I _"]]

TEXT, IMAGE = "text", "image"


def add_noise(
    values: Float32[np.ndarray, "R W"], std: float, generator: np.random.Generator
) -> Float32[np.ndarray, "R W"]:
    """Values plus std · N(0, I): of features (DVIB eq. 24, BSAM Table IV) or item embeddings (BSAM Table III)."""
    noisy: np.ndarray = values + np.float32(std) * generator.standard_normal(values.shape, dtype=np.float32)
    return noisy


def gaussian(features: Features, std: float, generator: np.random.Generator) -> Features:
    """Noise of the same standard deviation on every modality, whatever the scale of its features."""
    return {name: add_noise(array, std, generator) for name, array in features.items()}


def text_redundancy(features: Features, ratio: float, share: float, generator: np.random.Generator) -> Features:
    """A surrogate for DVIB's random characters in item texts, which would need the texts and their encoder.

    A share of the items, rounded, gets x + r·‖x‖·u with a random unit vector u, scaled back to the norm ‖x‖: the
    redundant text turns the sentence's direction, and its encoder gives vectors of one norm.

    Args:
        ratio: r.

    Raises:
        DataError: there is no modality "text".
    """
    text = _modality(features, TEXT, "text_redundancy")
    chosen = generator.permutation(len(text))[: round(share * len(text))]
    rows = text[chosen].astype(np.float64)
    directions = generator.standard_normal(rows.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    turned = rows + ratio * norms * directions
    lengths = np.linalg.norm(turned, axis=1, keepdims=True)
    scale = np.divide(norms, lengths, out=np.ones_like(norms), where=lengths > 0)
    changed = text.copy()
    changed[chosen] = turned * scale
    return {**features, TEXT: changed}


def visual_redundancy(
    features: Features, std: float, columns: tuple[int, int], generator: np.random.Generator
) -> Features:
    """DVIB's: |N(1, std²)| in further columns of every item's image, and zeros in still further ones, in this order.

    Args:
        columns: how many of noise, how many of zeros.

    Raises:
        DataError: there is no modality "image".
    """
    image = _modality(features, IMAGE, "visual_redundancy")
    noise, zeros = columns
    drawn = np.abs(1 + std * generator.standard_normal((len(image), noise))).astype(np.float32)
    return {**features, IMAGE: np.hstack([image, drawn, np.zeros((len(image), zeros), dtype=np.float32)])}


def ridge_adjustment(features: Features, share: float, penalty: float, generator: np.random.Generator) -> Features:
    """A surrogate for BSAM's information adjustment: what one modality would say, told by the other.

    The paper has a captioning model write some items' text, and a generator draw their image. Here every item is
    selected with probability `share`, and takes for text what ridge regression predicts from its other modalities, and
    for each of these what it predicts from the text, all from the features as they were and fitted on the items that
    are not selected.

    Args:
        penalty: of the regression, over the mean variance of its predictors.

    Raises:
        DataError: there is no text, or nothing beside it, or no item to fit on.
    """
    text, others = _text_and_others(features)
    chosen = generator.random(len(text)) < share
    if not chosen.any():
        return dict(features)
    if chosen.all():
        raise DataError(f"information_adjustment must leave items to fit on, but {share=} selects all {len(text)}")
    pairs = {TEXT: (np.hstack(list(others.values())), text)} | {name: (text, array) for name, array in others.items()}
    adjusted = {name: array.copy() for name, array in features.items()}
    for name, (source, target) in pairs.items():
        adjusted[name][chosen] = ridge_prediction(source[~chosen], target[~chosen], source[chosen], penalty)
    return adjusted


def shuffle_adjustment(features: Features, share: float, generator: np.random.Generator) -> Features:
    """Every item takes with probability `share` the features of another one, which is the same in all modalities.

    Raises:
        DataError: there is no text, or nothing beside it, or one item alone.
    """
    text, _ = _text_and_others(features)
    count = len(text)
    if count < 2:
        raise DataError(f"information_adjustment must have another item to take from, but there is {count}")
    chosen = generator.random(count) < share
    donors = (np.arange(count) + generator.integers(1, count, size=count)) % count
    return {name: np.where(chosen[:, None], array[donors], array) for name, array in features.items()}


def ridge_prediction(
    source: Float32[np.ndarray, "R V"],
    target: Float32[np.ndarray, "R W"],
    asked: Float32[np.ndarray, "Q V"],
    penalty: float,
) -> Float32[np.ndarray, "Q W"]:
    """What ridge regression with an intercept, fitted on (source, target), predicts for the rows asked for.

    Args:
        penalty: λ over the mean of the columns' sums of squares about their means, so that their scale does not matter.
    """
    centre, offset = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    inputs = source - centre
    gram = inputs.T @ inputs
    size = float(np.trace(gram)) / len(gram)
    gram[np.diag_indices(len(gram))] += penalty * size if size > 0 else 1.0
    weights = np.linalg.solve(gram, inputs.T @ (target - offset))
    predicted: np.ndarray = ((asked - centre) @ weights + offset).astype(np.float32)
    return predicted


def signal_to_noise(clean: Features, noisy: Features) -> dict[str, float]:
    """‖x‖ / ‖noise‖ in the Frobenius norm by modality; infinite where nothing changed.

    Columns that the noisy features have beyond the clean ones are noise.
    """
    return {name: _ratio(clean[name], noisy[name]) for name in clean}


def _ratio(clean: np.ndarray, noisy: np.ndarray) -> float:
    width = clean.shape[1]
    noise = _norm(np.hstack([noisy[:, :width] - clean.astype(np.float64), noisy[:, width:]]))
    return _norm(clean.astype(np.float64)) / noise if noise > 0 else float("inf")


def _norm(values: np.ndarray) -> float:
    """The Frobenius norm, summed in one order whatever the threads of the machine's linear algebra."""
    return float(np.sqrt(np.square(values).sum()))


def _modality(features: Features, name: str, corruption: str) -> Float32[np.ndarray, "I _"]:
    if name not in features:
        raise DataError(f"{corruption} needs the modality {name!r}, but the data set has {list(features)}")
    return features[name]


def _text_and_others(features: Features) -> tuple[Float32[np.ndarray, "I _"], Features]:
    text = _modality(features, TEXT, "information_adjustment")
    others = {name: array for name, array in features.items() if name != TEXT}
    if not others:
        raise DataError("information_adjustment needs a modality beside 'text', but the data set has none")
    return text, others
