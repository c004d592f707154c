"""Hypergraphs against explicit rounds of messages, and what their randomness must average to."""

import pytest
import torch
from torch import Tensor

from trainables.layers.hypergraph import cosine_factors, hyperedge_states, memberships


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def cosines_from_factors(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> Tensor:
    rows, columns = cosine_factors(left, right)
    return rows @ columns.T


def test_evaluation_is_a_plain_softmax_and_draws_nothing() -> None:
    logits, state = draw(7, 4), torch.get_rng_state()
    found = memberships(logits, 0.2, 0.5, False)
    exponents = (logits / 0.2).exp()
    torch.testing.assert_close(found, exponents / exponents.sum(1, keepdim=True), rtol=1e-12, atol=1e-12)
    assert torch.equal(state, torch.get_rng_state())


def test_training_adds_gumbel_noise_before_the_temperature() -> None:
    logits = draw(7, 4)
    torch.manual_seed(1)
    found = memberships(logits, 0.2, 0.0, True)
    torch.manual_seed(1)
    noise = -torch.empty(7, 4, dtype=torch.float64).exponential_().log()
    torch.testing.assert_close(found, torch.softmax((logits + noise) / 0.2, 1), rtol=1e-12, atol=1e-12)


def test_cold_noisy_memberships_choose_a_hyperedge_with_its_softmax_probability() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([1.0, 0.0, -1.0])
    shares = memberships(logits.expand(40_000, 3), 0.01, 0.0, True).mean(0)
    torch.testing.assert_close(shares, torch.softmax(logits, 0), rtol=0, atol=0.01)


def test_dropout_takes_its_share_of_entries_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    found = memberships(torch.zeros(30_000, 4), 5.0, 0.3, True)
    assert float((found == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(found.mean()) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_states_equal_rounds_of_messages(num_layers: int) -> None:
    members, embeddings = draw(9, 4), draw(9, 5)
    received = embeddings
    for _ in range(num_layers):
        states = members.T @ received
        received = members @ states
    torch.testing.assert_close(hyperedge_states(members, embeddings, num_layers), states, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_hyperedges", [1, 4, 8])
def test_factors_have_the_cosines_of_the_products_as_inner_products(num_hyperedges: int) -> None:
    left, right = ((draw(n, num_hyperedges), draw(num_hyperedges, 5)) for n in (9, 10))
    left[0][3], right[0][2] = 0.0, 0.0
    for factor in (*left, *right):
        factor.requires_grad_()
    found = cosines_from_factors(left, right)
    rows, columns = left[0] @ left[1], right[0] @ right[1]
    cosines = torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(columns).T
    torch.testing.assert_close(found, cosines, rtol=1e-9, atol=1e-12)
    assert not found[3].any() and not found[:, 2].any()
    weights = draw(*cosines.shape)
    weights[3], weights[:, 2] = 0.0, 0.0
    gradients = [torch.autograd.grad((weights * value).sum(), (*left, *right)) for value in (found, cosines)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_what_dropout_leaves_of_a_membership_may_be_next_to_nothing() -> None:
    logits = torch.tensor([[0.0, 9.0, 14.0], [0.0, 1.0, 18.0], [0.0, 1.0, 2.0]], requires_grad=True)
    kept = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    members, states = torch.softmax(logits / 0.2, 1) * kept, draw(3, 5).float()
    cosines = cosines_from_factors((members, states), (members, states))
    rows = torch.nn.functional.normalize(members @ states)
    torch.testing.assert_close(cosines, rows @ rows.T)
    assert 0 < float(members[1].detach().sum()) < 1e-38 and float(cosines[0, 0].detach()) == pytest.approx(1)
    (gradient,) = torch.autograd.grad(cosines.sum(), logits)
    assert torch.isfinite(gradient).all()
