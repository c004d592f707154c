"""Training steps on a pretended accelerator (fake_device.py): everything is on it, and nothing waits for it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.devices import first_places
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.updates import UPDATES

SCRIPT = Path(__file__).with_name("fake_device.py")
WITHOUT_FEATURES = ("lightgcn", "ngcf", "layergcn", "selfcf")
DISTANCES = ("l1", "l1_tensor", "l1_row", "l1_mean", "loss_gap", "loss_vs_ema", "neg_ema", "constant", "cosine")

Case = Mapping[str, Any]


def outcomes(cases: Sequence[Case]) -> dict[str, str]:
    """What became of each case that was not "ok"."""
    texts = [json.dumps(case) for case in cases]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), *texts]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(texts), done.stderr[-2000:]
    return {text: line for text, line in zip(texts, lines, strict=True) if line != "ok"}


def of_updates(models: Sequence[str], updates: Sequence[str]) -> list[Case]:
    return [{"model.name": model, "update.name": update} for model in models for update in updates]


def of_objectives(models: Sequence[str]) -> list[Case]:
    names = [name for name in OBJECTIVES if name != "plain"]
    pairs = [(model, name) for model in models for name in names if name != "amr" or model not in WITHOUT_FEATURES]
    return [{"model.name": model, "objective.name": name} for model, name in pairs]


def test_a_step_of_three_models_stays_on_the_device_and_waits_for_nothing() -> None:
    cases = [*of_updates(["slmrec"], ["sam"]), *of_updates(["dragon"], ["bsam_plus"]), *of_objectives(["vbpr"])]
    assert outcomes(cases) == {}


@pytest.mark.slow
def test_a_step_in_bf16_multiplies_features_in_bfloat16_and_waits_for_nothing() -> None:
    assert outcomes([{"model.name": model, "train.precision": "bf16"} for model in MODELS]) == {}


def test_a_step_that_must_wait_is_found() -> None:
    case = {"model.name": "vbpr", "objective.name": "dvib_c", "objective.distill_items": "batch"}
    (found,) = outcomes([case]).values()
    assert found.startswith("DynamicOutputShapeException") and "torch.unique" in found


@pytest.mark.slow
def test_a_step_of_every_model_and_update_stays_on_the_device_and_waits_for_nothing() -> None:
    names = ["descent", "mirror_gradient", "sam", "bsam_plus", "fisher_sam", "asam", "friendly_sam"]
    assert outcomes([*of_updates(list(MODELS), names), *of_updates(["lightgcn"], list(UPDATES))]) == {}


@pytest.mark.slow
def test_a_step_of_every_model_and_objective_stays_on_the_device_and_waits_for_nothing() -> None:
    assert outcomes(of_objectives(list(MODELS))) == {}


@pytest.mark.slow
def test_variants_and_optimisers_stay_on_the_device_and_wait_for_nothing() -> None:
    cases: list[Case] = [{"update.name": "bsam", "update.distance": name} for name in (*DISTANCES, "projection")]
    cases += [{"optimizer.name": name, "optimizer.clip_norm": 1.0} for name in ("adam", "rmsprop", "adagrad", "sgd")]
    cases += [
        {"update.name": "fisher_sam", "update.scale": "relative"},
        {"update.name": "gnp", "update.normalised": True},
    ]
    cases += [{"update.name": "bsam_plus", "update.mask_inactive_rows": True, "update.ema_batches": "both"}]
    cases += [{"update.name": "mirror_gradient", "update.mode": mode} for mode in ("fused", "sgd_half")]
    cases += [{"objective.name": "amr", "objective.adversary": "random"}]
    cases += [{"objective.name": "dvib_c", "objective.distill_rows": 0, "objective.noise": "dropout"}]
    cases = [{"model.name": "vbpr", **case} for case in cases]
    cases += [{"model.name": "selfcf", "model.variant": variant} for variant in ("he", "ep")]
    cases += [{"model.name": "ngcf", "model.node_dropout": 0.2, "model.regulariser": "norm"}]
    cases += [{"model.name": name, "model.compat": "mmrec"} for name in ("mmgcn", "dualgnn", "grcn")]
    cases += [{"model.name": "vbpr", "objective.name": name, "train.precision": "bf16"} for name in OBJECTIVES]
    cases += [{"model.name": "mmgcn", "update.name": name, "train.precision": "bf16"} for name in ("sam", "bsam_plus")]
    assert outcomes(cases) == {}


def test_first_places_are_where_an_id_occurs_for_the_first_time() -> None:
    ids = torch.tensor([3, 1, 3, 3, 2, 1])
    assert first_places(ids).tolist() == [True, True, False, False, True, False]
