"""DVIB: its identities, its divergences, and parity with the released code's numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.bundle import DataBundle, Interactions
from trainables.layers.divergences import jensen_shannon, released_divergence
from trainables.models.lightgcn import LightGCN
from trainables.models.vbpr import VBPR
from trainables.objectives.dvib import DVIB, DVIBAdaptive, DVIBConstant
from trainables.objectives.plain import Plain
from trainables.seeding import torch_stream
from trainables.types import Batch


@given(st.integers(0, 10_000), st.floats(0.1, 30))
def test_js_is_zero_for_equals_symmetric_and_at_most_log_two(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = (spread * torch.randn(4, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    assert float(jensen_shannon(left, left)) == 0
    assert float(jensen_shannon(left, right)) == pytest.approx(float(jensen_shannon(right, left)), abs=1e-12)
    assert 0 <= float(jensen_shannon(left, right)) <= math.log(2) + 1e-12


def test_divergences_have_the_stored_values(shared: Path) -> None:
    stored = np.load(shared / "golden/dvib_official/js_divergence/vectors.npz")
    left, right = torch.from_numpy(stored["logits_a"]), torch.from_numpy(stored["logits_b"])
    assert float(jensen_shannon(left, right)) == pytest.approx(float(stored["true_js_mean"]), abs=1e-12)
    assert float(released_divergence(left, right)) == pytest.approx(float(stored["released_js"]), abs=1e-10)
    assert float(released_divergence(left, left)) == pytest.approx(float(stored["released_js_aa"]), abs=1e-10)


def batch_of(data: DataBundle) -> Batch:
    users, items = torch.from_numpy(data.train.users[:12].copy()), torch.from_numpy(data.train.items[:12].copy())
    return Batch(users, items, ((items + 3) % data.num_items)[:, None])


def test_without_noise_and_weights_it_is_the_plain_loss(toy: DataBundle) -> None:
    model = LightGCN(LightGCN.Config(), toy, torch_stream(0, "init"))
    config = DVIBConstant.Config(gamma_0=0, gamma_d=0, sigma=0)
    dvib = DVIBConstant(config, {"users": 64, "items": 64}, torch_stream(0, "o"))
    plain = Plain(Plain.Config(), {}, torch_stream(0, "o"))
    assert torch.equal(dvib(model, batch_of(toy)).total, plain(model, batch_of(toy)).total)


def test_without_noise_the_perturbed_pass_is_the_clean_one(toy: DataBundle) -> None:
    model = LightGCN(LightGCN.Config(), toy, torch_stream(0, "init"))
    dvib = DVIBConstant(DVIBConstant.Config(sigma=0), {"users": 64, "items": 64}, torch_stream(0, "o"))
    losses = dvib(model, batch_of(toy))
    clean = losses.parts["bpr"] + losses.parts["regularisation"]
    assert torch.equal(losses.parts["perturbed"], clean) and float(losses.parts["distillation"].detach()) == 0


def test_noise_makes_the_distillation_positive(toy: DataBundle) -> None:
    model = LightGCN(LightGCN.Config(), toy, torch_stream(0, "init"))
    dvib = DVIBConstant(DVIBConstant.Config(sigma=0.5), {"users": 64, "items": 64}, torch_stream(0, "o"))
    assert float(dvib(model, batch_of(toy)).parts["distillation"].detach()) > 0


def test_the_noise_prior_is_a_kl_divergence(toy: DataBundle) -> None:
    dvib = DVIBAdaptive(DVIBAdaptive.Config(gamma_r=1.0, prior_std=0.3), {"joint": 6}, torch_stream(0, "o"))
    h = torch.randn(20, 6)
    scales, terms = dvib.noise({"joint": h})
    noise = torch.distributions.Normal(h, scales["joint"].expand_as(h))
    expected = torch.distributions.kl_divergence(noise, torch.distributions.Normal(0.0, 0.3)).mean()
    torch.testing.assert_close(terms["noise_prior"], expected)


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


@pytest.mark.parametrize("case", CASES)
def test_the_released_form_has_the_released_codes_loss_and_gradients(case: str, shared: Path) -> None:
    folder = shared / "golden/dvib_official" / case
    stored, meta = np.load(folder / "vectors.npz"), json.loads((folder / "meta.json").read_text())
    users, positives, negatives = (torch.from_numpy(row).long() for row in stored["triples"])
    model = _vbpr(stored, meta["hyper"]["reg_weight"])
    dvib = _dvib(stored, meta["hyper"])
    batch = Batch(users, positives, negatives[:, None])
    fused = model.fuse()
    hidden = model.extract(fused)
    clean = model.loss(hidden, batch)
    losses = dvib.losses(model, batch, (fused, hidden, clean), {"joint": torch.from_numpy(stored["eps"])})
    losses.total.backward()
    # The released BPR adds 1e-10 inside its logarithm, ours is a softplus: the difference is at most some 1e-9.
    assert losses.total.item() == pytest.approx(float(stored["loss"]), abs=1e-8)
    for theirs, ours in WEIGHTS.items():
        gradient = model.get_parameter(ours).grad
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), stored[f"grad/{theirs}"], atol=1e-8)


def _vbpr(stored: object, reg_weight: float) -> VBPR:
    features = {"text": stored["t_feat"].astype(np.float32), "image": stored["v_feat"].astype(np.float32)}
    pairs = Interactions(np.arange(5), np.arange(5))
    data = DataBundle("toy", "", {}, 5, 7, pairs, pairs, features)
    model = VBPR(VBPR.Config(embedding_size=4, reg_weight=reg_weight), data, torch_stream(0, "x")).double()
    model.features = torch.from_numpy(np.concatenate([stored["t_feat"], stored["v_feat"]], axis=1))
    model.load_state_dict({ours: torch.from_numpy(stored[f"param/{theirs}"]) for theirs, ours in WEIGHTS.items()})
    return model


def _dvib(stored: object, hyper: dict[str, float]) -> DVIB:
    shared = {"gamma_d": hyper["consistency_weight"], "distill": "released", "combine": "convex", "distill_rows": None}
    if "noise_level" in hyper:
        config = DVIBConstant.Config.model_validate({**shared, "sigma": hyper["noise_level"]})
        return DVIBConstant(config, {"joint": 4}, torch_stream(0, "x"))
    adaptive = DVIBAdaptive(DVIBAdaptive.Config.model_validate(shared), {"joint": 4}, torch_stream(0, "x")).double()
    state = {}
    for index, layer in enumerate(("fc1", "fc2", "fc3")):
        for part in ("weight", "bias"):
            value = stored[f"param/noise_level_net.{layer}.{part}"]
            state[f"networks.0.{2 * index}.{part}"] = torch.from_numpy(value)
    adaptive.load_state_dict(state)
    return adaptive
