"""Mirror Gradient on a quadratic, where its step has a closed form; its modes and its sign."""

import pytest
import torch
from embedding_problem import Problem, make, same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.types import Losses, Moment
from trainables.updates.base import Stepper, Update

A = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def step(update: Update, optimizer: str = "sgd", rate: float = 0.1, steps: int = 1) -> Tensor:
    """θ after steps on ½θᵀAθ."""
    theta = START.clone().requires_grad_()
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]([theta], lr=rate)
    stepper = Stepper([theta], made)

    def closure(*, fresh: bool = False) -> Losses:
        return Losses.of(loss=0.5 * theta @ A @ theta)

    for index in range(steps):
        update([closure], stepper, Moment(1, index))
    return theta.detach()


@given(alpha1=st.floats(0.1, 2), ratio=st.floats(0, 0.95), rate=st.floats(0.01, 0.2), sign=st.sampled_from([1, -1]))
@pytest.mark.parametrize("mode", ["official", "sgd_half", "fused"])
def test_a_mirror_step_on_a_quadratic(mode: str, alpha1: float, ratio: float, rate: float, sign: int) -> None:
    """θ' = (I - α1γA + α2γA(I - α1γA))θ; under SGD all three modes are this one."""
    update = make("mirror_gradient", alpha1=alpha1, alpha2_ratio=ratio, beta=1, mode=mode, second_sign=sign)
    half = (torch.eye(3, dtype=torch.float64) - alpha1 * rate * A) @ START
    expected = half + sign * alpha1 * ratio * rate * A @ half
    torch.testing.assert_close(step(update, rate=rate), expected, rtol=1e-12, atol=1e-12)


def test_the_modes_differ_under_a_stateful_optimiser() -> None:
    results = {
        mode: step(make("mirror_gradient", mode=mode, alpha2_ratio=0.5), "adam", steps=4)
        for mode in ("official", "sgd_half", "fused")
    }
    assert not torch.allclose(results["official"], results["fused"])
    assert not torch.allclose(results["sgd_half"], results["fused"])


def test_the_fused_mode_steps_once_and_keeps_the_optimiser_s_meaning() -> None:
    """With α1 = 1 and α2 = 0 the fused step is descent, to the bit, under Adam too."""
    plain = Problem().trained(make("descent"), [[0], [1], [2]])
    problem = Problem()
    assert same(problem.trained(make("mirror_gradient", mode="fused", alpha2_ratio=0.0), [[0], [1], [2]]), plain)
    assert problem.steps == 3 and problem.evaluations == 4


@pytest.mark.parametrize(("mode", "steps"), [("official", 6), ("sgd_half", 6), ("fused", 4)])
def test_the_half_steps_are_counted(mode: str, steps: int) -> None:
    problem = Problem()
    problem.trained(make("mirror_gradient", mode=mode, beta=2), [[0], [1], [2], [3]])
    assert problem.steps == steps and problem.evaluations == 6


def test_the_first_batch_of_an_epoch_is_a_mirror_batch() -> None:
    """Official code starts to count at 0 in every epoch; the BSAM paper's text has the last of every β."""
    plain, mirror = (make(name) for name in ("descent", "mirror_gradient"))
    for index, differs in ((0, True), (1, False), (2, False), (3, True)):
        weights = []
        for update in (plain, mirror):
            problem = Problem()
            update([problem.batch(0)], problem.stepper(), Moment(1, index))
            weights.append([weight.detach() for weight in problem.weights])
        assert same(*weights) is not differs


def test_the_misprinted_sign_descends_twice() -> None:
    """Two minuses go further down the slope than one step, the right sign less far."""
    loss = {
        sign: float(0.5 * end @ A @ end)
        for sign in (1, -1)
        for end in [step(make("mirror_gradient", alpha2_ratio=0.5, second_sign=sign), rate=0.05)]
    }
    descent = step(make("descent"), rate=0.05)
    assert loss[-1] < float(0.5 * descent @ A @ descent) < loss[1]
