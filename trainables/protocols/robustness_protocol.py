"""The robustness protocol: a trained configuration, judged under corruptions (strategies.md §8)."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.corruption import (
    Features,
    add_noise,
    gaussian,
    ridge_adjustment,
    shuffle_adjustment,
    signal_to_noise,
    text_redundancy,
    visual_redundancy,
)
from trainables.models.base import Recommender
from trainables.protocols.config import CorruptionConfig, Kind, RobustnessConfig
from trainables.protocols.measurement import Measurement
from trainables.protocols.selection import Judged, applicable
from trainables.protocols.training import Trained, at_best, finish, judge, train
from trainables.seeding import numpy_stream
from trainables.trainer import Trainer


def robustness(
    config: TrialConfig, data: DataBundle, settings: RobustnessConfig, *, device: torch.device | str = "cpu"
) -> list[Measurement]:
    """Trains a configuration and returns its validation metrics, clean and under each corruption, level and draw.

    Phase `test` judges the best weights of the one clean training: the model is built anew on corrupted features, and
    where its features are trained tables, these get what the corruption added. Phase `train_test` trains anew on
    corrupted data, items' graphs included, and judges there. Draws are named by the training seed, the corruption and
    their number: strategies and levels meet the same noise. A training that diverges has metrics of NaN; where it is
    the clean one, these are all there is.

    Raises:
        ModelError: a corruption asked for by name does not apply, or none at all does; nothing is trained then.
    """
    trainer = Trainer(config, data, device=device)
    chosen = applicable(settings, judged(trainer))
    trained = finish(trainer)
    found = trained.priced([Measurement("clean", name, value) for name, value in trained.validation.items()])
    for corruption in () if trained.diverged else chosen:
        for draw in range(settings.draws_in(corruption.phase)):
            found += _under(trained, corruption, settings, draw)
    return found


def judged(trainer: Trainer) -> Judged:
    """What decides whether a corruption applies to the trainer's model and data set."""
    model, data = trainer.model, trainer.data
    uses_features, item_embeddings = bool(model.feature_tables()), bool(model.item_tables())
    return Judged(data.name, trainer.config.model_name, tuple(data.features), uses_features, item_embeddings)


def _under(trained: Trained, corruption: CorruptionConfig, settings: RobustnessConfig, draw: int) -> list[Measurement]:
    """The metrics and signal-to-noise ratios of one draw of one corruption."""
    trainer = trained.trainer
    generator = corruption_stream(trainer.config.seed, corruption.kind, draw)
    if corruption.kind == "item_embedding":
        ratios, metrics = _with_noisy_items(trained, corruption.severity, generator)
        return trained.priced(_rows(corruption, draw, metrics, ratios))
    clean = trainer.data.features
    noisy = corrupted(clean, corruption, settings, generator)
    ratios = signal_to_noise(clean, noisy)
    if corruption.phase == "train_test":
        data = trainer.data.with_features(noisy, rebuild_graphs=True)
        trained = train(trainer.config, data, trainer.device)
        return trained.priced(_rows(corruption, draw, trained.validation, ratios))
    moved = with_corrupted_features(trained, noisy, rebuild_graph=settings.rebuild_graph)
    return trained.priced(_rows(corruption, draw, judge(moved), ratios))


def corruption_stream(seed: int, kind: Kind, draw: int) -> np.random.Generator:
    """The generator of one draw of a corruption, at all of its levels."""
    return numpy_stream(seed, f"corruption/{kind}", draw)


def corrupted(
    features: Features, corruption: CorruptionConfig, settings: RobustnessConfig, generator: np.random.Generator
) -> Features:
    """The features under a corruption of features.

    Raises:
        DataError: a modality that it needs is missing.
    """
    severity = corruption.severity
    match corruption.kind:
        case "gaussian" | "raw_features":
            return gaussian(features, severity, generator)
        case "text_redundancy":
            return text_redundancy(features, severity, settings.text_share, generator)
        case "visual_redundancy":
            return visual_redundancy(features, severity, (settings.noise_columns, settings.zero_columns), generator)
        case "information_adjustment" if settings.adjustment == "ridge":
            return ridge_adjustment(features, severity, settings.ridge_penalty, generator)
        case "information_adjustment":
            return shuffle_adjustment(features, severity, generator)
    raise ValueError(f"a corruption of features must be asked for, but got {corruption.kind}")


def with_corrupted_features(trained: Trained, noisy: Features, *, rebuild_graph: bool) -> Trainer:
    """The best weights in a model that is built from corrupted features of the same widths.

    Features that are constants come with the data; to tables that are trained (BM3, FREEDOM) is added what the
    corruption added to the raw features. Neither model looks at its tables when it scores, so that these corruptions
    reach FREEDOM through its items' graph alone, and BM3 not at all.
    """
    clean = trained.trainer.data.features
    moved = at_best(trained, trained.trainer.data.with_features(noisy, rebuild_graphs=rebuild_graph))
    _move_tables(moved.model, clean, noisy)
    return moved


def _move_tables(model: Recommender, clean: Features, noisy: Features) -> None:
    weights = dict(model.named_parameters())
    for name, columns in model.feature_tables().items():
        for modality, place in columns.items() if name in weights else ():
            added = torch.from_numpy(noisy[modality] - clean[modality])
            with torch.no_grad():
                weights[name][:, place].add_(added.to(weights[name]))


def _with_noisy_items(
    trained: Trained, std: float, generator: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """(ratio, metrics) with noise on the embeddings of items, of the best weights."""
    moved = at_best(trained, trained.trainer.data)
    weights = dict(moved.model.named_parameters())
    pairs = []
    for name, rows in moved.model.item_tables().items():
        table = weights[name].detach()[rows]
        clean = table.cpu().numpy().copy()
        noisy = add_noise(clean, std, generator)
        table.copy_(torch.from_numpy(noisy))
        pairs.append((clean.ravel(), noisy.ravel()))
    clean, noisy = (np.concatenate(parts)[:, None] for parts in zip(*pairs, strict=True))
    ratio = signal_to_noise({"item_embedding": clean}, {"item_embedding": noisy})
    return ratio, judge(moved)


def _rows(
    corruption: CorruptionConfig, draw: int, metrics: Mapping[str, float], ratios: Mapping[str, float]
) -> list[Measurement]:
    """One measurement a metric and a ratio; the ratio to no noise at all, which is infinite, is left out."""
    named = [*metrics.items(), *((f"snr/{name}", ratio) for name, ratio in ratios.items())]
    return [
        Measurement(
            corruption.kind,
            name,
            value,
            phase=corruption.phase,
            level=corruption.level,
            severity=corruption.severity,
            draw=draw,
        )
        for name, value in named
        if not math.isinf(value)
    ]
