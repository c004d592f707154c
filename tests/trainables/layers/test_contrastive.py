"""Contrasts against the plain formulas, whose similarity matrix is written out."""

import pytest
import torch
from torch import Tensor

from trainables.layers import contrastive
from trainables.layers.contrastive import contrast_with_all, in_batch_infonce

LEFT = torch.tensor([0, 2, 2, 5, 1, 0, 2])
RIGHT = torch.tensor([3, 1, 3, 3, 0, 2, 1])
# Scale, temperature and tolerance; the last has logits of a million, with so much less precision after the point.
NUMBERS = [(1.0, 0.2, 1e-12), (1.0, 5.0, 1e-12), (30.0, 0.01, 1e-8)]


def table(seed: int, height: int, width: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(height, width, generator=generator, dtype=torch.float64)).requires_grad_()


def plain_infonce(left: Tensor, right: Tensor, pairs: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    logits = left[pairs[0]] @ right[pairs[1]].T / temperature
    return torch.stack([torch.logsumexp(row, 0) - row[b] for b, row in enumerate(logits)]).mean()


def plain_contrast(left: Tensor, right: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    terms = []
    for b in chosen.tolist():
        logits = torch.stack([left[b] @ candidate for candidate in right]) / temperature
        terms.append(torch.logsumexp(logits, 0) - logits[b])
    return torch.stack(terms).sum()


def assert_equal_with_gradients(fast: Tensor, plain: Tensor, tables: tuple[Tensor, Tensor], tolerance: float) -> None:
    # An upstream gradient other than 1, as a loss weight brings it.
    found = torch.autograd.grad(-2.5 * fast, tables)
    expected = torch.autograd.grad(-2.5 * plain, tables)
    torch.testing.assert_close(fast, plain, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=[1, 9, 1 << 19], ids=lambda size: f"blocks of {size}")
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a block, a short last block, and one block for everything."""
    monkeypatch.setattr(contrastive, "_BLOCK", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize(("scale", "temperature", "tolerance"), NUMBERS)
def test_infonce_equals_its_formula_with_repeated_rows(
    width: int, scale: float, temperature: float, tolerance: float
) -> None:
    tables = table(0, 6, width, scale), table(1, 4, width, scale)
    fast = in_batch_infonce(*tables, (LEFT, RIGHT), temperature)
    assert_equal_with_gradients(fast, plain_infonce(*tables, (LEFT, RIGHT), temperature), tables, tolerance)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize(("scale", "temperature", "tolerance"), NUMBERS)
def test_a_contrast_with_all_rows_equals_its_formula(
    width: int, scale: float, temperature: float, tolerance: float
) -> None:
    tables = table(2, 6, width, scale), table(3, 6, width, scale)
    fast = contrast_with_all(*tables, LEFT, temperature)
    assert_equal_with_gradients(fast, plain_contrast(*tables, LEFT, temperature), tables, tolerance)


def test_logits_far_beyond_the_range_of_exp_do_not_overflow() -> None:
    tables = table(4, 6, 3, 1e4).float(), table(5, 4, 3, 1e4).float()
    value = in_batch_infonce(*tables, (LEFT, RIGHT), 1.0)
    gradients = torch.autograd.grad(value, tables)
    assert float(value.detach()) > 1e6 and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    torch.testing.assert_close(value, plain_infonce(*tables, (LEFT, RIGHT), 1.0))


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_a_known_bound_changes_nothing_but_the_time(temperature: float) -> None:
    tables = [torch.nn.functional.normalize(table(seed, 6, 3)).detach().requires_grad_() for seed in range(2)]
    values = [contrast_with_all(tables[0], tables[1], LEFT, temperature, *bound) for bound in ((), (1.0,))]
    assert_equal_with_gradients(values[0], values[1], (tables[0], tables[1]), 1e-12)


def test_one_table_alone_may_want_a_gradient() -> None:
    tables = table(6, 6, 3), table(7, 4, 3)
    expected = torch.autograd.grad(in_batch_infonce(*tables, (LEFT, RIGHT), 0.2), tables)
    for wanted in range(2):
        given = [t if i == wanted else t.detach() for i, t in enumerate(tables)]
        (found,) = torch.autograd.grad(in_batch_infonce(given[0], given[1], (LEFT, RIGHT), 0.2), tables[wanted])
        assert torch.equal(found, expected[wanted])


def test_no_gradient_is_computed_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = table(8, 6, 3), table(9, 4, 3)
    value = in_batch_infonce(left, right, (LEFT, RIGHT), 0.2).detach()
    monkeypatch.delattr(contrastive, "_with_gradients")
    with torch.no_grad():
        torch.testing.assert_close(in_batch_infonce(left, right, (LEFT, RIGHT), 0.2), value, rtol=1e-14, atol=0)
    frozen = in_batch_infonce(left.detach(), right.detach(), (LEFT, RIGHT), 0.2)
    torch.testing.assert_close(frozen, value, rtol=1e-14, atol=0)


def test_no_matrix_of_similarities_is_saved() -> None:
    left, right = table(10, 300, 3), table(11, 200, 3)
    sizes: list[int] = []

    def note(saved: Tensor) -> Tensor:
        sizes.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        in_batch_infonce(left, right, (torch.arange(150), torch.arange(150)), 0.2)
    assert sizes and max(sizes) <= 300 * 3
