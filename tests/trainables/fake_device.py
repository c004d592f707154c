"""One training step of every model, update and objective on a pretended accelerator, on a machine that has none.

PyTorch's fake tensors carry shapes, types and devices but no numbers. So a step runs on a device that does not exist,
and fails where it mixes devices, and where it would need a number: there a real device's host would have to wait.
PyTorch takes one such device a process, which is why this is a program: python fake_device.py CASE.., each case a JSON
object of flat keys; it prints one line a case, "ok" or the error.
"""

import json
import sys
import traceback
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.layers import dense
from trainables.layers.propagation import SparseOperator
from trainables.precision import matrix_products
from trainables.trainer import Trainer
from trainables.types import Batch, Losses, Moment
from trainables.updates.base import Stepper

DEVICE = "gpu"
BATCH_SIZE = 64


class FakeMatrix:
    """What a CSR matrix is on the pretended device, which has no such layout: the three tensors it consists of."""

    def __init__(self, starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> None:
        self.parts = starts, columns, values
        self.shape = torch.Size(shape)
        self.device, self.dtype = values.device, values.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def crow_indices(self) -> Tensor:
        return self.parts[0]

    def col_indices(self) -> Tensor:
        return self.parts[1]

    def values(self) -> Tensor:
        return self.parts[2]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        devices = {arg.device for arg in args}
        if len(devices) > 1:
            raise RuntimeError(f"one device must do, but {function.__name__} got {devices}")
        if function is Tensor.addmm_:
            result, matrix, dense = args
            return result.copy_(dense[:1].expand(len(matrix), -1))
        assert function is torch.sparse.sampled_addmm, function
        matrix, *_ = args
        return cls(*matrix.parts[:2], torch.empty_like(matrix.values()), matrix.shape)


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: Any, *, check_invariants: bool) -> FakeMatrix:
    assert not check_invariants  # a check would wait
    return FakeMatrix(starts, columns, values, tuple(shape))


def pretended(value: Tensor) -> Any:
    """The same on the pretended device, without its numbers."""
    if value.layout == torch.sparse_csr:
        with unset_fake_temporarily():
            parts = value.crow_indices(), value.col_indices(), value.values()
        return FakeMatrix(*(pretended(part) for part in parts), tuple(value.shape))
    return torch.empty(value.shape, dtype=value.dtype, device=DEVICE)


def move(module: nn.Module) -> None:
    """Puts every weight and buffer on the pretended device."""
    for part in module.modules():
        if isinstance(part, SparseOperator):
            part._transpose = pretended(part.transpose)
        for name, param in part._parameters.items():
            if param is not None:
                part._parameters[name] = nn.Parameter(pretended(param), requires_grad=param.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and buffer.layout == torch.sparse_csr:
                del part._buffers[name]  # which takes tensors only
                setattr(part, name, pretended(buffer))
            elif buffer is not None:
                part._buffers[name] = pretended(buffer)


def step(flat: dict[str, Any], data: DataBundle) -> None:
    """Two training steps, and the epoch's end up to the reading of its numbers."""
    trainer = Trainer(TrialConfig.from_flat({"data.name": "synthetic", **flat}), data)
    trainer._start_epoch(1)
    for part in trainer.model.modules():
        if isinstance(part, SparseOperator):
            assert part.transpose.layout == torch.sparse_csr  # made now, as a move to a real device does
    on_host = mock.patch("trainables.models.selfcf.uniform_rate", return_value=0.5)  # a number of the host's own
    sparse = mock.patch.object(torch, "sparse_csr_tensor", _csr)
    products = mock.patch.object(dense, "_wide_product", wraps=dense._wide_product)
    with FakeTensorMode(allow_non_fake_inputs=False), on_host, sparse, products as wide:
        move(trainer.model)
        move(trainer.objective)
        trainer.model.train()
        optimizer = trainer.config.optimizer
        parts = [*trainer.model.named_parameters(), *trainer.objective.named_parameters(prefix="objective")]
        trained = {name: param for name, param in parts if param.requires_grad}
        params = list(trained.values())
        stepper = Stepper(params, optimizer.build(params), names=list(trained), clip_norm=optimizer.clip_norm)
        for number in range(2):
            closures = [closure(trainer) for _ in range(trainer.update.batches_per_step)]
            with matrix_products(trainer.config.train.precision):
                losses = trainer.update(closures, stepper, Moment(1, number))
            assert losses.total.device.type == DEVICE, losses.total.device
        strays = [
            name for name, param in trained.items() if param.grad is not None and param.grad.device.type != DEVICE
        ]
        assert not strays, strays
        multiplied = [call.args for call in wide.call_args_list]
        rounds = trainer.config.train.precision == "bf16" and trainer.model.uses_features
        assert bool(multiplied) == rounds, f"{len(multiplied)} products in bfloat16"
        assert {factor.dtype for factors in multiplied for factor in factors} <= {torch.bfloat16}


def closure(trainer: Trainer) -> Any:
    """The loss of a batch on the pretended device."""
    negatives = 1 if trainer.model.uses_negatives else 0
    shapes = (BATCH_SIZE,), (BATCH_SIZE,), (BATCH_SIZE, negatives)
    batch = Batch(*(torch.empty(shape, dtype=torch.int64, device=DEVICE) for shape in shapes))

    def compute(*, fresh: bool = False) -> Losses:
        losses: Losses = trainer.objective(trainer.model, batch)
        trainer.model.remember(batch, losses.memory)
        return losses

    return compute


def main() -> None:
    """Runs the cases given as arguments."""
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend(DEVICE)
    cases = [json.loads(text) for text in sys.argv[1:]]
    data = load(DataConfig(name="synthetic"))
    for case in cases:
        try:
            step(case, data)
            print("ok", flush=True)
        except Exception as error:
            places = [f for f in traceback.extract_tb(error.__traceback__) if "/trainables/" in f.filename]
            where = "; ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.line}" for f in places[-2:])
            text = str(error).strip().splitlines() or [""]
            print(f"{type(error).__name__}: {text[0][:200]} at {where}", flush=True)


if __name__ == "__main__":
    main()
