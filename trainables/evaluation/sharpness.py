"""How sharp a minimum is, in single numbers (strategies.md §10); the same terms as in `landscape`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.evaluation.landscape import Direction, Loss, place, random_direction, restored, row_norms
from trainables.vectors import global_norm, inner


def gradients(loss: Loss, params: Sequence[Tensor]) -> list[Tensor]:
    """The loss's gradient; zeros where it does not hang on a weight."""
    with torch.enable_grad():
        found = torch.autograd.grad(loss(), list(params), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True)]


def ascent_sharpness(loss: Loss, params: Sequence[Tensor], rhos: Sequence[float]) -> list[float]:
    """L(θ + ρ g/‖g‖) - L(θ) for each radius ρ, g the gradient at θ: what SAM's step sees, to first order the maximum.

    0 where the gradient is 0.
    """
    gradient = gradients(loss, params)
    length = float(global_norm(gradient))
    base = _value(loss)
    with restored(params) as centre:
        found = []
        for rho in rhos:
            place(params, centre, [(rho / length if length > 0 else 0.0, gradient)])
            found.append(_value(loss) - base)
    return found


def average_sharpness(
    loss: Loss, params: Sequence[Tensor], sigma: float, generators: Sequence[torch.Generator]
) -> list[float]:
    """L(θ + δ) - L(θ) for each generator's δ, whose entries in row r are N(0, σ²‖p_r‖²): their mean is the sharpness.

    Each δ is taken with both signs and the two losses averaged, which leaves the expectation as it is and takes away
    all that is linear in δ. As in the landscape, tensors of less than two dimensions do not move. Of a quadratic with
    Hessian A the expectation is σ²/2 · Σ_r ‖p_r‖² Σ_{i in r} a_ii.
    """
    base = _value(loss)
    scales = [row_norms(p.detach()) if p.ndim >= 2 else torch.zeros_like(p) for p in params]
    found = []
    with restored(params) as centre:
        for generator in generators:
            drawn = random_direction(params, generator)
            offset = [part * scale for part, scale in zip(drawn, scales, strict=True)]
            losses = []
            for sign in (sigma, -sigma):
                place(params, centre, [(sign, offset)])
                losses.append(_value(loss))
            found.append(sum(losses) / 2 - base)
    return found


@dataclass(frozen=True)
class Eigenvalue:
    """Where a power iteration ended.

    Attributes:
        value: the Rayleigh quotient of the last vector v, of unit length.
        residual: ‖H v - value · v‖: an eigenvalue lies no farther than that from `value`.
        iterations: products with H that it took.
        converged: whether the last change was within the tolerance.
    """

    value: float
    residual: float
    iterations: int
    converged: bool


def hessian_product(loss: Loss, params: Sequence[Tensor], step: float) -> Callable[[Direction], list[Tensor]]:
    """v -> H v, by the central difference (∇L(θ + h u) - ∇L(θ - h u)) · ‖v‖ / 2h along u = v/‖v‖.

    Several layers have hand-written backward passes that are differentiable once, so that H v cannot be had by a
    second backward pass. Exact on quadratics, else with an error of order h²; wants float64. Where a loss stops
    gradients (BM3, SelfCF), this is how the gradient that training sees changes, not its value's second derivative.

    Args:
        step: h, in the units of the weights.

    Raises:
        ValueError: a weight is not float64.
    """
    if any(param.dtype != torch.float64 for param in params):
        raise ValueError("products with the Hessian need weights of float64, but got others")

    def product(vector: Direction) -> list[Tensor]:
        length = float(global_norm(vector))
        if length == 0:
            return [torch.zeros_like(part) for part in vector]
        with restored(params) as centre:
            place(params, centre, [(step / length, vector)])
            ahead = gradients(loss, params)
            place(params, centre, [(-step / length, vector)])
            behind = gradients(loss, params)
        return [(a - b) * (length / (2 * step)) for a, b in zip(ahead, behind, strict=True)]

    return product


def largest_eigenvalue(
    product: Callable[[Direction], list[Tensor]], start: Direction, tolerance: float, iterations: int
) -> Eigenvalue:
    """The largest eigenvalue of a symmetric matrix, by power iteration.

    The iteration finds the eigenvalue λ of the largest magnitude. Where that is negative, a second one, on H - λ I,
    finds the largest; both share the limit on products.

    Args:
        start: any vector with a part along the eigenvector.
        tolerance: an iteration ends when its quotient changes by no more than this share of itself.
        iterations: most products.
    """
    first = _power(product, start, 0.0, tolerance, iterations)
    left = iterations - first.iterations
    if first.value >= 0 or left < 1:
        return first
    second = _power(product, start, first.value, tolerance, left)
    return Eigenvalue(second.value, second.residual, first.iterations + second.iterations, second.converged)


def _power(
    product: Callable[[Direction], list[Tensor]], start: Direction, shift: float, tolerance: float, iterations: int
) -> Eigenvalue:
    """Power iteration on H - shift · I; values are those of H."""
    vector = _unit(start)
    last = math.inf
    for done in range(1, iterations + 1):
        image = product(vector)
        value = float(inner(vector, image))
        residual = float(global_norm([part - value * own for part, own in zip(image, vector, strict=True)]))
        if abs(value - last) <= tolerance * abs(value - shift):
            return Eigenvalue(value, residual, done, True)
        last = value
        vector = _unit([part - shift * own for part, own in zip(image, vector, strict=True)])
    return Eigenvalue(value, residual, iterations, False)


def _unit(vector: Direction) -> list[Tensor]:
    length = float(global_norm(vector))
    return [part / length if length > 0 else part for part in vector]


def _value(loss: Loss) -> float:
    with torch.no_grad():
        return float(loss())
