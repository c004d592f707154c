"""Where an update must be another one, bit for bit; and what each says that it costs."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates import UPDATES
from trainables.updates.base import Stepper, Update, displaced
from trainables.updates.bsam import BSAM
from trainables.updates.descent import Descent
from trainables.updates.mirror_gradient import MirrorGradient
from trainables.updates.mixed import BSAMPlus, SAMPlus
from trainables.updates.sam import SAM


class Problem:
    """Embedding rows of which a batch touches some, a matrix, and a weight that no loss depends on; with dropout."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(8, 3, generator=generator).requires_grad_()
        self.matrix = torch.randn(3, 3, generator=generator).requires_grad_()
        self.unused = torch.randn(4, generator=generator).requires_grad_()
        self.weights = [self.table, self.matrix, self.unused]

    def closure(self, rows: Sequence[int], seed: int = 0) -> Closure:
        draws = 0

        def compute(*, fresh: bool = False) -> Losses:
            nonlocal draws
            draws += fresh
            with torch.random.fork_rng([]):
                torch.manual_seed(1000 * seed + (draws if fresh else 0))
                hidden = torch.nn.functional.dropout(self.table[list(rows)] @ self.matrix, 0.3)
                return Losses.of(loss=(hidden**2).mean() + hidden.sum().sin())

        return compute

    def trained(self, update: Update, groups: Sequence[Sequence[int]], optimizer: str = "adam") -> list[Tensor]:
        """The weights after one step a group of batches; batch k touches rows k, k+1 and k+2."""
        makers = {"adam": lambda w: torch.optim.Adam(w, lr=0.05), "sgd": lambda w: torch.optim.SGD(w, lr=0.05)}
        stepper = Stepper(self.weights, makers[optimizer](self.weights))
        for group in groups:
            closures = [self.closure([k % 8, (k + 1) % 8, (k + 2) % 8], seed=k) for k in group]
            update(closures, stepper, Moment(1, group[0] // update.batches_per_step))
        self.evaluations = stepper.gradient_evaluations
        return [weight.detach().clone() for weight in self.weights]


SINGLES = [[k] for k in range(6)]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("update", [SAM(SAM.Config(rho=0)), BSAM(BSAM.Config(rho=0))], ids=["sam", "bsam"])
def test_a_radius_of_zero_is_descent(update: Update, optimizer: str) -> None:
    plain = Problem().trained(Descent(Descent.Config()), SINGLES, optimizer)
    assert same(Problem().trained(update, SINGLES, optimizer), plain)


def test_a_positive_radius_is_not_descent() -> None:
    plain = Problem().trained(Descent(Descent.Config()), SINGLES)
    assert not same(Problem().trained(SAM(SAM.Config(rho=0.1)), SINGLES), plain)


def test_mirror_gradient_without_ascent_is_descent_under_sgd() -> None:
    plain = Problem().trained(Descent(Descent.Config()), SINGLES, "sgd")
    update = MirrorGradient(MirrorGradient.Config(alpha1=1.0, alpha2_ratio=0.0, beta=2))
    assert same(Problem().trained(update, SINGLES, "sgd"), plain)


@pytest.mark.parametrize("update", [SAMPlus(SAMPlus.Config(kappa=0)), BSAMPlus(BSAMPlus.Config(kappa=0))])
def test_kappa_zero_is_descent_on_the_second_batches(update: Update) -> None:
    plain = Problem().trained(Descent(Descent.Config()), [[1], [3], [5]])
    assert same(Problem().trained(update, [[0, 1], [2, 3], [4, 5]]), plain)


def test_kappa_one_is_the_member_on_the_first_batches() -> None:
    member = Problem().trained(SAM(SAM.Config(rho=0.2)), [[0], [2], [4]])
    assert same(Problem().trained(SAMPlus(SAMPlus.Config(rho=0.2, kappa=1)), [[0, 1], [2, 3], [4, 5]]), member)


@pytest.mark.parametrize("distance", ["l1_relative", "l1"])
def test_bsam_without_memory_is_sam(distance: str) -> None:
    expected = Problem().trained(SAM(SAM.Config(rho=0.2)), SINGLES)
    config = BSAM.Config.model_validate({"rho": 0.2, "ema_decay": 0, "distance": distance})
    assert same(Problem().trained(BSAM(config), SINGLES), expected)


def test_an_odd_last_batch_takes_the_members_own_step() -> None:
    problem = Problem()
    problem.trained(BSAMPlus(BSAMPlus.Config()), [[0, 1], [2]])
    assert problem.evaluations == 3 + 2


@given(batches=st.integers(1, 60), beta=st.integers(1, 9))
def test_the_formulas_of_cost_are_those_of_the_specification(batches: int, beta: int) -> None:
    assert Descent(Descent.Config()).gradient_evaluations(batches) == batches
    mirror = MirrorGradient(MirrorGradient.Config(beta=beta))
    assert mirror.gradient_evaluations(batches) == batches + math.ceil(batches / beta)
    assert SAM(SAM.Config()).gradient_evaluations(batches) == 2 * batches
    assert BSAM(BSAM.Config()).gradient_evaluations(batches) == 2 * batches
    if batches % 2 == 0:
        assert SAMPlus(SAMPlus.Config()).gradient_evaluations(batches) == 1.5 * batches


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("batches", [1, 2, 3, 7, 8])
def test_the_counter_agrees_with_the_formula(name: str, batches: int) -> None:
    update = UPDATES[name](UPDATES[name].Config())
    width = update.batches_per_step
    problem = Problem()
    problem.trained(update, [list(range(batches))[k : k + width] for k in range(0, batches, width)])
    assert problem.evaluations == update.gradient_evaluations(batches)


def test_bsam_follows_its_formula_over_two_steps() -> None:
    """v = g - c·m with c = ‖g-m‖₁ / (‖g‖₁+‖m‖₁), m = (1-λ)g + λm; written here with flat vectors."""
    rho, decay, rate = 0.3, 0.7, 0.05
    problem = Problem()
    weights = [problem.table, problem.matrix]
    average = torch.zeros(8 * 3 + 9)
    for k in range(2):
        closure = problem.closure([k, k + 1, k + 2], seed=k)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(closure().total, weights)])
        average = (1 - decay) * gradient + decay * average
        coefficient = (gradient - average).abs().sum() / (gradient.abs().sum() + average.abs().sum())
        direction = gradient - coefficient * average
        offset = rho * direction / direction.norm()
        parts = offset.split([24, 9])
        with torch.no_grad():
            for weight, part in zip(weights, parts, strict=True):
                weight.add_(part.reshape(weight.shape))
        perturbed = torch.autograd.grad(closure().total, weights)
        with torch.no_grad():
            for weight, part, g in zip(weights, parts, perturbed, strict=True):
                weight.sub_(part.reshape(weight.shape) + rate * g)
    config = BSAM.Config(rho=rho, ema_decay=decay)
    result = Problem().trained(BSAM(config), [[0], [1]], "sgd")
    for weight, expected in zip(result, weights, strict=False):
        torch.testing.assert_close(weight, expected.detach(), rtol=1e-5, atol=1e-6)


