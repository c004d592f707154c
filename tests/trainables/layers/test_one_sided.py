"""One-sided propagation against the propagation of both sides."""

import pytest
import torch

from trainables.data.bundle import DataBundle
from trainables.layers.one_sided import one_sided_propagation
from trainables.layers.propagation import SparseOperator, light_propagation


@pytest.mark.parametrize("num_layers", range(1, 7))
def test_the_parts_of_both_sides_add_up_to_the_whole_propagation(num_layers: int, toy: DataBundle) -> None:
    to_users, to_items = SparseOperator(toy.bipartite()).double(), SparseOperator(toy.bipartite().transpose()).double()
    users, items = torch.randn(toy.num_users, 3).double(), torch.randn(toy.num_items, 3).double()
    own_users, user_bridge = one_sided_propagation(to_items, users, num_layers)
    own_items, item_bridge = one_sided_propagation(to_users, items, num_layers)
    found = own_users + to_users(item_bridge), own_items + to_items(user_bridge)
    torch.testing.assert_close(found, light_propagation(to_users, users, items, num_layers), rtol=1e-12, atol=1e-12)
