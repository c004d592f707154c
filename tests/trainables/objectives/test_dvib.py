"""DVIB: its identities, what each of its options does, and which of them have no meaning together."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainables.errors import ModelError
from trainables.layers.divergences import jensen_shannon, kullback_leibler, released_divergence, uniformity_penalty
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.objectives import OBJECTIVES
from trainables.objectives.base import Objective
from trainables.objectives.dvib import DVIB, DVIBAdaptive, DVIBConstant
from trainables.types import Batch, Losses

Build = Callable[..., Recommender]
Make = Callable[..., Objective]
Seeded = Callable[..., Any]
FORMS = ("dvib_c", "dvib_a")


def gradients(losses: Losses, model: Recommender) -> list[torch.Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(losses.total, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def test_without_noise_and_weights_it_is_the_plain_loss(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("lightgcn")
    dvib = objective_for("dvib_c", model, gamma_0=0.0, gamma_d=0.0, sigma=0.0)
    assert torch.equal(dvib(model, batch).total, objective_for("plain", model)(model, batch).total)


@pytest.mark.parametrize("name", ["lightgcn", "freedom", "mmgcn", "grcn", "slmrec", "dragon", "layergcn"])
def test_without_noise_and_distillation_it_is_twice_the_plain_loss(
    name: str, build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build(name)
    plain = objective_for("plain", model)(model, batch)
    for numbers in ({"sigma": 0.0, "gamma_d": 0.0}, {"noise": "dropout", "dropout": 0.0, "gamma_d": 0.0}):
        losses = objective_for("dvib_c", model, distill="none", **numbers)(model, batch)
        full = model.loss(model.extract(model.fuse()), batch).total
        assert torch.equal(losses.total, 2 * full)
        torch.testing.assert_close(losses.total, 2 * plain.total)


def test_noise_free_distillation_adds_nothing_to_that(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("lightgcn")
    plain = objective_for("plain", model)(model, batch)
    losses = objective_for("dvib_c", model, sigma=0.0, gamma_d=0.5)(model, batch)
    assert torch.equal(losses.parts["perturbed"], plain.total) and losses.parts["distillation"].item() == 0
    assert torch.equal(losses.total, 2 * plain.total)


@pytest.mark.parametrize(("name", "form"), [*((name, "dvib_c") for name in MODELS), ("vbpr", "dvib_a")])
def test_the_clean_pass_draws_what_plain_training_draws(
    name: str, form: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)
    plain = seeded(objective_for("plain", model), model, batch)
    losses = seeded(objective_for(form, model, noise="uniform"), model, batch)
    for part, value in plain.parts.items():
        torch.testing.assert_close(losses.parts[part], value, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("objective", ["dvib_c", "dvib_a", "entropy"])
def test_a_batch_leaves_to_its_model_what_the_clean_pass_left(
    objective: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("selfcf", variant="he")
    plain = seeded(objective_for("plain", model), model, batch).memory
    left = seeded(objective_for(objective, model), model, batch).memory
    assert plain and left.keys() == plain.keys()
    assert all(torch.equal(left[name], value) for name, value in plain.items())


@pytest.mark.parametrize("form", FORMS)
def test_every_loss_is_the_sum_that_the_formula_says(
    form: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    """Computed anew from the model's stages, for the sum and for the convex combination."""
    model = build("lightgcn")
    for combine, keep in (("sum", 1.0), ("convex", 0.7)):
        numbers = {"gamma_0": 0.4, "gamma_d": 0.3, "combine": combine, "distill_rows": 5}
        dvib = objective_for(form, model, **numbers)
        assert isinstance(dvib, DVIB)
        fused = model.fuse()
        scales, priors = dvib.noise(fused)
        hidden = model.extract(fused)
        draws = seeded(lambda: {name: torch.randn_like(h) for name, h in model.fuse().items()})
        noisy = model.extract({name: h + scales[name] * draws[name] for name, h in fused.items()})
        users = batch.users[:5].unique()
        clean, perturbed = model.loss(hidden, batch).total, model.loss(noisy, batch).total
        distance = jensen_shannon(model.score(hidden, users), model.score(noisy, users))
        expected = keep * clean + keep * 0.4 * perturbed + 0.3 * distance + sum(priors.values())
        torch.testing.assert_close(seeded(dvib, model, batch).total, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("distill", "measure"),
    [
        ("js", jensen_shannon),
        ("kl_delta_to_z", lambda z, delta: kullback_leibler(delta, z)),
        ("kl_z_to_delta", kullback_leibler),
        ("released", released_divergence),
        ("entropy", lambda z, delta: uniformity_penalty(z)),
    ],
)
def test_each_distillation_is_its_measure_of_the_two_passes(
    distill: str, measure: Callable[..., torch.Tensor], build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("lightgcn")
    dvib = objective_for("dvib_c", model, sigma=0.8, gamma_d=1.0, distill=distill)
    hidden = model.extract(model.fuse())
    draws = seeded(lambda: {name: torch.randn_like(h) for name, h in model.fuse().items()})
    noisy = model.extract({name: h + 0.8 * draws[name] for name, h in model.fuse().items()})
    users = batch.users.unique()
    expected = measure(model.score(hidden, users), model.score(noisy, users))
    assert expected.item() > 0
    torch.testing.assert_close(seeded(dvib, model, batch).parts["distillation"], expected, rtol=1e-9, atol=1e-12)


def test_no_distillation_leaves_the_term_out(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("lightgcn")
    assert "distillation" not in objective_for("dvib_c", model, distill="none")(model, batch).parts


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stop", ["teacher_delta", "teacher_clean"])
@pytest.mark.parametrize("distill", ["js", "kl_delta_to_z", "released"])
def test_a_teacher_gets_no_gradient(
    form: str, stop: str, distill: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    """The values agree, and the gradients of the two one-sided forms add up to that of the two-sided one."""
    model = build("lightgcn")

    def distillation(stopped: str) -> torch.Tensor:
        numbers = {"gamma_d": 1.0, "distill": distill, "stop_gradient": stopped}
        dvib = objective_for(form, model, **numbers, **({"sigma": 0.5} if form == "dvib_c" else {}))
        part: torch.Tensor = seeded(dvib, model, batch).parts["distillation"]
        return part

    parts = {key: distillation(key) for key in ("none", stop)}
    assert torch.equal(parts["none"], parts[stop])
    one_sided = {key: _gradient(distillation(key), model) for key in ("teacher_delta", "teacher_clean")}
    both = _gradient(distillation("none"), model)
    torch.testing.assert_close(one_sided["teacher_delta"] + one_sided["teacher_clean"], both)
    assert all(value.abs().max() > 1e-9 for value in one_sided.values())


def _gradient(value: torch.Tensor, model: Recommender) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(value, [model.get_parameter("item_embedding")])
    return gradient


def test_a_teacher_that_is_perturbed_says_nothing_of_the_noise_network(
    build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("vbpr")
    dvib = objective_for("dvib_a", model, stop_gradient="teacher_delta")
    weights = list(dvib.parameters())
    found = torch.autograd.grad(dvib(model, batch).parts["distillation"], weights, allow_unused=True)
    assert all(gradient is None for gradient in found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", ["gaussian", "uniform", "uniform01", "dropout"])
def test_every_kind_of_noise_changes_the_perturbed_pass_and_is_replayed(
    form: str, noise: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("vbpr")
    dvib = objective_for(
        form, model, noise=noise, **({"sigma": 0.5} if form == "dvib_c" and noise != "dropout" else {})
    )
    first, again, other = (seeded(dvib, model, batch, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.total, again.total)
    assert not torch.equal(first.parts["perturbed"], other.parts["perturbed"])
    assert torch.equal(first.parts["bpr"], other.parts["bpr"])
    assert first.parts["distillation"].item() > 0


def test_sigma_is_the_size_of_the_constant_noise(build: Build, objective_for: Make, batch: Batch) -> None:
    model = build("vbpr")
    for noise, sigma, expected in (("gaussian", 0.3, 0.3), ("uniform01", 0.2, 0.2), ("dropout", 5e-4, 1.0)):
        dvib = objective_for("dvib_c", model, noise=noise, sigma=sigma)
        assert isinstance(dvib, DVIBConstant) and dvib.noise(model.fuse()) == ({"joint": expected}, {})


def test_the_noise_level_is_the_networks_output_and_every_weight_learns(
    build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("mmgcn")
    dvib = objective_for("dvib_a", model)
    assert isinstance(dvib, DVIBAdaptive)
    scales, _ = dvib.noise(model.fuse())
    assert scales.keys() == {"image", "text"}
    for network, (name, h) in zip(dvib.networks, model.fuse().items(), strict=True):
        torch.testing.assert_close(scales[name], torch.sigmoid(network(h)))
    dvib(model, batch).total.backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in dvib.parameters())


@pytest.mark.parametrize("reg", ["kl_std", "eq13", "none"])
def test_the_prior_is_weighed_by_gamma_r_and_may_be_left_out(
    reg: str, build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build("vbpr")
    values = [objective_for("dvib_a", model, reg=reg, gamma_r=w)(model, batch).parts for w in (1.0, 0.25)]
    if reg == "none":
        assert all("noise_prior" not in parts for parts in values)
    else:
        torch.testing.assert_close(0.25 * values[0]["noise_prior"], values[1]["noise_prior"])


def test_alpha_and_beta_weigh_the_printed_prior(build: Build, objective_for: Make) -> None:
    model = build("vbpr")

    def prior(alpha_0: float, beta_0: float) -> float:
        dvib = objective_for("dvib_a", model, reg="eq13", gamma_r=1.0, alpha_0=alpha_0, beta_0=beta_0)
        assert isinstance(dvib, DVIBAdaptive)
        return dvib.noise(model.fuse())[1]["noise_prior"].item()

    assert prior(2.0, 3.0) == pytest.approx(2 * prior(1.0, 0.0) + 3 * prior(0.0, 1.0))
    assert prior(1.0, 0.0) > 0 and prior(0.0, 1.0) > 0


@pytest.mark.parametrize("rows", [0, 4, 512])
def test_distill_rows_says_which_users_are_compared(
    rows: int, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("lightgcn")
    seen = []
    score = type(model).score

    class Watched(type(model)):  # type: ignore[misc]
        def score(self, hidden: Any, users: torch.Tensor) -> torch.Tensor:
            seen.append(users)
            return score(self, hidden, users)

    model.__class__ = Watched
    objective_for("dvib_c", model, distill_rows=rows)(model, batch)
    expected = batch.users if rows == 0 else batch.users[:rows].unique()
    assert len(seen) == 2 and all(torch.equal(users, expected) for users in seen)


@pytest.mark.parametrize("distill", ["js", "entropy"])
def test_distributions_may_be_over_the_batchs_items_only(
    distill: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build("lightgcn")
    dvib = objective_for("dvib_c", model, sigma=0.5, gamma_d=1.0, distill=distill, distill_items="batch")
    fused = model.fuse()
    draws = seeded(lambda: {name: torch.randn_like(h) for name, h in fused.items()})
    noisy = model.extract({name: h + 0.5 * draws[name] for name, h in fused.items()})
    items = sorted({*batch.positives.tolist(), *batch.negatives.flatten().tolist()})
    assert len(items) < 11  # fewer than all
    clean, perturbed = (model.score(h, batch.users.unique())[:, items] for h in (model.extract(fused), noisy))
    expected = jensen_shannon(clean, perturbed) if distill == "js" else uniformity_penalty(clean)
    torch.testing.assert_close(seeded(dvib, model, batch).parts["distillation"], expected)


@pytest.mark.parametrize("name", ["bm3", "freedom"])
@pytest.mark.parametrize("objective", ["dvib_c", "dvib_a", "entropy"])
def test_the_batchs_items_mean_nothing_to_a_model_that_compares_features(
    name: str, objective: str, build: Build, objective_for: Make, batch: Batch
) -> None:
    model = build(name)
    built = objective_for(objective, model, distill_items="batch")
    for refused in (lambda: built.check(model), lambda: built(model, batch)):
        with pytest.raises(ModelError, match=f"distill_items must be 'all' for model {type(model).__name__}"):
            refused()
    objective_for(objective, model).check(model)


@pytest.mark.parametrize("name", ["ngcf", "bm3", "lgmrec"])
@pytest.mark.parametrize("form", FORMS)
def test_scores_do_not_depend_on_the_objective_or_its_draws(
    name: str, form: str, build: Build, objective_for: Make, batch: Batch, seeded: Seeded
) -> None:
    model = build(name)

    def scores(seed: int) -> torch.Tensor:
        with torch.no_grad():
            model.eval()
            found: torch.Tensor = seeded(lambda: model.score(model.extract(model.fuse()), batch.users), seed=seed)
        return found

    before = scores(1)
    model.train()
    seeded(objective_for(form, model), model, batch)
    assert torch.equal(before, scores(2))


REFUSED = [
    *(
        (form, {"distill": distill, "stop_gradient": stop}, f"stop_gradient must be none where distill is {distill}")
        for form in FORMS
        for distill in ("none", "entropy")
        for stop in ("teacher_delta", "teacher_clean")
    ),
    ("dvib_c", {"distill": "none", "combine": "convex"}, "combine must be sum where distill is none"),
    ("dvib_c", {"noise": "dropout", "sigma": 0.1}, "sigma must be left at 0.0005 where noise is dropout"),
    ("dvib_a", {"alpha_0": 2.0}, "alpha_0 must be left at 1.0 where reg is kl_std"),
    ("dvib_a", {"beta_0": 0.5, "reg": "none"}, "beta_0 must be left at 1.0 where reg is none"),
]


@pytest.mark.parametrize(("form", "numbers", "sentence"), REFUSED)
def test_options_without_meaning_together_are_refused(form: str, numbers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        OBJECTIVES[form].Config(**numbers)


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("dvib_c", {"dropout": 0.4}),
        ("dvib_c", {"distill": "entropy", "combine": "convex"}),
        ("dvib_c", {"noise": "dropout", "dropout": 0.4, "distill": "none"}),
        ("dvib_a", {"reg": "eq13", "alpha_0": 0.0, "beta_0": 2.0}),
        ("dvib_a", {"distill": "released", "stop_gradient": "teacher_clean", "noise": "dropout"}),
    ],
)
def test_others_are_not(form: str, numbers: dict[str, Any]) -> None:
    OBJECTIVES[form].Config(**numbers)