def test_the_offset_has_length_rho() -> None:
    problem = Problem()
    stepper = Stepper(problem.weights, torch.optim.SGD(problem.weights, lr=0.1))
    stepper.gradients(problem.closure([0, 1, 2])().total)
    offsets = [offset for offset in SAM(SAM.Config(rho=0.37)).offsets(stepper.take()) if offset is not None]
    assert math.sqrt(sum(float((offset**2).sum()) for offset in offsets)) == pytest.approx(0.37, rel=1e-6)


def test_weights_that_the_loss_does_not_touch_stay_where_they_are() -> None:
    problem = Problem()
    before = problem.unused.detach().clone()
    problem.trained(BSAMPlus(BSAMPlus.Config()), [[0, 1], [2, 3]])
    assert torch.equal(problem.unused, before)


def test_a_vanishing_gradient_perturbs_nothing_and_costs_the_same() -> None:
    weight = torch.ones(3, requires_grad=True)
    stepper = Stepper([weight], torch.optim.SGD([weight], lr=1.0))
    SAM(SAM.Config(rho=1))([lambda *, fresh=False: Losses.of(loss=(weight * 0).sum())], stepper, Moment(1, 0))
    assert torch.equal(weight, torch.ones(3)) and stepper.gradient_evaluations == 2


def test_displaced_restores_the_same_bits_even_when_the_body_raises() -> None:
    weights = [torch.randn(50), torch.randn(3)]
    before = [weight.clone() for weight in weights]
    with pytest.raises(KeyError), displaced(weights, [torch.full((50,), 1e8), None]):
        assert not torch.equal(weights[0], before[0]) and torch.equal(weights[1], before[1])
        raise KeyError
    assert same(weights, before)


def test_sparse_gradients_are_refused() -> None:
    table = torch.nn.Embedding(4, 2, sparse=True)
    stepper = Stepper(table.parameters(), torch.optim.SGD(table.parameters(), lr=0.1))
    with pytest.raises(RuntimeError, match="gradients must be dense"):
        stepper.gradients(table(torch.tensor([1])).sum())
