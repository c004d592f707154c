"""Users with the mean of their neighbours, rows of them, against the whole dense product."""

import numpy as np
import pytest
import torch

from trainables.layers.graphs import CsrArrays
from trainables.layers.user_attention import UserAttention
from trainables.layers.user_graph import padding_repeats, softmax_rows

NEIGHBOURS = CsrArrays(
    indptr=np.array([0, 2, 2, 3, 6, 7], dtype=np.int32),
    indices=np.array([2, 3, 0, 0, 1, 4, 3], dtype=np.int32),
    values=np.array([2.0, 1.0, 2.0, 1.0, 1.0, 3.0, 3.0]),
    shape=(5, 5),
)
LENGTH = 4
IDS = torch.tensor([3, 1, 3, 0])


def dense(repeats: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.eye(5) + softmax_rows(NEIGHBOURS, repeats).to_scipy().toarray())


def table(seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_rows_and_gradients_are_those_of_the_dense_product() -> None:
    attention, users, upstream = UserAttention(NEIGHBOURS, LENGTH).double().eval(), table(), torch.randn(4, 3).double()
    found = attention(users, IDS)
    expected = (dense(np.ones(7, dtype=np.int64)) @ users)[IDS]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((rows * upstream).sum(), users)[0] for rows in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_training_sees_the_last_padding_and_evaluation_none() -> None:
    attention, users = UserAttention(NEIGHBOURS, LENGTH).double(), table()
    everyone = torch.arange(5)
    before = attention.train()(users, everyone)
    for seed in (1, 2):
        attention.redraw(np.random.default_rng(seed))
        padded = dense(padding_repeats(NEIGHBOURS, LENGTH, np.random.default_rng(seed)))
        torch.testing.assert_close(attention.train()(users, everyone), padded @ users, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(padded @ users, before)
        assert torch.equal(attention.eval()(users, everyone), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_padding_has_the_precision_of_the_old_one(dtype: torch.dtype) -> None:
    attention = UserAttention(NEIGHBOURS, LENGTH).to(dtype)
    attention.redraw(np.random.default_rng(0))
    assert attention.drawn.matrix.dtype == attention(table().to(dtype), IDS).dtype == dtype
    assert not attention.state_dict()


def test_users_without_neighbours_stay_themselves() -> None:
    lonely = CsrArrays(np.zeros(4, np.int32), np.zeros(0, np.int32), np.zeros(0), (3, 3))
    attention, users = UserAttention(lonely, LENGTH).double(), table()[:3]
    attention.redraw(np.random.default_rng(0))
    assert torch.equal(attention(users, torch.arange(3)), users)


def test_rows_that_are_only_looked_up_need_no_transpose(monkeypatch: pytest.MonkeyPatch) -> None:
    def transpose(graph: CsrArrays) -> CsrArrays:
        raise AssertionError("a graph was transposed")

    monkeypatch.setattr(CsrArrays, "transpose", transpose)
    attention, users = UserAttention(NEIGHBOURS, LENGTH).double(), table()
    attention.redraw(np.random.default_rng(0))
    for mode in (True, False):
        attention.train(mode)(users, IDS).sum().backward()
    assert users.grad is not None
