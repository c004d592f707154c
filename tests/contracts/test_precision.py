"""Every model in bf16: its products with features are rounded while it trains, and nothing else is."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.layers import dense
from trainables.layers.features import project_rows
from trainables.layers.mean_aggregation import update_nodes
from trainables.models import MODELS
from trainables.precision import matrix_products
from trainables.trainer import Trainer

CLOSE = 0.01
"""Relative, of the first batch's loss."""


@pytest.fixture(scope="module")
def data() -> DataBundle:
    return load(DataConfig(name="synthetic"))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The sizes of all products that are rounded, as they come."""
    seen: list[tuple[int, ...]] = []
    multiply = dense._bf16_product

    def spy(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        seen.append((*left.shape, right.shape[1]))
        return multiply(left, right, bias)

    monkeypatch.setattr(dense, "_bf16_product", spy)
    yield seen


def trainer(data: DataBundle, model: str, precision: str, **more: Any) -> Trainer:
    sizes = {"model.embedding_size": 32, "train.batch_size": 3000, "seed": 7}
    return Trainer(TrialConfig.from_flat({"model.name": model, "train.precision": precision} | sizes | more), data)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_in_bf16_and_validates_in_float32(
    model: str, data: DataBundle, products: list[tuple[int, ...]]
) -> None:
    plain, rounded = (trainer(data, model, precision) for precision in ("float32", "bf16"))
    expected = plain.run_epoch()
    assert not products
    found = rounded.run_epoch()  # a loss that is not finite is an error
    assert plain.progress.first_loss is not None
    assert rounded.progress.first_loss == pytest.approx(plain.progress.first_loss, rel=CLOSE)
    assert found.validation is not None and found.validation.keys() == expected.validation.keys()
    if MODELS[model].uses_features:
        batches = rounded.batches_per_epoch
        assert len(products) >= 2 * batches  # forward and backward
        for modality in data.features.values():
            if model != "vbpr":  # which multiplies all modalities at once
                assert sum(modality.shape[1] in sizes for sizes in products) >= 2 * batches
    else:
        assert not products and found.losses == expected.losses and found.validation == expected.validation
    told = len(products)
    rounded.evaluate(rounded.evaluator)
    assert len(products) == told
    assert all(value.dtype != torch.bfloat16 for value in rounded.model.state_dict().values())


@pytest.mark.parametrize("model", MODELS)
def test_a_trial_in_bf16_resumes_to_the_same_bits(model: str, data: DataBundle) -> None:
    straight, resumed = (trainer(data, model, "bf16") for _ in range(2))
    straight.run_epoch()
    tensors, numbers = straight.state()
    resumed.restore({name: _copied(value) for name, value in tensors.items()}, numbers)
    assert straight.run_epoch().losses == resumed.run_epoch().losses
    assert all(map(torch.equal, straight.model.state_dict().values(), resumed.model.state_dict().values()))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return value


@pytest.mark.parametrize("objective", ["dvib_c", "dvib_a", "entropy"])
def test_nothing_behind_h_is_rounded_where_its_passes_are_compared(
    objective: str, data: DataBundle, products: list[tuple[int, ...]]
) -> None:
    """MMGCN takes narrow features into H as they are: what it multiplies is all behind H."""
    for name, expected in (("plain", True), (objective, False)):
        subject = trainer(data, "mmgcn", "bf16", **{"objective.name": name})
        subject._start_epoch(1)
        batch = subject._batches(1, 0)[0]
        with matrix_products("bf16"):
            subject.objective(subject.model, batch)
        assert bool(products) is expected
        products.clear()


class Multiplications(TorchDispatchMode):
    """Counts the products that PyTorch is asked for, by whoever."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", ["update_nodes", "rows of a trained table"])
def test_a_layer_leaves_no_product_unrounded(layer: str, products: list[tuple[int, ...]]) -> None:
    tables = [torch.randn(40, 32, requires_grad=True) for _ in range(3)]
    square, wide, bias = torch.randn(32, 32), torch.randn(32, 64), torch.zeros(32)
    with matrix_products("bf16"), Multiplications() as every:
        if layer == "update_nodes":
            weights = [weight.requires_grad_() for weight in (square, bias, wide, bias.clone())]
            result = update_nodes(*tables, *weights)
        else:
            projection = nn.Linear(32, 32)
            result = project_rows(tables[0], projection, torch.arange(20))
        result.sum().backward()
    assert every.count == len(products) == {"update_nodes": 9, "rows of a trained table": 3}[layer]
