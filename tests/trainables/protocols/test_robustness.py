"""The robustness protocol, held to trainings, corruptions and metrics computed by hand."""

import math

import numpy as np
import pytest
import torch

from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.evaluation.metrics import METRIC_NAMES
from trainables.models import MODELS
from trainables.protocols import RobustnessConfig, robustness
from trainables.protocols.robustness_protocol import _under, corruption_stream, judged, with_corrupted_features
from trainables.protocols.selection import applicable
from trainables.protocols.training import at_best, judge, train
from trainables.trainer import Trainer

ZERO = {"gaussian_stds": [0.0], "noise_levels": [0.0], "text_ratios": [0.0], "adjusted_shares": [0.0]}


def scores(found, **chosen):
    """Ranking metrics by name of the measurements with these fields."""
    rows = [m for m in found if all(getattr(m, key) == value for key, value in chosen.items())]
    ranked = {m.metric: m.value for m in rows if m.metric in METRIC_NAMES}
    assert len(ranked) == len([m for m in rows if m.metric in METRIC_NAMES])
    return ranked


def untimed(found):
    return [(m.subject, m.metric, m.phase, m.level, m.draw, m.value, m.gradient_evaluations) for m in found]


def best_of(config, data):
    """A training of its own, until it is done: the trainer and the metrics of its best epoch."""
    trainer = Trainer(config, data)
    reports = []
    while not reports or not reports[-1].done:
        reports.append(trainer.run_epoch())
    return trainer, reports[trainer.progress.best_epoch - 1].validation


def recall_by_hand(matrix, data, k):
    """Mean recall@k over the users of the validation split: scores [U, I], training items left out."""
    values = []
    for user in np.unique(data.valid.users):
        ranked = matrix[user].copy()
        ranked[data.train.items[data.train.users == user]] = -np.inf
        wanted = set(data.valid.items[data.valid.users == user].tolist())
        values.append(len(wanted & set(np.argsort(-ranked)[:k].tolist())) / len(wanted))
    return float(np.mean(values))


def vbpr_by_hand(weights, features):
    """Scores of VBPR for all users and items."""
    content = np.hstack(list(features.values())) @ weights["projection.weight"].T + weights["projection.bias"]
    return weights["user_embedding"] @ np.hstack([weights["item_embedding"], content]).T


@pytest.fixture
def wide(make_toy) -> DataBundle:
    """More users and items than `toy`, so that noise can change ranks."""
    return make_toy(num_users=40, num_items=60)


def test_noise_on_features_of_vbpr_by_hand(wide, configure):
    config = configure(train__batch_size=64)
    settings = RobustnessConfig(corruptions=["raw_features"], noise_levels=[0.01, 4.0], draws=2)
    found = robustness(config, wide, settings)
    trainer, clean = best_of(config, wide)
    weights = {name: value.numpy().astype(np.float64) for name, value in trainer.best_weights.items()}
    assert scores(found, subject="clean") == clean
    assert recall_by_hand(vbpr_by_hand(weights, wide.features), wide, 5) == pytest.approx(clean["recall@5"])
    for level, std in (("L1", 0.1), ("L2", 2.0)):
        for draw in range(2):
            rng = corruption_stream(7, "raw_features", draw)
            noise = {n: std * rng.standard_normal(f.shape, dtype=np.float32) for n, f in wide.features.items()}
            noisy = {name: array + noise[name] for name, array in wide.features.items()}
            measured = scores(found, level=level, draw=draw)
            by_hand = vbpr_by_hand(weights, noisy)
            for k in (5, 10, 20):
                assert measured[f"recall@{k}"] == pytest.approx(recall_by_hand(by_hand, wide, k), abs=1e-9)
            ratios = {m.metric: m.value for m in found if m.level == level and m.draw == draw and "snr" in m.metric}
            assert ratios == {
                f"snr/{n}": pytest.approx(np.linalg.norm(f) / np.linalg.norm(noise[n]), rel=1e-4)
                for n, f in wide.features.items()
            }
    assert scores(found, level="L2", draw=0) != clean


