"""Training on a real GPU; skipped where there is none. Everywhere else test_accelerator.py stands in for it."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.layers import dense
from trainables.layers.dense import product
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.precision import matrix_products
from trainables.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is False")

DEVICE = "cuda"
TOLERANCE = 0.05
"""Of losses' means on both devices, whose dropout and noise come from different generators."""

CAPPED = """
import torch
from trainables.shares import Resources, claim_device
device = claim_device(Resources(gpu=0.25))
total = torch.cuda.get_device_properties(device).total_memory
torch.empty(total // 8, dtype=torch.uint8, device=device)
try:
    torch.empty(total // 2, dtype=torch.uint8, device=device)
except torch.OutOfMemoryError:
    print("refused")
"""
PACKED = """
import sys
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.shares import Resources, claim_device
from trainables.trainer import Trainer
device = claim_device(Resources(gpu=0.25))
config = TrialConfig.from_flat({"data.name": "synthetic", "model.name": sys.argv[1], "train.max_epochs": 2})
trainer = Trainer(config, load(config.data), device=device)
print([trainer.run_epoch().losses["loss"] for _ in range(2)])
"""


@pytest.fixture(scope="module")
def data() -> DataBundle:
    return load(DataConfig(name="synthetic"))


def trainer(data: DataBundle, device: str, **flat: Any) -> Trainer:
    keys = {key.replace("__", "."): value for key, value in flat.items()}
    return Trainer(TrialConfig.from_flat({"data.name": "synthetic", "seed": 7, **keys}), data, device=device)


def started(script: str, *arguments: str) -> "subprocess.Popen[str]":
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


@pytest.mark.parametrize("model", MODELS)
def test_losses_and_scores_agree_with_those_of_a_cpu(data: DataBundle, model: str) -> None:
    there, here = (trainer(data, device, model__name=model) for device in (DEVICE, "cpu"))
    for _ in range(2):
        found, expected = there.run_epoch(), here.run_epoch()
        assert found.losses["loss"] == pytest.approx(expected.losses["loss"], rel=TOLERANCE)
    assert all(parameter.device.type == DEVICE for parameter in there.model.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_losses_in_bf16_agree_with_those_of_a_cpu_and_no_step_waits(data: DataBundle, model: str) -> None:
    there, here = (trainer(data, device, model__name=model, train__precision="bf16") for device in (DEVICE, "cpu"))
    for _ in range(2):
        found, expected = there.run_epoch(), here.run_epoch()
        assert found.losses["loss"] == pytest.approx(expected.losses["loss"], rel=TOLERANCE)
    assert_no_step_waits(trainer(data, DEVICE, model__name=model, train__precision="bf16"))


@pytest.mark.parametrize("update", ["descent", "mirror_gradient", "sam", "bsam_plus", "fisher_sam"])
@pytest.mark.parametrize("model", MODELS)
def test_no_step_of_an_update_waits_for_the_device(data: DataBundle, model: str, update: str) -> None:
    assert_no_step_waits(trainer(data, DEVICE, model__name=model, update__name=update))


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "plain"])
@pytest.mark.parametrize("model", ["vbpr", "bm3", "slmrec", "dragon"])
def test_no_step_of_an_objective_waits_for_the_device(data: DataBundle, model: str, objective: str) -> None:
    assert_no_step_waits(trainer(data, DEVICE, model__name=model, objective__name=objective))


def assert_no_step_waits(subject: Trainer) -> None:
    subject._start_epoch(1)
    groups = subject._groups(1)
    with matrix_products(subject.config.train.precision):
        subject._run_steps(groups[:2], 1)  # loads libraries and fills the allocator's cache
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            subject._run_steps(groups[:2], 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("update", ["descent", "bsam_plus"])
def test_a_restored_trial_goes_on_to_the_same_bits(data: DataBundle, update: str, precision: str) -> None:
    # VBPR has dense products only: of sparse ones on a GPU the order of the sums is not promised.
    numbers = {"model__name": "vbpr", "update__name": update, "train__precision": precision}
    first, second = (trainer(data, DEVICE, **numbers) for _ in range(2))
    first.run_epoch()
    second.restore(*copy.deepcopy(first.state()))  # an optimiser takes a state's tensors themselves
    assert first.run_epoch().losses == second.run_epoch().losses
    assert all(map(torch.equal, first.model.state_dict().values(), second.model.state_dict().values()))


def test_a_share_of_the_device_is_a_limit_on_its_memory() -> None:
    assert started(CAPPED).communicate(timeout=300)[0].strip() == "refused"


def test_packed_trials_train_side_by_side() -> None:
    trials = [started(PACKED, model) for model in ("lightgcn", "vbpr", "freedom", "lightgcn")]
    outputs = [trial.communicate(timeout=600)[0] for trial in trials]
    assert [trial.returncode for trial in trials] == [0, 0, 0, 0]
    assert outputs[0].startswith("[")


def test_tf32_rounds_products_and_float32_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    errors = {}
    for precision in ("float32", "tf32"):
        with matrix_products(precision):  # type: ignore[arg-type]
            errors[precision] = float(((left.to(DEVICE) @ right.to(DEVICE)).cpu() - exact).abs().max())
    assert errors["float32"] < 1e-3 < errors["tf32"] < 1


@pytest.mark.parametrize("shape", [(256, 512, 64), (1000, 300, 33), (17, 4097, 19)])
def test_bf16_rounds_factors_and_adds_up_in_float32(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(*shape[at : at + 2], generator=generator) for at in (0, 1))
    sizes = left.double().abs() @ right.double().abs()
    rounded = left.bfloat16().double() @ right.bfloat16().double()
    with matrix_products("bf16"):
        for mirrored in (False, True):
            pair = (right.t(), left.t()) if mirrored else (left, right)
            found = product(*(factor.to(DEVICE) for factor in pair)).cpu().double()
            found = found.t() if mirrored else found
            assert ((found - rounded).abs() <= shape[1] * 2**-22 * sizes).all()
    assert dense._has_wide_product(DEVICE), "torch.mm has no out_dtype here: bf16 goes by way of tf32"


def test_raw_features_are_rounded_once_a_trial(data: DataBundle) -> None:
    subject = trainer(data, DEVICE, model__name="vbpr", train__precision="bf16")
    subject.run_epoch()
    (held,) = [held for table, held in dense._CONSTANTS.items() if table is subject.model.get_buffer("features")]
    subject.run_epoch()
    assert held is not None and dense._CONSTANTS[subject.model.get_buffer("features")][1] is held[1]
