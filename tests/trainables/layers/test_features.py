"""Projections of a batch's items against projections of all items."""

import numpy as np
import pytest
import torch

from trainables.layers.features import FrozenFeatures, ProjectedFeatures, batch_items, project_rows
from trainables.layers.tensors import linear_default
from trainables.types import Batch

BATCH = Batch(torch.tensor([0, 1, 2]), torch.tensor([5, 2, 5]), torch.tensor([[7, 2], [0, 7], [5, 0]]))


def test_the_items_of_a_batch_are_its_distinct_positives_and_negatives() -> None:
    items = batch_items(BATCH)
    assert items is not None and items.tolist() == [0, 2, 5, 7]
    assert batch_items(None) is None


@pytest.mark.parametrize("trainable", [True, False])
def test_projected_rows_equal_those_of_the_whole_table(trainable: bool) -> None:
    table = torch.randn(600, 5, dtype=torch.float64, requires_grad=trainable)
    projection = linear_default(5, 3, torch.Generator().manual_seed(0)).double()
    items = torch.arange(0, 600, 2)
    upstream = torch.randn(600, 3, dtype=torch.float64)
    upstream[1::2] = 0
    inputs = [projection.weight, projection.bias, *([table] if trainable else [])]
    some, every = project_rows(table, projection, items), project_rows(table, projection, None)
    torch.testing.assert_close(some[items], every[items], rtol=1e-12, atol=1e-12)
    assert not some[1::2].any()
    gradients = [torch.autograd.grad(result, inputs, upstream) for result in (some, every)]
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_what_arrives_at_rows_that_were_not_projected_is_dropped() -> None:
    table = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    projection = linear_default(2, 3, torch.Generator().manual_seed(0)).double()
    project_rows(table, projection, torch.tensor([1])).sum().backward()
    assert table.grad is not None and table.grad[1].any() and not table.grad[[0, 2, 3]].any()


def test_frozen_features_share_the_memory_of_the_data_set() -> None:
    array = np.ones((3, 2), dtype=np.float32)
    frozen = FrozenFeatures({"image": array})
    assert frozen["image"].data_ptr() == array.ctypes.data
    assert not list(frozen.parameters()) and not frozen.state_dict()


def test_trainable_features_start_as_a_copy_of_the_raw_ones() -> None:
    array = np.ones((3, 2), dtype=np.float32)
    features = ProjectedFeatures({"image": array}, lambda width: linear_default(width, 4, torch.Generator()))
    assert torch.equal(features.tables[0], torch.ones(3, 2)) and features.tables[0].data_ptr() != array.ctypes.data
