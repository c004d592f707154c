"""The precision of products: switched for training alone, and tf32 without effect on a CPU."""

from types import SimpleNamespace

import pytest
import torch

from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import ConfigError
from trainables.precision import matrix_products, rounds_factors, unrounded
from trainables.trainer import Trainer

PRODUCTS = torch.backends.cuda.matmul
SMALL = {"model.name": "vbpr", "model.embedding_size": 4, "train.batch_size": 8, "train.max_epochs": 2, "seed": 7}


def test_the_switch_goes_back_to_where_it_was_even_after_an_error() -> None:
    before = PRODUCTS.fp32_precision
    with matrix_products("tf32"), matrix_products("float32"):
        assert PRODUCTS.fp32_precision == "ieee"
    with pytest.raises(ValueError, match="in between"), matrix_products("tf32"):
        assert PRODUCTS.fp32_precision == "tf32"
        raise ValueError("in between")
    assert PRODUCTS.fp32_precision == before


def test_a_pytorch_before_2_9_has_the_switch_under_its_earlier_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends.cuda, "matmul", earlier)
    with matrix_products("float32"):
        assert earlier.allow_tf32 is False
        with matrix_products("tf32"):
            assert earlier.allow_tf32 is True
    assert vars(earlier) == {"allow_tf32": True}


def test_bf16_rounds_factors_and_lets_cuda_add_up_in_nothing_shorter() -> None:
    before = PRODUCTS.allow_bf16_reduced_precision_reduction
    with matrix_products("bf16"):
        assert rounds_factors() and PRODUCTS.fp32_precision == "ieee"
        assert PRODUCTS.allow_bf16_reduced_precision_reduction is False
        with unrounded():
            assert not rounds_factors()
        with pytest.raises(ValueError, match="in between"), unrounded():
            raise ValueError("in between")
        assert rounds_factors()
        with matrix_products("float32"):
            assert not rounds_factors()
    assert not rounds_factors() and PRODUCTS.allow_bf16_reduced_precision_reduction == before


@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_losses_are_computed_in_the_precision_of_the_trial(toy: DataBundle, precision: str, expected: str) -> None:
    trainer = Trainer(TrialConfig.from_flat(SMALL | {"train.precision": precision}), toy)
    before, seen = PRODUCTS.fp32_precision, []
    trainer.objective.register_forward_hook(lambda *_: seen.append((PRODUCTS.fp32_precision, rounds_factors())))
    trainer.run_epoch()
    trainer.rehearse(1)
    assert set(seen) == {(expected, precision == "bf16")}
    assert PRODUCTS.fp32_precision == before and not rounds_factors()


def test_on_a_cpu_both_precisions_are_the_same_to_the_bit(toy: DataBundle) -> None:
    trained = []
    for precision in ("float32", "tf32"):
        trainer = Trainer(TrialConfig.from_flat(SMALL | {"train.precision": precision}), toy)
        reports = [trainer.run_epoch() for _ in range(2)]
        trained.append((trainer.model.state_dict(), [(report.losses, report.validation) for report in reports]))
    (plain, plain_reports), (rounded, rounded_reports) = trained
    assert plain_reports == rounded_reports
    assert all(torch.equal(value, rounded[name]) for name, value in plain.items())


def test_another_precision_is_no_precision() -> None:
    with pytest.raises(ConfigError, match=r"train.precision: Input should be 'float32', 'tf32' or 'bf16'"):
        TrialConfig.from_flat({"train.precision": "float16"})
