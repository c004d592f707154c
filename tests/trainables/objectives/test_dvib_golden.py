"""DVIB in its released form against numbers of the released code, which was run with stored noise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.settings import SETTINGS
from trainables.data.bundle import DataBundle, Interactions
from trainables.layers.losses import embedding_norm
from trainables.layers.tensors import rows
from trainables.models.vbpr import VBPR
from trainables.objectives.dvib import DVIB, DVIBAdaptive, DVIBConstant
from trainables.seeding import torch_stream
from trainables.types import Batch, Hidden, Losses

CASES = [
    "vbpra__gd0.1_reg0.0",
    "vbpra__gd0.1_reg0.1",
    *(f"vbprc__gd0.1_reg{reg}_sigma{sigma}" for reg in ("0.0", "0.1") for sigma in ("0.001", "0.1")),
]
WEIGHTS = {
    "u_embedding": "user_embedding",
    "i_embedding": "item_embedding",
    "item_linear.weight": "projection.weight",
    "item_linear.bias": "projection.bias",
}
NOISE_NETWORK = {
    f"noise_level_net.{layer}.{part}": f"networks.0.{2 * index}.{part}"
    for index, layer in enumerate(("fc1", "fc2", "fc3"))
    for part in ("weight", "bias")
}
TOLERANCE = 1e-10


class ReleasedVBPR(VBPR):
    """VBPR with the released BPR, which adds 1e-10 inside its logarithm; ours, a softplus, differs by some 1e-10."""

    def loss(self, hidden: Hidden, batch: Batch) -> Losses:
        users, items = rows(hidden.users, batch.users), hidden.items
        positives, negatives = rows(items, batch.positives), rows(items, batch.negatives[:, 0])
        gaps = (users * positives).sum(1) - (users * negatives).sum(1)
        bpr = -(1e-10 + torch.sigmoid(gaps)).log().mean()
        return Losses.of(bpr=bpr, regularisation=self.config.reg_weight * embedding_norm(users, positives, negatives))


def released(hyper: Mapping[str, float]) -> dict[str, Any]:
    """The settings that a sweep calls `dvib_released`, and the exact rows."""
    values = {key.removeprefix("objective."): value for key, value in SETTINGS["dvib_released"].values.items()}
    values |= {"gamma_d": hyper["consistency_weight"], "distill_rows": 0}
    return values if "noise_level" not in hyper else {k: v for k, v in values.items() if k != "reg"}


def load(case: str, shared: Path) -> tuple[Any, VBPR, DVIB, Batch]:
    folder = shared / "golden/dvib_official" / case
    stored, hyper = np.load(folder / "vectors.npz"), json.loads((folder / "meta.json").read_text())["hyper"]
    users, positives, negatives = (torch.from_numpy(row).long() for row in stored["triples"])
    return stored, _vbpr(stored, hyper["reg_weight"]), _dvib(stored, hyper), Batch(users, positives, negatives[:, None])


@pytest.mark.parametrize("case", CASES)
def test_the_released_form_has_the_released_codes_loss_and_gradients(case: str, shared: Path) -> None:
    stored, model, dvib, batch = load(case, shared)
    fused = model.fuse()
    hidden = model.extract(fused)
    draws = {"joint": torch.from_numpy(stored["eps"])}
    losses = dvib.losses(model, batch, (fused, hidden, model.loss(hidden, batch)), draws)
    losses.total.backward()
    assert losses.total.item() == pytest.approx(float(stored["loss"]), abs=TOLERANCE)
    ours = {theirs: model.get_parameter(name) for theirs, name in WEIGHTS.items()}
    if isinstance(dvib, DVIBAdaptive):
        ours |= {theirs: dvib.get_parameter(name) for theirs, name in NOISE_NETWORK.items()}
    assert {f"grad/{name}" for name in ours} == {name for name in stored.files if name.startswith("grad/")}
    for name, parameter in ours.items():
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), stored[f"grad/{name}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_so_it_has_the_released_codes_representations_noise_and_prior(case: str, shared: Path) -> None:
    stored, model, dvib, _ = load(case, shared)
    with torch.no_grad():
        fused = model.fuse()
        scales, priors = dvib.noise(fused)
        noisy = dvib.perturbed(fused, scales, {"joint": torch.from_numpy(stored["eps"])})
        values = {
            "user_e": model.extract(fused).users,
            "item_e": model.extract(fused).items,
            "noisy_item_e": model.extract(noisy).items,
        }
    if isinstance(dvib, DVIBAdaptive):
        values |= {"H": fused["joint"], "phi": scales["joint"], "vib_loss": priors["noise_prior"]}
    kinds = ("param/", "grad/", "v_feat", "t_feat", "eps", "triples", "loss")
    assert set(values) == {name for name in stored.files if not name.startswith(kinds)}
    for name, value in values.items():
        np.testing.assert_allclose(value.detach().numpy(), stored[name], rtol=0, atol=TOLERANCE, err_msg=name)


def _vbpr(stored: Any, reg_weight: float) -> VBPR:
    features = {"text": stored["t_feat"].astype(np.float32), "image": stored["v_feat"].astype(np.float32)}
    pairs = Interactions(np.arange(5), np.arange(5))
    data = DataBundle("toy", "", {}, 5, 7, pairs, pairs, features)
    model = ReleasedVBPR(VBPR.Config(embedding_size=4, reg_weight=reg_weight), data, torch_stream(0, "x")).double()
    model.features = torch.from_numpy(np.concatenate([stored["t_feat"], stored["v_feat"]], axis=1))
    model.load_state_dict({ours: torch.from_numpy(stored[f"param/{theirs}"]) for theirs, ours in WEIGHTS.items()})
    return model


def _dvib(stored: Any, hyper: Mapping[str, float]) -> DVIB:
    shared = released(hyper)
    if "noise_level" in hyper:
        constant = DVIBConstant.Config(**shared, sigma=hyper["noise_level"])
        return DVIBConstant(constant, {"joint": 4}, torch_stream(0, "x"))
    adaptive = DVIBAdaptive(DVIBAdaptive.Config(**shared), {"joint": 4}, torch_stream(0, "x")).double()
    state = {ours: torch.from_numpy(stored[f"param/{theirs}"]) for theirs, ours in NOISE_NETWORK.items()}
    adaptive.load_state_dict(state)
    return adaptive
