"""Trajectories of official implementations, in float64, to 1e-10."""

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from trainables.types import Moment
from trainables.updates.asam import ASAM
from trainables.updates.base import Update
from trainables.updates.friendly_sam import FriendlySAM
from trainables.updates.mirror_gradient import MirrorGradient
from trainables.updates.sam import SAM

TOLERANCE = 1e-10
PROBLEMS = ("mlp", "quadratic")
BASES = ("sgd", "sgdm_wd", "adam", "adam_wd")

ASCENT_NUMBERS = {
    "davda_sam": ("rho0.05", "rho0.5"),
    "samsung_sam": ("rho0.05",),
    "davda_asam": ("rho0.5",),
    "samsung_asam": ("rho0.5_eta0.0", "rho0.5_eta0.01"),
    "nblt_fsam": ("rho0.05_sigma1.0_lmbda0.9", "rho0.2_sigma0.5_lmbda0.6", "rho0.2_sigma1.0_lmbda0.6"),
}
ASCENT_CASES = [
    f"{family}/{problem}__{base}__{numbers}"
    for family, known in ASCENT_NUMBERS.items()
    for problem, base, numbers in product(PROBLEMS, BASES, known)
]
MIRROR_CASES = [
    f"mirror_gradient/{problem}__{base}__{numbers}"
    for problem in PROBLEMS
    for base in ("sgd", "adam")
    for numbers in ("a1_0.5_a2_0.2_b2", "a1_1.0_a2_0.1_b3", "a1_1.0_a2_0.3_b3", "a1_1.0_a2_0.5_b1")
]


def member(meta: dict[str, Any]) -> Update:
    """Our member of the family with the settings of the code that was run."""
    hyper = meta["hyper"]
    match meta["optimizer"]:
        case "davda_sam" | "samsung_sam":
            return SAM(SAM.Config(rho=hyper["rho"]))
        case "davda_asam":
            return ASAM(ASAM.Config(rho=hyper["rho"], eta=0, adaptive_on="all"))
        case "samsung_asam":
            return ASAM(ASAM.Config(rho=hyper["rho"], eta=hyper["eta"], adaptive_on="name_contains_weight"))
        case "nblt_fsam":
            return FriendlySAM(
                FriendlySAM.Config(rho=hyper["rho"], sigma=hyper["sigma"], ema_decay=hyper["lmbda"], ema="previous")
            )
    raise AssertionError(meta["optimizer"])


def test_no_stored_case_is_left_out(shared: Any) -> None:
    stored = {str(path.parent.relative_to(shared / "golden")) for path in (shared / "golden").glob("*/*/meta.json")}
    stored = {name for name in stored if not name.startswith("dvib_official")}
    assert stored == {*ASCENT_CASES, *MIRROR_CASES}
    for name in stored:
        meta = json.loads((shared / "golden" / name / "meta.json").read_text())
        assert meta["optimizer"] == name.partition("/")[0] or name.startswith("mirror_gradient")


@pytest.mark.parametrize("case", ASCENT_CASES)
def test_the_family_follows_the_official_trajectories(case: str, problem: Callable[[str], Any]) -> None:
    golden = problem(case)
    _assert_same_weights(golden, golden.run(member(golden.meta), range(5)))


@pytest.mark.parametrize("case", ASCENT_CASES)
def test_the_family_visits_the_official_perturbed_weights_and_gradients(
    case: str, problem: Callable[[str], Any]
) -> None:
    golden = problem(case)
    visits = _visits(golden, member(golden.meta))
    for k, (weights, gradients) in enumerate(visits):
        for name, weight, gradient in zip(golden.names, weights, gradients, strict=True):
            np.testing.assert_allclose(weight, golden.vectors[f"step{k}/pert/{name}"], atol=TOLERANCE, rtol=0)
            np.testing.assert_allclose(gradient, golden.vectors[f"step{k}/grad1/{name}"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", MIRROR_CASES)
def test_mirror_gradient_follows_the_official_trajectory(case: str, problem: Callable[[str], Any]) -> None:
    golden = problem(case)
    hyper = golden.meta["hyper"]
    ratio = hyper["alpha2"] / hyper["alpha1"]
    update = MirrorGradient(MirrorGradient.Config(alpha1=hyper["alpha1"], alpha2_ratio=ratio, beta=hyper["beta"]))
    _assert_same_weights(golden, golden.run(update, range(5)))


def _assert_same_weights(golden: Any, trajectory: list[list[np.ndarray]]) -> None:
    for k, weights in enumerate(trajectory):
        for name, weight in zip(golden.names, weights, strict=True):
            np.testing.assert_allclose(weight, golden.vectors[f"step{k}/theta/{name}"], atol=TOLERANCE, rtol=0)


def _visits(golden: Any, update: Update) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Weights at the second pass of each step, and the gradients found there."""
    stepper, visits = golden.stepper(), []
    for k in range(5):
        seen: list[list[np.ndarray]] = []
        inner = golden.closure(k)

        def watching(*, fresh: bool = False, inner: Any = inner, seen: list[list[np.ndarray]] = seen) -> Any:
            seen.append([weight.detach().numpy().copy() for weight in golden.weights])
            return inner(fresh=fresh)

        update([watching], stepper, Moment(1, k))
        visits.append((seen[1], [weight.grad.numpy().copy() for weight in golden.weights]))
    return visits


def test_the_golden_problems_have_the_stored_first_gradients(problem: Callable[[str], Any]) -> None:
    golden = problem("davda_sam/mlp__sgd__rho0.5")
    gradients = torch.autograd.grad(golden.loss(0), golden.weights)
    for name, gradient in zip(golden.names, gradients, strict=True):
        np.testing.assert_allclose(gradient.numpy(), golden.vectors[f"step0/grad/{name}"], atol=TOLERANCE, rtol=0)
