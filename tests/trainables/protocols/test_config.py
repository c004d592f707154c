"""Settings of the protocols: the papers' defaults, what is refused, and what follows from them alone."""

import pytest
from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.protocols import config as protocol_config
from trainables.protocols.config import (
    CorruptionConfig,
    GeneralisationConfig,
    LandscapeConfig,
    RobustnessConfig,
    variants,
)

FLAT = {"seed": 3, "model.name": "vbpr", "model.reg_weight": 0.01, "data.name": "toy", "update.name": "sam"}


def rows(settings):
    return [(c.kind, c.phase, c.level, c.severity) for c in settings.listed()]


def test_the_papers_corruptions_levels_and_phases_are_the_defaults():
    assert rows(RobustnessConfig()) == [
        ("gaussian", "train_test", "0.01", 0.01),
        ("gaussian", "train_test", "0.05", 0.05),
        ("item_embedding", "test", "L1", pytest.approx(1e-3)),
        ("item_embedding", "test", "L2", pytest.approx(3.1623e-3, rel=1e-4)),
        ("item_embedding", "test", "L3", pytest.approx(1e-2)),
        ("raw_features", "test", "L1", pytest.approx(1e-3)),
        ("raw_features", "test", "L2", pytest.approx(3.1623e-3, rel=1e-4)),
        ("raw_features", "test", "L3", pytest.approx(1e-2)),
        ("text_redundancy", "train_test", "0.1", 0.1),
        ("visual_redundancy", "train_test", "3", 3.0),
        ("information_adjustment", "test", "1%", 0.01),
        ("information_adjustment", "test", "3%", 0.03),
        ("information_adjustment", "test", "5%", 0.05),
    ]


def test_levels_are_standard_deviations_where_asked_for():
    settings = RobustnessConfig(corruptions=["raw_features"], as_std=True)
    assert [c.severity for c in settings.listed()] == [1e-6, 1e-5, 1e-4]


def test_phases_apply_to_every_corruption():
    settings = RobustnessConfig(corruptions=["gaussian"], phases=["test", "train_test"], gaussian_stds=[0.2])
    assert rows(settings) == [("gaussian", "test", "0.2", 0.2), ("gaussian", "train_test", "0.2", 0.2)]
    assert (settings.draws_in("test"), settings.draws_in("train_test")) == (5, 1)


def test_trainings_are_the_clean_one_and_those_on_corrupted_data():
    settings = RobustnessConfig(train_draws=3)
    assert settings.trainings(settings.listed()) == 1 + 3 * (2 + 1 + 1)
    assert settings.trainings([]) == 1
    only = RobustnessConfig(corruptions=("item_embedding",))
    assert only.trainings(only.listed()) == 1


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (RobustnessConfig, {"corruptions": ["gausian"]}, "'gaussian'"),
        (RobustnessConfig, {"corruptions": ["gaussian", "gaussian"]}, "must name nothing twice, but got"),
        (RobustnessConfig, {"corruptions": []}, "at least 1 item"),
        (RobustnessConfig, {"phases": ["train"]}, "'train_test'"),
        (RobustnessConfig, {"draws": 0}, "greater than or equal to 1"),
        (RobustnessConfig, {"adjusted_shares": [1.0]}, "less than 1"),
        (RobustnessConfig, {"noise_levels": [-1e-6]}, "greater than or equal to 0"),
        (RobustnessConfig, {"gaussian_stds": [float("nan")]}, "finite number"),
        (RobustnessConfig, {"gaussian_stds": ["0.1"]}, "valid number"),
        (RobustnessConfig, {"rebuild_graph": 1}, "valid boolean"),
        (GeneralisationConfig, {"seeds": [1, 1]}, "must name nothing twice"),
        (GeneralisationConfig, {"vary": "seed"}, "'split' or 'init'"),
        (LandscapeConfig, {"points": 1}, "greater than or equal to 2"),
        (LandscapeConfig, {"dimensions": 3}, "1 or 2"),
        (LandscapeConfig, {"modes": ["hessian"]}, "'paper'"),
        (LandscapeConfig, {"ascent_rhos": [0.0]}, "greater than 0"),
        (LandscapeConfig, {"radius": 1}, "Extra inputs"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, values, message):
    with pytest.raises(ValidationError, match=message):
        settings(**values)


@pytest.mark.parametrize("settings", [RobustnessConfig(), GeneralisationConfig(), LandscapeConfig()])
def test_settings_are_frozen_and_survive_json(settings):
    with pytest.raises(ValidationError, match="frozen"):
        settings.draws = 3
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    assert type(settings)(**settings.model_dump(mode="json")) == settings


def test_every_kind_has_a_phase_of_its_own():
    assert CorruptionConfig.model_fields["kind"].annotation == protocol_config.Kind
    assert set(protocol_config.PAPER_PHASES) == set(protocol_config.Kind.__args__)


def test_variants_change_seed_and_split_together_or_one_of_the_two_and_nothing_else():
    changed = {
        vary: variants(FLAT, GeneralisationConfig(vary=vary, seeds=[996, 7])) for vary in ("both", "split", "init")
    }
    split = [{"data.split": "random", "data.split_seed": seed} for seed in (996, 7)]
    assert changed["both"] == [
        (FLAT | split[0] | {"seed": 996}, 996, 996),
        (FLAT | split[1] | {"seed": 7}, 7, 7),
    ]
    assert changed["split"] == [(FLAT | split[0], 3, 996), (FLAT | split[1], 3, 7)]
    assert changed["init"] == [(FLAT | {"seed": 996}, 996, None), (FLAT | {"seed": 7}, 7, None)]
    assert FLAT["seed"] == 3 and "data.split" not in FLAT


def test_a_drawn_split_that_is_kept_keeps_its_seed():
    flat = FLAT | {"data.split": "random"}
    settings = GeneralisationConfig(vary="init", seeds=[5])
    assert [v.split_seed for v in variants(flat, settings)] == [999]
    assert [v.split_seed for v in variants(flat | {"data.split_seed": 4}, settings)] == [4]
    assert [v.split_seed for v in variants(flat | {"data.split": "global_time"}, settings)] == [None]
    assert [v.seed for v in variants({}, GeneralisationConfig(vary="split", seeds=[5]))] == [999]


def test_the_papers_seeds_are_the_default_and_every_variant_is_a_configuration():
    found = variants(FLAT, GeneralisationConfig())
    assert [v.seed for v in found] == list(range(996, 1006))
    for variant in found:
        config = TrialConfig.from_flat(variant.flat)
        assert (config.seed, config.data.split, config.data.split_seed) == (variant.seed, "random", variant.seed)


def test_forward_passes_are_the_points_of_all_grids():
    assert LandscapeConfig().forward_passes() == 441
    assert LandscapeConfig(modes=["filter_norm", "paper"], dimensions=1).forward_passes() == 41