def test_noise_on_item_embeddings_of_vbpr_by_hand(wide, configure):
    config = configure(train__batch_size=64)
    settings = RobustnessConfig(corruptions=["item_embedding"], noise_levels=[1.0], as_std=True, draws=2)
    found = robustness(config, wide, settings)
    weights = {name: value.numpy().astype(np.float64) for name, value in best_of(config, wide)[0].best_weights.items()}
    clean = weights["item_embedding"].copy()
    for draw in range(2):
        noise = corruption_stream(7, "item_embedding", draw).standard_normal(clean.shape, dtype=np.float32)
        weights["item_embedding"] = clean + noise
        measured = scores(found, subject="item_embedding", level="L1", draw=draw, phase="test")
        expected = recall_by_hand(vbpr_by_hand(weights, wide.features), wide, 10)
        assert measured["recall@10"] == pytest.approx(expected, abs=1e-9)
        (ratio,) = (m.value for m in found if m.metric == "snr/item_embedding" and m.draw == draw)
        assert ratio == pytest.approx(np.linalg.norm(clean) / np.linalg.norm(noise), rel=1e-4)


def test_phase_train_test_is_a_training_on_the_corrupted_bundle(wide, configure):
    config = configure("freedom", train__batch_size=64)
    settings = RobustnessConfig(corruptions=["gaussian"], gaussian_stds=[1.5], train_draws=2)
    found = robustness(config, wide, settings)
    for draw in range(2):
        rng = corruption_stream(7, "gaussian", draw)
        noisy = {n: f + 1.5 * rng.standard_normal(f.shape, dtype=np.float32) for n, f in wide.features.items()}
        trainer, expected = best_of(config, wide.with_features(noisy, rebuild_graphs=True))
        rows = [m for m in found if m.phase == "train_test" and m.draw == draw]
        assert scores(rows) == expected and {m.level for m in rows} == {"1.5"}
        assert {m.gradient_evaluations for m in rows} == {trainer.progress.gradient_evaluations}
    assert scores(found, draw=0, phase="train_test") != scores(found, draw=1)


def test_visual_redundancy_trains_on_wider_images(toy, configure):
    found = robustness(configure(), toy, RobustnessConfig(corruptions=["visual_redundancy"]))
    rng = corruption_stream(7, "visual_redundancy", 0)
    drawn = np.abs(1 + 3 * rng.standard_normal((11, 512))).astype(np.float32)
    image = np.hstack([toy.features["image"], drawn, np.zeros((11, 512), np.float32)])
    wider = toy.with_features({"image": image, "text": toy.features["text"]}, rebuild_graphs=True)
    assert scores(found, phase="train_test") == best_of(configure(), wider)[1]
    (ratio,) = (m.value for m in found if m.metric == "snr/image")
    assert ratio == pytest.approx(np.linalg.norm(toy.features["image"]) / np.linalg.norm(drawn), rel=1e-5)
    assert not [m for m in found if m.metric == "snr/text"]  # nothing happened to it


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rebuild", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_severity_0_is_clean_bit_for_bit(name, rebuild, toy, configure):
    found = robustness(
        configure(name), toy, RobustnessConfig(phases=["test"], draws=1, rebuild_graph=rebuild, train_draws=1, **ZERO)
    )
    clean = scores(found, subject="clean")
    subjects = {m.subject for m in found} - {"clean"}
    expected = {"gaussian", "raw_features", "text_redundancy", "information_adjustment"}
    assert subjects == (expected if MODELS[name].uses_features else set()) | (
        set() if name in ("dualgnn", "dragon") else {"item_embedding"}
    )
    for subject in subjects:
        assert scores(found, subject=subject) == clean
    assert not [m for m in found if m.metric.startswith("snr/")]


