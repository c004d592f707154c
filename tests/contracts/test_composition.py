"""Every model with every objective and every update: trains, counts its cost, resumes to the same bits."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import checkpoints
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import ModelError
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.trainer import Trainer
from trainables.updates import UPDATES


def fits(model: str, objective: str) -> bool:
    """Whether the objective has what it needs: AMR perturbs modality features."""
    return objective != "amr" or MODELS[model].uses_features


def combinations() -> list[Any]:
    """Combinations in which every two entries of two registries meet wherever they can.

    Of the whole product, those where the three places add up to a multiple of the number of objectives: each pair of
    model and update meets one objective, and as the updates go round so do the objectives of a model. A ninth of them,
    in which every entry still occurs, makes the fast suite.
    """
    found = []
    for (m, model), (u, update), (o, objective) in itertools.product(
        enumerate(MODELS), enumerate(UPDATES), enumerate(OBJECTIVES)
    ):
        if (m + u + o) % len(OBJECTIVES) == 0 and fits(model, objective):
            marks = [] if (m + 2 * u) % 9 == 0 else [pytest.mark.slow]
            found.append(pytest.param(model, objective, update, marks=marks))
    return found


COMBINATIONS = combinations()
BATCHES = 3


def flat_configuration(model: str, objective: str, update: str) -> dict[str, Any]:
    flat = {
        "model.name": model,
        "model.embedding_size": 4,
        "objective.name": objective,
        "update.name": update,
        "train.batch_size": 13,
        "train.max_epochs": 5,
        "seed": 7,
    }
    if model == "freedom":
        flat["model.knn_k"] = 3
    return flat


def configuration(model: str, objective: str, update: str, **more: Any) -> TrialConfig:
    return TrialConfig.from_flat(flat_configuration(model, objective, update) | more)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in (*trainer.model.state_dict().values(), *trainer.objective.state_dict().values())]


@pytest.mark.parametrize(("model", "objective", "update"), COMBINATIONS)
def test_two_epochs_cost_what_the_update_says(model: str, objective: str, update: str, toy: DataBundle) -> None:
    trainer = Trainer(configuration(model, objective, update), toy)
    reports = [trainer.run_epoch() for _ in range(2)]
    assert trainer.batches_per_epoch == BATCHES
    each = trainer.objective.gradient_evaluations(1) + trainer.objective.gradient_evaluations(2)
    assert trainer.progress.gradient_evaluations == each * trainer.update.gradient_evaluations(BATCHES)
    assert trainer.progress.samples == 2 * trainer.update.passes * len(toy.train)
    parts = [value for name, value in reports[0].losses.items() if name.startswith("loss/")]
    assert reports[0].losses["loss"] == pytest.approx(sum(parts), rel=1e-5, abs=1e-6)


def test_every_two_entries_meet_wherever_they_can() -> None:
    seen = [tuple(case.values) for case in COMBINATIONS]
    for model, objective in itertools.product(MODELS, OBJECTIVES):
        assert any(case[:2] == (model, objective) for case in seen) is fits(model, objective)
    assert {case[1:] for case in seen} == set(itertools.product(OBJECTIVES, UPDATES))
    reached = {(case[0], case[2]) for case in seen}
    missing = [pair for pair in itertools.product(MODELS, UPDATES) if pair not in reached]
    assert all(not MODELS[model].uses_features for model, _ in missing) and len(missing) <= 4 * len(UPDATES) // 5
    fast = [case.values for case in COMBINATIONS if not case.marks]
    assert [{*entries} for entries in zip(*fast, strict=True)] == [{*MODELS}, {*OBJECTIVES}, {*UPDATES}]


@pytest.mark.parametrize(("model", "objective", "update"), COMBINATIONS)
def test_a_resumed_trial_is_bit_identical(
    model: str, objective: str, update: str, toy: DataBundle, tmp_path: Path
) -> None:
    check_resume(configuration(model, objective, update), toy, tmp_path)


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        ("selfcf", {"model.variant": "he"}),
        ("selfcf", {"model.variant": "ep"}),
        ("ngcf", {"model.node_dropout": 0.3}),
        ("freedom", {"model.dropout": 0.5}),
        ("layergcn", {"model.dropout": 0.5}),
    ],
)
def test_so_is_one_whose_model_has_a_memory_or_redraws_its_graph(
    model: str, numbers: dict[str, Any], toy: DataBundle, tmp_path: Path
) -> None:
    check_resume(configuration(model, "plain", "sam", **numbers), toy, tmp_path)


def check_resume(config: TrialConfig, toy: DataBundle, folder: Path) -> None:
    """A trial restored after its first epoch goes on to the same bits."""
    straight = Trainer(config, toy)
    reports = [straight.run_epoch() for _ in range(2)]
    first = Trainer(config, toy)
    first.run_epoch()
    checkpoints.save(folder / "trial", *first.state())
    second = Trainer(config, toy)
    second.restore(*checkpoints.load(folder / "trial", torch.device("cpu")))
    resumed = [second.run_epoch()]
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(second), strict=True))
    for report, expected in zip(resumed, reports[1:], strict=True):
        assert (report.losses, report.validation, report.done) == (expected.losses, expected.validation, expected.done)
    counters = ("gradient_evaluations", "optimizer_steps", "samples", "best_score", "best_epoch", "misses")
    assert all(getattr(second.progress, name) == getattr(straight.progress, name) for name in counters)
    best = zip(straight.best_weights.values(), second.best_weights.values(), strict=True)
    assert all(torch.equal(a, b) for a, b in best)


@pytest.mark.parametrize("model", MODELS)
def test_a_radius_of_zero_trains_every_model_as_descent_does(model: str, toy: DataBundle) -> None:
    """Dropout, pruned graphs and histories included: the second pass neither draws nor remembers anything else."""
    results = []
    for numbers in ({}, {"update.name": "sam", "update.rho": 0.0}, {"update.name": "bsam", "update.rho": 0.0}):
        more = {"model.variant": "he"} if model == "selfcf" else {}
        trainer = Trainer(TrialConfig.from_flat(flat_configuration(model, "plain", "descent") | more | numbers), toy)
        for _ in range(2):
            trainer.run_epoch()
        results.append(weights(trainer))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_an_evaluation_changes_nothing(model: str, toy: DataBundle) -> None:
    trainer = Trainer(configuration(model, "plain", "descent"), toy)
    trainer.run_epoch()
    before, random_state = weights(trainer), torch.get_rng_state()
    first, second = trainer.evaluate(trainer.evaluator), trainer.evaluate(trainer.evaluator)
    assert first == second
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "plain"])
def test_inference_is_that_of_the_plain_model(model: str, objective: str, toy: DataBundle) -> None:
    if not fits(model, objective):
        with pytest.raises(ModelError):
            Trainer(configuration(model, objective, "descent"), toy)
        return
    trained = Trainer(configuration(model, objective, "descent"), toy)
    trained.run_epoch()
    plain = Trainer(configuration(model, "plain", "descent"), toy)
    plain.model.load_state_dict(trained.model.state_dict())
    assert plain.evaluate(plain.evaluator) == trained.evaluate(trained.evaluator)


@pytest.mark.parametrize("model", MODELS)
def test_training_leaves_the_global_random_state_alone(model: str, toy: DataBundle) -> None:
    state = torch.get_rng_state()
    Trainer(configuration(model, "dvib_c", "sam"), toy).run_epoch()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("model", MODELS)
def test_the_regularisation_weight_counts(model: str, toy: DataBundle) -> None:
    losses = [
        Trainer(configuration(model, "plain", "descent", **{"model.reg_weight": weight}), toy)
        .run_epoch()
        .losses["loss"]
        for weight in (0.01, 0.5)
    ]
    assert losses[0] != losses[1]
