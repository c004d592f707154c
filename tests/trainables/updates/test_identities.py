"""Where an update must be another one, bit for bit; and what each says that it costs."""

import math

import pytest
import torch
from embedding_problem import PAIRS, SINGLES, Problem, make, same
from hypothesis import given
from hypothesis import strategies as st

from trainables.types import Losses, Moment
from trainables.updates import UPDATES
from trainables.updates.base import Stepper, displaced

ASCENTS = ("sam", "asam", "fisher_sam", "friendly_sam", "bsam")
PLUSES = tuple(f"{name}_plus" for name in ASCENTS)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", ASCENTS)
def test_a_radius_of_zero_is_descent(name: str, optimizer: str) -> None:
    plain = Problem().trained(make("descent"), SINGLES, optimizer)
    assert same(Problem().trained(make(name, rho=0), SINGLES, optimizer), plain)


@pytest.mark.parametrize("name", ASCENTS)
def test_a_positive_radius_is_not_descent(name: str) -> None:
    plain = Problem().trained(make("descent"), SINGLES)
    assert not same(Problem().trained(make(name, rho=0.1), SINGLES), plain)


@pytest.mark.parametrize("name", [name for name in ASCENTS if name != "sam"])
def test_no_member_is_another_in_disguise(name: str) -> None:
    assert not same(Problem().trained(make(name, rho=0.3), SINGLES), Problem().trained(make("sam", rho=0.3), SINGLES))


def test_mirror_gradient_without_ascent_is_descent_under_sgd() -> None:
    plain = Problem().trained(make("descent"), SINGLES, "sgd")
    assert same(Problem().trained(make("mirror_gradient", alpha2_ratio=0.0, beta=2), SINGLES, "sgd"), plain)


def test_the_control_of_mirror_gradient_is_mirror_gradient_without_ascent() -> None:
    control = Problem()
    moved = control.trained(make("extra_steps", beta=2), SINGLES)
    mirror = Problem()
    assert same(moved, mirror.trained(make("mirror_gradient", alpha2_ratio=0.0, beta=2), SINGLES))
    assert control.steps == mirror.steps == 9 and control.evaluations == 6 and mirror.evaluations == 9


def test_the_control_with_a_second_descent_is_descent_on_repeated_batches() -> None:
    repeated = Problem().trained(make("descent"), [[0], [0], [1], [2], [2], [3]])
    control = make("extra_steps", beta=2, second="descent", draws="same")
    assert same(Problem().trained(control, [[0], [1], [2], [3]]), repeated)


@pytest.mark.parametrize("name", PLUSES)
def test_kappa_zero_is_descent_on_the_second_batches(name: str) -> None:
    plain = Problem().trained(make("descent"), [[1], [3], [5]])
    assert same(Problem().trained(make(name, kappa=0), PAIRS), plain)


@pytest.mark.parametrize("name", ASCENTS)
def test_kappa_one_is_the_member_on_the_first_batches(name: str) -> None:
    member = Problem().trained(make(name, rho=0.2), [[0], [2], [4]])
    assert same(Problem().trained(make(f"{name}_plus", rho=0.2, kappa=1), PAIRS), member)


@pytest.mark.parametrize("name", PLUSES)
def test_without_a_radius_and_at_half_the_plus_form_is_its_control(name: str) -> None:
    control = Problem().trained(make("double_batch"), PAIRS)
    assert same(Problem().trained(make(name, rho=0, kappa=0.5), PAIRS), control)


def test_the_double_batch_is_descent_on_the_mean_of_both_losses() -> None:
    problem = Problem(torch.float64)
    stepper = problem.stepper("sgd")
    for first, second in PAIRS:
        stepper.gradients((problem.batch(first)().total + problem.batch(second)().total) / 2)
        stepper.step()
    expected = [weight.detach().clone() for weight in problem.weights]
    found = Problem(torch.float64).trained(make("double_batch"), PAIRS, "sgd")
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", PLUSES)
def test_with_equal_gradients_kappa_does_not_matter(name: str) -> None:
    """X+ is linear: where g̃1 = g2, every mixture is the same."""
    results = [
        Problem(torch.float64, dropout=0).trained(make(name, rho=0, kappa=kappa), [[0, 0], [3, 3]])
        for kappa in (0.2, 0.7)
    ]
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", PLUSES)
def test_an_odd_last_batch_takes_the_members_own_step(name: str) -> None:
    problem = Problem()
    mixed = problem.trained(make(name, rho=0.2), [[0, 1], [2]])
    assert problem.evaluations == 3 + 2 and problem.steps == 2
    other, update = Problem(), make(name, rho=0.2)
    stepper = other.stepper()
    update([other.batch(0), other.batch(1)], stepper, Moment(1, 0))
    update.member([other.batch(2)], stepper, Moment(1, 1))
    assert same(mixed, [weight.detach() for weight in other.weights])


def test_gnp_is_the_same_batch_form_of_sam() -> None:
    plus = Problem().trained(make("sam_plus", rho=0.2, kappa=0.8, pairing="same_batch"), SINGLES)
    assert same(Problem().trained(make("gnp", rho=0.2), SINGLES), plus)
    assert same(
        Problem().trained(make("gnp", rho=0.2, kappa=1), SINGLES), Problem().trained(make("sam", rho=0.2), SINGLES)
    )
    assert not same(Problem().trained(make("gnp", rho=0.2, normalised=True), SINGLES), plus)


