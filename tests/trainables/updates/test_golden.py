"""Trajectories of official implementations, in float64, to 1e-10."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainables.types import Moment
from trainables.updates.base import Update
from trainables.updates.mirror_gradient import MirrorGradient
from trainables.updates.sam import SAM

TOLERANCE = 1e-10

SAM_CASES = [
    *(
        f"davda_sam/{problem}__{base}__rho{rho}"
        for problem in ("mlp", "quadratic")
        for base in ("sgd", "sgdm_wd", "adam", "adam_wd")
        for rho in ("0.05", "0.5")
    ),
    *(
        f"samsung_sam/{problem}__{base}__rho0.05"
        for problem in ("mlp", "quadratic")
        for base in ("sgd", "sgdm_wd", "adam", "adam_wd")
    ),
]
MIRROR_CASES = [
    f"mirror_gradient/{problem}__{base}__{numbers}"
    for problem in ("mlp", "quadratic")
    for base in ("sgd", "adam")
    for numbers in ("a1_0.5_a2_0.2_b2", "a1_1.0_a2_0.1_b3", "a1_1.0_a2_0.3_b3", "a1_1.0_a2_0.5_b1")
]


@pytest.mark.parametrize("case", SAM_CASES)
def test_sam_follows_the_official_trajectory(case: str, problem: Callable[[str], Any]) -> None:
    golden = problem(case)
    trajectory = golden.run(SAM(SAM.Config(rho=golden.meta["hyper"]["rho"])), range(5))
    _assert_same_weights(golden, trajectory)


@pytest.mark.parametrize("case", SAM_CASES)
def test_sam_visits_the_official_perturbed_weights_and_gradients(case: str, problem: Callable[[str], Any]) -> None:
    golden = problem(case)
    visits = _visits(golden, SAM(SAM.Config(rho=golden.meta["hyper"]["rho"])))
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
