"""Optimisers without PyTorch's compiler: the same steps to the bit, and it is never imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.eager import bare_step
from trainables.optimizers import OPTIMIZERS

NUMBERS = {
    "adam": {"weight_decay": 0.01},
    "rmsprop": {"momentum": 0.9, "weight_decay": 0.01},
    "adagrad": {"initial_accumulator": 0.1},
    "sgd": {"momentum": 0.9, "weight_decay": 0.01},
}


def steps(name: str, *, bare: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 3), (5,))]
    optimizer = OPTIMIZERS[name](**NUMBERS[name]).build(weights)
    step = bare_step(optimizer) if bare else optimizer.step
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        step()
    state = [value for each in optimizer.state.values() for value in each.values() if isinstance(value, torch.Tensor)]
    return [*(weight.detach() for weight in weights), *state]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bare_step_is_the_optimisers_own_to_the_bit(name: str) -> None:
    own, bare = steps(name, bare=False), steps(name, bare=True)

    assert len(own) == len(bare)
    assert all(torch.equal(one, other) for one, other in zip(own, bare, strict=True))


def test_a_bare_step_leaves_gradients_on() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    bare_step(torch.optim.SGD([weight], lr=0.1))()

    assert torch.is_grad_enabled()
    assert weight.requires_grad


@pytest.mark.slow
def test_training_saving_and_restoring_never_import_the_compiler_or_what_it_brings() -> None:
    script = """
import sys
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.trainer import Trainer
for update in ("descent", "mirror_gradient", "sam", "bsam_plus"):
    for optimizer in ("adam", "rmsprop", "adagrad", "sgd"):
        config = TrialConfig.from_flat({"data.name": "synthetic", "model.name": "vbpr", "update.name": update,
            "optimizer.name": optimizer, "optimizer.clip_norm": 1.0})
        trainer = Trainer(config, load(config.data))
        trainer.run_epoch()
        tensors, numbers = trainer.state()
        Trainer(config, trainer.data).restore(tensors, numbers)
print({"torch._dynamo", "sympy"} & sys.modules.keys())
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )

    assert found.stdout == "set()\n", found.stderr