def test_gnp_follows_its_formula() -> None:
    problem, rate, share = Problem(torch.float64, dropout=0), 0.05, 0.8
    weights = [problem.table, problem.matrix]
    expected = []
    gradient = torch.autograd.grad(problem.batch(0)().total, weights)
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradient))
    start = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for weight, g in zip(weights, gradient, strict=True):
            weight.add_(0.2 * g / norm)
    ahead = torch.autograd.grad(problem.batch(0)().total, weights)
    for origin, g, a in zip(start, gradient, ahead, strict=True):
        expected.append(origin - rate * ((1 - share) * g + share * a))
    found = Problem(torch.float64, dropout=0).trained(make("gnp", rho=0.2), [[0]], "sgd")
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(found, expected, strict=False))


@pytest.mark.parametrize("name", [*ASCENTS, *PLUSES])
def test_between_the_perturbed_steps_of_an_interval_lie_plain_ones(name: str) -> None:
    groups = PAIRS if name in PLUSES else SINGLES[:3]
    update, control = make(name, rho=0.2, interval=2), make(name, rho=0, interval=2)
    problem = Problem()
    first = problem.trained(update, groups[:1])
    always = Problem()
    assert same(first, always.trained(make(name, rho=0.2), groups[:1]))
    # From equal weights the second step is the plain one, whatever ρ is.
    steppers = [problem.stepper(), always.stepper()]
    for chosen, member, stepper in ((problem, update, steppers[0]), (always, control, steppers[1])):
        member([chosen.batch(k) for k in groups[1]], stepper, Moment(1, 1))
    assert same([w.detach() for w in problem.weights], [w.detach() for w in always.weights])
    assert steppers[0].gradient_evaluations == len(groups[1])


@given(batches=st.integers(1, 60), beta=st.integers(1, 9), interval=st.integers(1, 5))
def test_the_formulas_of_cost_are_those_of_the_specification(batches: int, beta: int, interval: int) -> None:
    """strategies.md §11."""
    assert make("descent").gradient_evaluations(batches) == batches
    assert make("double_batch").gradient_evaluations(batches) == batches
    assert make("mirror_gradient", beta=beta).gradient_evaluations(batches) == batches + math.ceil(batches / beta)
    for name in ASCENTS:
        assert make(name).gradient_evaluations(batches) == 2 * batches
        assert make(name, interval=interval).gradient_evaluations(batches) == batches + math.ceil(batches / interval)
    for name in PLUSES:
        tail = 0.5 * (batches % 2)
        assert make(name).gradient_evaluations(batches) == 1.5 * batches + tail
        assert make(name, pairing="independent").gradient_evaluations(batches) == 3 * batches
        assert make(name, pairing="same_batch").gradient_evaluations(batches) == 2 * batches
    assert make("gnp").gradient_evaluations(batches) == 2 * batches


VARIANTS = [
    *((name, {}) for name in UPDATES),
    *((name, {"interval": 3}) for name in (*ASCENTS, *PLUSES)),
    *((name, {"pairing": "same_batch", "interval": 2}) for name in PLUSES),
    *((name, {"pairing": "independent", "interval": 2}) for name in PLUSES),
    *(("mirror_gradient", {"mode": mode, "beta": 2}) for mode in ("official", "sgd_half", "fused")),
    ("extra_steps", {"second": "descent", "beta": 2}),
]


@pytest.mark.parametrize(("name", "numbers"), VARIANTS)
@pytest.mark.parametrize("batches", [1, 2, 3, 7, 8])
def test_the_counter_agrees_with_the_formula(name: str, numbers: dict[str, object], batches: int) -> None:
    update = make(name, **numbers)
    width = update.batches_per_step
    groups = [list(range(batches))[k : k + width] for k in range(0, batches, width)]
    if update.passes == 2:
        groups = [[k, batches + k] for k in range(batches)]
    problem = Problem()
    problem.trained(update, groups)
    assert problem.evaluations == update.gradient_evaluations(batches)


def test_weights_that_the_loss_does_not_touch_stay_where_they_are() -> None:
    for name in UPDATES:
        problem = Problem()
        before = problem.unused.detach().clone()
        problem.trained(make(name), PAIRS if make(name).batches_per_step == 2 else SINGLES)
        assert torch.equal(problem.unused, before), name


@pytest.mark.parametrize("branch_in", [(0,), (1,)])
@pytest.mark.parametrize("name", [*ASCENTS, "mirror_gradient", "gnp"])
def test_a_branch_that_only_one_pass_sees_neither_fails_nor_drifts(name: str, branch_in: tuple[int, ...]) -> None:
    """Official code does not restore a weight that the second pass gives no gradient, and fails where only it does."""
    problem = Problem()
    stepper = problem.stepper("sgd", rate=0.0)
    before = [weight.detach().clone() for weight in problem.weights]
    make(name)([problem.closure([1, 2], branch_in=branch_in)], stepper, Moment(1, 0))
    assert same([weight.detach() for weight in problem.weights], before)


def test_the_offset_has_length_rho() -> None:
    for name in ("sam", "friendly_sam", "bsam"):
        problem, update = Problem(), make(name, rho=0.37)
        stepper = problem.stepper()
        for k in range(3):
            stepper.gradients(problem.batch(k)().total)
            offsets = update.offsets(stepper.take(), 0.0, stepper, Moment(1, k))
            length = math.sqrt(sum(float((offset**2).sum()) for offset in offsets if offset is not None))
            assert length == pytest.approx(0.37, rel=1e-6)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_direction_without_a_length_perturbs_nothing_costs_the_same_and_is_counted(bad: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    stepper = Stepper([weight], torch.optim.SGD([weight], lr=0.0))
    seen: list[torch.Tensor] = []

    def closure(*, fresh: bool = False) -> Losses:
        seen.append(weight.detach().clone())
        return Losses.of(loss=(weight * bad).sum())

    update = make("sam", rho=1)
    update([closure], stepper, Moment(1, 0))
    assert torch.equal(seen[1], torch.ones(3)) and stepper.gradient_evaluations == 2
    assert update.diagnostics()["unperturbed"] == 1


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
