"""The encoder of DualGNN and DRAGON against its formula."""

import numpy as np
import pytest
import torch

from trainables.layers.graphs import normalised_bipartite
from trainables.layers.modal_encoder import ModalEncoder, modality_weights, weighted_parts
from trainables.layers.propagation import SparseOperator

FEATURES = {
    name: np.random.default_rng(len(name)).standard_normal((4, width)).astype(np.float32)
    for name, width in (("text", 5), ("image", 7))
}
EDGES = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])  # user 3 and item 2 have none


def encoder(seed: int = 0, num_layers: int = 2) -> ModalEncoder:
    return ModalEncoder(FEATURES, 4, (6, 3), num_layers, torch.Generator().manual_seed(seed)).double()


def graph() -> SparseOperator:
    return SparseOperator(normalised_bipartite(*EDGES, 4, 4, epsilon=0.0)).double()


def test_content_is_a_perceptron_of_the_constant_features() -> None:
    model = encoder()
    contents = model.contents()
    assert list(contents) == ["text", "image"]
    for m, (name, features) in enumerate(FEATURES.items()):
        hidden = torch.from_numpy(features).double() @ model.inner[m].weight.T + model.inner[m].bias
        hidden = torch.maximum(hidden, 0.01 * hidden)
        expected = hidden @ model.outer[m].weight.T + model.outer[m].bias
        torch.testing.assert_close(contents[name], expected, rtol=1e-12, atol=1e-12)
    assert not any("features" in name for name in model.state_dict())


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_representations_are_the_sum_of_the_hops_of_unit_rows(num_layers: int) -> None:
    model, half = encoder(num_layers=num_layers), graph().matrix.to_dense()
    users, items = model(model.contents(), graph())
    adjacency = torch.zeros(8, 8, dtype=torch.float64)
    adjacency[:4, 4:], adjacency[4:, :4] = half, half.T
    for m, content in enumerate(model.contents().values()):
        x = torch.cat([model.preferences[m], content])
        x = x / x.norm(dim=1, keepdim=True)
        total = sum(torch.linalg.matrix_power(adjacency, hops) @ x for hops in range(num_layers + 1))
        torch.testing.assert_close(torch.cat([users[m], items[m]]), total, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(users[m][3].norm().item(), 1.0)


def test_rows_of_zeros_pass_on_neither_values_nor_nan() -> None:
    model = encoder()
    contents = {name: torch.zeros(4, 3, dtype=torch.float64, requires_grad=True) for name in FEATURES}
    users, items = model(contents, graph())
    assert not items[0][2].any()
    (users[0].sum() + items[0].sum()).backward()
    gradient = contents["text"].grad
    assert gradient is not None and not gradient.any()


def test_the_penalty_counts_a_user_as_often_as_the_batch_does() -> None:
    model = encoder()
    expected = sum(np.mean([p[u].square().mean().item() for u in (1, 3, 1)]) for p in model.preferences)
    assert model.preference_penalty(torch.tensor([1, 3, 1])).item() == pytest.approx(expected)


def test_weights_come_from_the_generator_alone() -> None:
    first, again, other = encoder(0), encoder(0), encoder(1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]) and not torch.equal(value, other.state_dict()[name])


def test_modality_weights_are_the_softmax_of_a_glorot_normal_draw() -> None:
    weights = modality_weights(20_000, 2, torch.Generator().manual_seed(0))
    assert weights.requires_grad and weights.shape == (20_000, 2)
    torch.testing.assert_close(weights.sum(1), torch.ones(20_000))
    drawn = (weights[:, 0] / weights[:, 1]).log()  # the difference of two draws
    assert drawn.std().item() == pytest.approx((2 * 2 / 20_002) ** 0.5, rel=0.03)


def test_each_user_has_its_own_weight_of_each_modality() -> None:
    parts = weighted_parts([torch.ones(2, 3), torch.full((2, 3), 2.0)], torch.tensor([[1.0, 10.0], [3.0, 5.0]]))
    assert [part[:, 0].tolist() for part in parts] == [[1.0, 3.0], [20.0, 10.0]]