def test_a_training_on_data_corrupted_with_severity_0_is_the_clean_one_bit_for_bit(toy, configure):
    settings = RobustnessConfig(
        corruptions=["gaussian", "text_redundancy", "information_adjustment"], phases=["train_test"], **ZERO
    )
    found = robustness(configure(), toy, settings)
    assert len({m.subject for m in found}) == 4
    assert all(
        scores(found, subject=subject) == scores(found, subject="clean") for subject in {m.subject for m in found}
    )


@pytest.mark.parametrize("name", ["vbpr", "bm3", "freedom", "mmgcn", "selfcf"])
def test_judging_changes_nothing_of_the_training(name, toy, configure):
    trained = train(configure(name), toy)
    tensors, numbers = trained.trainer.state()
    kept = {part: {key: value.clone() for key, value in tensors[part].items()} for part in ("model", "best_weights")}
    buffers = {
        key: value.clone() for key, value in trained.trainer.model.named_buffers() if value.layout == torch.strided
    }
    state = torch.get_rng_state()
    before = trained.trainer.evaluate_best(toy.valid)
    settings = RobustnessConfig(phases=["test"], gaussian_stds=[3.0], noise_levels=[9.0], draws=1)
    for corruption in applicable(settings, judged(trained.trainer)):
        assert _under(trained, corruption, settings, 0)
    for part, values in kept.items():
        assert all(torch.equal(value, trained.trainer.state()[0][part][key]) for key, value in values.items())
    assert all(torch.equal(value, trained.trainer.model.get_buffer(key)) for key, value in buffers.items())
    assert trained.trainer.evaluate_best(toy.valid) == before
    assert torch.equal(state, torch.get_rng_state()) and numbers == trained.trainer.progress.as_dict()


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.uses_features])
def test_the_judged_model_sees_the_trained_weights_and_exactly_the_added_noise(name, toy, configure):
    trained = train(configure(name), toy)
    noisy = {
        modality: array + 1 + np.arange(len(array), dtype=np.float32)[:, None]
        for modality, array in toy.features.items()
    }
    moved = with_corrupted_features(trained, noisy, rebuild_graph=False)
    tensors = dict(moved.model.named_parameters()) | dict(moved.model.named_buffers())
    places = moved.model.feature_tables()
    for tensor, columns in places.items():
        for modality, place in columns.items():
            source = trained.trainer.best_weights.get(tensor)
            added = noisy[modality] - toy.features[modality]
            expected = noisy[modality] if source is None else source[:, place].numpy() + added
            np.testing.assert_array_equal(tensors[tensor][:, place].detach().numpy(), expected)
    for tensor, value in moved.model.state_dict().items():
        assert tensor in places or torch.equal(value, trained.trainer.best_weights[tensor])


def test_item_graphs_follow_the_features_only_where_asked_for(wide, configure):
    # FREEDOM's scores see features through the graph alone.
    settings = {"corruptions": ["raw_features"], "noise_levels": [25.0], "draws": 1}
    kept = robustness(configure("freedom", train__batch_size=64), wide, RobustnessConfig(**settings))
    rebuilt = robustness(
        configure("freedom", train__batch_size=64), wide, RobustnessConfig(**settings, rebuild_graph=True)
    )
    assert scores(kept, subject="raw_features") == scores(kept, subject="clean") == scores(rebuilt, subject="clean")
    assert scores(rebuilt, subject="raw_features") != scores(rebuilt, subject="clean")


def test_the_protocol_is_a_function_of_its_arguments_and_draws_differ(wide, configure):
    numbers = {"noise_levels": [0.5], "as_std": True, "adjusted_shares": [0.5], "gaussian_stds": [1.0], "draws": 3}
    kinds = ["gaussian", "item_embedding", "raw_features", "information_adjustment"]
    settings = RobustnessConfig(corruptions=kinds, **numbers)
    first, again = (untimed(robustness(configure(train__batch_size=64), wide, settings)) for _ in range(2))
    other = robustness(configure(seed=8, train__batch_size=64), wide, settings)
    assert first == again and untimed(other) != first
    for subject in ("item_embedding", "raw_features", "information_adjustment"):
        ratios = [row[5] for row in first if row[0] == subject and row[1].startswith("snr/")]
        assert len(ratios) % 3 == 0 and len(set(ratios)) == len(ratios)


