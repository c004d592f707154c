"""The loss around a point, held to quadratics whose losses are known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.evaluation.landscape import (
    coordinates,
    directions,
    filter_normalised,
    loss_on_grid,
    place,
    random_direction,
    restored,
)
from trainables.seeding import torch_stream


def streams(*seeds):
    return [torch_stream(seed, "test") for seed in seeds]


def point(dtype=torch.float64) -> list[Tensor]:
    """A matrix with a row of zeros, a vector, a single number and a tensor of three dimensions."""
    matrix = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-1.0, 1.0]])
    others = torch.tensor([1.0, -2.0]), torch.tensor(5.0), torch.arange(8.0).view(2, 2, 2)
    return [value.to(dtype).requires_grad_() for value in (matrix, *others)]


def weighted_squares(params):
    """½ Σ a x² with other weights a in every entry, whose loss at any point is written down below."""
    weights = [torch.linspace(1, 2, p.numel(), dtype=p.dtype).view(p.shape) for p in params]
    return lambda: 0.5 * sum((a * p**2).sum() for a, p in zip(weights, params, strict=True)), weights


@pytest.mark.parametrize("mode", ["filter_norm", "paper"])
def test_the_grid_has_the_loss_of_every_point_in_order(mode):
    params = point()
    loss, weights = weighted_squares(params)
    along = directions(params, mode, streams(0, 1))
    steps = coordinates(5, 2.0).tolist()
    grid = loss_on_grid(loss, params, along, steps)
    assert [(p.x, p.y) for p in grid] == [(x, y) for y in (-2, -1, 0, 1, 2) for x in (-2, -1, 0, 1, 2)]
    flat, first, second, a = (
        np.concatenate([t.detach().numpy().ravel() for t in tensors]) for tensors in (params, *along, weights)
    )
    expected = [0.5 * (a * (flat + p.x * first + p.y * second) ** 2).sum() for p in grid]
    np.testing.assert_allclose([p.loss for p in grid], expected, rtol=1e-12)
    assert grid[12].loss == loss().item()


def test_one_direction_makes_a_line():
    params = point()
    loss, _ = weighted_squares(params)
    line = loss_on_grid(loss, params, directions(params, "filter_norm", streams(0)), [-1.0, 0.0, 1.0])
    plane = loss_on_grid(loss, params, directions(params, "filter_norm", streams(0, 1)), [-1.0, 0.0, 1.0])
    assert [(p.x, p.y, p.loss) for p in line] == [(p.x, None, p.loss) for p in plane[3:6]]
    with pytest.raises(ValueError, match="1 or 2 directions, but got 0"):
        loss_on_grid(loss, params, [], [0.0])


def test_rows_of_a_normalised_direction_have_the_norms_of_the_rows_of_weights():
    params = point()
    drawn = random_direction(params, *streams(3))
    normalised = filter_normalised(drawn, params)
    for part, own, param in zip(normalised, drawn, params, strict=True):
        if param.ndim < 2:
            assert not part.any()
            continue
        for row, original, filter_ in zip(part, own, param, strict=True):
            assert row.norm().item() == pytest.approx(filter_.norm().item(), abs=1e-12)
            assert torch.allclose(row * original.norm(), original * filter_.norm())
    zeros = filter_normalised([torch.zeros_like(p) for p in params], params)
    assert not any(part.any() for part in zeros)


def test_paper_directions_are_normal_in_every_tensor_and_both_modes_draw_the_same():
    params = [torch.full((300, 200), 0.1), torch.zeros(50000)]
    (drawn,), (scaled,) = (directions(params, mode, streams(4)) for mode in ("paper", "filter_norm"))
    for part in drawn:
        assert abs(part.mean()) < 4 * part.numel() ** -0.5
        assert part.std().item() == pytest.approx(1, abs=4 * (2 * part.numel()) ** -0.5)
    assert torch.allclose(torch.nn.functional.normalize(drawn[0]), torch.nn.functional.normalize(scaled[0]), atol=1e-6)


def test_directions_hang_on_their_streams_alone():
    one, again, other = (random_direction(point(), *streams(seed)) for seed in (1, 1, 2))
    single = random_direction(point(torch.float32), *streams(1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert all(torch.equal(a, b.double()) for a, b in zip(one, single, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("points", "extent"), [(21, 1.0), (20, 100.0), (7, 0.3), (2, 1.0)])
def test_coordinates_are_those_of_linspace_in_exact_pairs(points, extent):
    found = coordinates(points, extent)
    np.testing.assert_allclose(found, np.linspace(-extent, extent, points), rtol=1e-12, atol=1e-12)
    assert np.array_equal(found, -found[::-1]) and (0 in found) == (points % 2 == 1)


class StopError(Exception):
    pass


def test_weights_come_back_to_the_same_bits_also_when_the_loss_raises():
    params = [
        torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(),
        torch.tensor([-0.0, 1e-42]),
    ]
    kept = [p.detach().clone() for p in params]
    calls = []

    def loss():
        calls.append(params[0].detach().clone())
        if len(calls) == 4:
            raise StopError
        return params[0].sum()

    along = directions(params, "paper", streams(0, 1))
    with pytest.raises(StopError):
        loss_on_grid(loss, params, along, [-1.0, 1.0])
    loss_on_grid(loss, params, along, [-1.0, 0.3])
    assert not torch.equal(calls[0], kept[0])
    for param, value in zip(params, kept, strict=True):
        assert torch.equal(param.detach().view(torch.int32), value.view(torch.int32))
    assert params[0].requires_grad and params[0].grad is None


def test_the_centre_is_placed_with_its_own_bits():
    params = [torch.tensor([-0.0, 0.1])]
    with restored(params) as centre:
        place(params, centre, [(0.5, [torch.ones(2)])])
        place(params, centre, [(0.0, [torch.full((2,), torch.inf)])])
        assert torch.equal(params[0].view(torch.int32), centre[0].view(torch.int32))
