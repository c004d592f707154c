"""Sharpness, held to quadratics ½ x·A x + b·x whose numbers are known in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.evaluation.sharpness import (
    ascent_sharpness,
    average_sharpness,
    gradients,
    hessian_product,
    largest_eigenvalue,
)
from trainables.seeding import torch_stream

SHAPES = ((4, 2), (3,), (2, 1))
SIZE = sum(math.prod(shape) for shape in SHAPES)


class Quadratic:
    """½ x·A x + b·x over three tensors, and the same in NumPy."""

    def __init__(self, seed=0, eigenvalues=None):
        rng = np.random.default_rng(seed)
        basis, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
        self.eigenvalues = rng.uniform(-1, 5, SIZE) if eigenvalues is None else np.array(eigenvalues)
        self.matrix = basis @ np.diag(self.eigenvalues) @ basis.T
        self.linear, self.at = rng.standard_normal(SIZE), rng.standard_normal(SIZE)
        self.params = [part.requires_grad_() for part in self.split(self.at)]

    def split(self, flat):
        parts = torch.split(torch.from_numpy(flat.copy()), [math.prod(shape) for shape in SHAPES])
        return [part.clone().view(shape) for part, shape in zip(parts, SHAPES, strict=True)]

    def __call__(self):
        x = torch.cat([param.reshape(-1) for param in self.params])
        return 0.5 * x @ (torch.from_numpy(self.matrix) @ x) + torch.from_numpy(self.linear) @ x

    def value(self, x):
        return 0.5 * x @ self.matrix @ x + self.linear @ x

    def unmoved(self):
        return np.array_equal(np.concatenate([p.detach().numpy().ravel() for p in self.params]), self.at)


def flat(parts):
    return np.concatenate([part.detach().numpy().ravel() for part in parts])


def streams(count, purpose="test"):
    return [torch_stream(0, purpose, index) for index in range(count)]


def test_gradients_are_those_of_the_loss_and_0_where_it_does_not_hang_on_a_weight():
    loss = Quadratic()
    unused = torch.ones(2, 2, requires_grad=True)
    found = gradients(loss, [*loss.params, unused])
    np.testing.assert_allclose(flat(found[:-1]), loss.matrix @ loss.at + loss.linear, rtol=1e-12)
    assert torch.equal(found[-1], torch.zeros(2, 2)) and all(p.grad is None for p in loss.params)
    with torch.no_grad():
        assert len(gradients(loss, loss.params)) == 3


def test_ascent_sharpness_is_the_rise_along_the_gradient():
    loss = Quadratic()
    g = loss.matrix @ loss.at + loss.linear
    length = np.linalg.norm(g)
    expected = [rho * length + 0.5 * rho**2 * (g @ loss.matrix @ g) / length**2 for rho in (0.05, 0.1, 2.0)]
    found = ascent_sharpness(loss, loss.params, (0.05, 0.1, 2.0))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert loss.unmoved()


def test_ascent_sharpness_is_0_where_nothing_rises():
    loss = Quadratic()
    loss.matrix, loss.linear = 0 * loss.matrix, 0 * loss.linear
    assert ascent_sharpness(loss, loss.params, (0.1,)) == [0.0]


def test_average_sharpness_has_the_expectation_of_a_quadratic():
    loss = Quadratic()
    a, x = np.diag(loss.matrix), loss.at
    squares = np.zeros(SIZE)
    for row in range(4):
        squares[2 * row : 2 * row + 2] = (x[2 * row : 2 * row + 2] ** 2).sum()
    squares[11:] = x[11:] ** 2  # rows of one entry; the vector between does not move
    expected = 0.3**2 / 2 * (a * squares).sum()
    values = np.array(average_sharpness(loss, loss.params, 0.3, streams(4000)))
    assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))
    assert values.std() / np.sqrt(len(values)) < 0.1 * abs(expected)
    assert loss.unmoved()


def test_every_draw_is_half_a_quadratic_form_and_free_of_what_is_linear():
    loss = Quadratic()
    generator = streams(1)[0]
    drawn = [torch.randn(shape, generator=generator).double().numpy() for shape in SHAPES]
    scale = [np.linalg.norm(p.detach().numpy(), axis=1, keepdims=True) for p in loss.params if p.ndim > 1]
    delta = 0.2 * np.concatenate([(drawn[0] * scale[0]).ravel(), np.zeros(3), (drawn[2] * scale[1]).ravel()])
    found = average_sharpness(loss, loss.params, 0.2, streams(1))
    assert found == [pytest.approx(0.5 * delta @ loss.matrix @ delta, rel=1e-9)]
    loss.linear = 100 * loss.linear
    assert average_sharpness(loss, loss.params, 0.2, streams(1)) == [pytest.approx(found[0], rel=1e-7)]


@pytest.mark.parametrize("step", [1e-4, 1e-2, 1.0])
def test_a_product_with_the_hessian_of_a_quadratic_is_exact_for_every_step(step):
    loss = Quadratic()
    vector = 30 * np.random.default_rng(7).standard_normal(SIZE)
    found = hessian_product(loss, loss.params, step)(loss.split(vector))
    np.testing.assert_allclose(flat(found), loss.matrix @ vector, rtol=1e-8, atol=1e-8)
    assert loss.unmoved()
    zero = hessian_product(loss, loss.params, step)(loss.split(0 * vector))
    assert not flat(zero).any()


def test_a_product_needs_only_one_backward_pass():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x**4).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 4 * ctx.saved_tensors[0] ** 3

    x = torch.tensor([[0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    vector = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    (found,) = hessian_product(lambda: Once.apply(x), [x], 1e-4)([vector])
    torch.testing.assert_close(found, 12 * x.detach() ** 2 * vector, rtol=1e-6, atol=0)


def test_a_product_in_single_precision_is_refused():
    with pytest.raises(ValueError, match="weights of float64, but got others"):
        hessian_product(lambda: torch.zeros(()), [torch.ones(2)], 1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "eigenvalues", [[9.0, *range(12)], [-9.0, *np.arange(-6.0, 6.0)], [-1.0, *np.arange(-13.0, -1.0)]]
)
def test_the_largest_eigenvalue_is_found_also_beside_a_larger_negative_one(seed, eigenvalues):
    loss = Quadratic(seed, eigenvalues)
    start = loss.split(np.random.default_rng(seed).standard_normal(SIZE))
    found = largest_eigenvalue(hessian_product(loss, loss.params, 1e-3), start, 1e-10, 5000)
    assert found.value == pytest.approx(max(loss.eigenvalues), rel=1e-4) and found.converged
    assert found.residual < 1e-2 and found.iterations < 5000 and loss.unmoved()


@settings(max_examples=20, deadline=None)
@given(iterations=st.integers(1, 12), seed=st.integers(0, 20))
def test_an_eigenvalue_lies_within_the_residual_and_the_limit_holds(iterations, seed):
    loss = Quadratic(seed)
    products = []

    def product(vector):
        products.append(vector)
        return hessian_product(loss, loss.params, 1e-3)(vector)

    start = loss.split(np.random.default_rng(seed).standard_normal(SIZE))
    found = largest_eigenvalue(product, start, 1e-12, iterations)
    assert np.abs(loss.eigenvalues - found.value).min() <= found.residual + 1e-6
    assert found.iterations == len(products) <= iterations


def test_a_matrix_of_zeros_has_the_eigenvalue_0():
    zeros = [torch.zeros(3, dtype=torch.float64)]
    found = largest_eigenvalue(lambda vector: zeros, [torch.ones(3, dtype=torch.float64)], 1e-3, 10)
    assert (found.value, found.residual, found.converged) == (0.0, 0.0, True)