def test_strategies_of_one_seed_meet_the_same_noise_and_another_seed_other_noise(wide, configure):
    settings = RobustnessConfig(corruptions=["raw_features", "information_adjustment"], draws=2)
    runs = [
        configure(train__batch_size=64),
        configure(update__name="sam", train__batch_size=64),
        configure("mmgcn", train__batch_size=64),
        configure(seed=8, train__batch_size=64),
    ]
    noise = [
        [(m.subject, m.level, m.draw, m.value) for m in robustness(config, wide, settings) if "snr/" in m.metric]
        for config in runs
    ]
    assert noise[0] == noise[1] == noise[2] != noise[3]


def test_every_metric_is_measured_on_validation_with_its_place_and_cost(toy, configure):
    config = configure(update__name="sam", train__max_epochs=2, train__patience=9)
    found = robustness(config, toy, RobustnessConfig(draws=2))
    groups = {(m.subject, m.phase, m.level, m.severity, m.draw) for m in found}
    assert len(groups) == 1 + 2 + 2 * 3 + 2 * 3 + 1 + 1 + 2 * 3
    for group in groups:
        rows = [m for m in found if (m.subject, m.phase, m.level, m.severity, m.draw) == group]
        assert {m.metric for m in rows if not m.metric.startswith("snr/")} == set(METRIC_NAMES)
    assert {m.split for m in found} == {"valid"} and {m.gradient_evaluations for m in found} == {2 * 2 * 3}
    assert all(m.train_seconds > 0 for m in found)
    places = {(m.point, m.x, m.y) for m in found}
    assert places == {(0, None, None)} and ("clean", "", "", None, 0) in groups


def test_a_clean_training_that_diverges_has_metrics_of_nan_alone(toy, configure):
    config = configure(optimizer__name="sgd", optimizer__learning_rate=1e30)
    found = robustness(config, toy, RobustnessConfig())
    assert {m.subject for m in found} == {"clean"} and {m.metric for m in found} == set(METRIC_NAMES)
    assert all(math.isnan(m.value) and m.gradient_evaluations > 0 for m in found)


def test_a_training_that_diverges_under_a_corruption_is_nan_and_the_rest_is_measured(toy, configure):
    settings = RobustnessConfig(corruptions=["gaussian", "raw_features"], gaussian_stds=[1e38], draws=1)
    found = robustness(configure(), toy, settings)
    noisy = scores(found, subject="gaussian")
    assert set(noisy) == set(METRIC_NAMES) and all(map(math.isnan, noisy.values()))
    assert all(math.isfinite(m.value) for m in found if m.subject != "gaussian")


def test_a_representation_that_is_not_finite_has_metrics_of_nan(toy, configure):
    trained = train(configure(), toy)
    moved = at_best(trained, toy)
    assert judge(moved) == trained.validation
    with torch.no_grad():
        moved.model.get_parameter("item_embedding")[0, 0] = torch.inf
    assert set(judge(moved)) == set(METRIC_NAMES) and all(map(math.isnan, judge(moved).values()))


@pytest.mark.slow
def test_real_data_go_through_every_corruption_that_applies(shared, configure):
    data = load(DataConfig(name="lfm2k", root=str(shared / "data"), modalities=("text", "audio")))
    config = configure(train__batch_size=2048, model__embedding_size=16, optimizer__learning_rate=0.005)
    found = robustness(config, data, RobustnessConfig(draws=2))
    assert {m.subject for m in found} == {
        *("clean", "gaussian", "item_embedding", "raw_features", "text_redundancy", "information_adjustment")
    }
    assert all(math.isfinite(m.value) for m in found)
    # Unit-norm text and audio of other scale: the same level is another severity.
    ratios = {m.metric: m.value for m in found if m.subject == "raw_features" and m.level == "L3" and m.draw == 0}
    assert ratios["snr/text"] != pytest.approx(ratios["snr/audio"], rel=0.1)
