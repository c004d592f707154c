"""One unit as a worker runs it, here in this process: what goes wrong is its result."""

from dataclasses import asdict
from typing import Any

import pytest

from search.protocols import task
from search.protocols.task import measure
from search.protocols.units import Unit
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.errors import Diverged
from trainables.protocols import landscape
from trainables.protocols.config import GeneralisationConfig, LandscapeConfig, RobustnessConfig
from trainables.shares import Resources

FLAT = {"seed": 3, "data.name": "toy", "model.name": "lightgcn", "model.embedding_size": 4, "train.max_epochs": 2}
SMALL = LandscapeConfig(points=3, batches=1, hessian=False)


def unit(settings: Any, protocol: str = "landscape", **flat: Any) -> Unit:
    changed = {**FLAT, **{key.replace("__", "."): value for key, value in flat.items()}}
    return Unit(protocol, "cell", "trial", changed, 3, None, False, None, settings)


def test_a_unit_is_what_its_protocols_function_returns(toy: DataBundle) -> None:
    measured = measure(unit(SMALL), toy, Resources())
    direct = landscape(TrialConfig.from_flat(FLAT), toy, SMALL)
    clock = {"train_seconds": 0.0}
    assert measured.error is None
    assert [row | clock for row in measured.measurements] == [asdict(each) | clock for each in direct]


def test_without_a_bundle_the_data_are_loaded_as_the_configuration_says() -> None:
    config = {"data__name": "synthetic", "data__split": "random", "data__split_seed": 996, "train__max_epochs": 1}
    measured = measure(unit(GeneralisationConfig(), "generalisation", **config), None, Resources())
    assert {row["subject"] for row in measured.measurements} == {"both"}
    other = measure(
        unit(GeneralisationConfig(), "generalisation", **config | {"data__split_seed": 9}), None, Resources()
    )
    values = [{row["metric"]: row["value"] for row in each.measurements} for each in (measured, other)]
    assert values[0] != values[1]


@pytest.mark.parametrize(
    ("settings", "protocol", "flat", "sentence"),
    [
        (
            RobustnessConfig(corruptions=("gaussian",)),
            "robustness",
            {},
            "gaussian needs a model that uses modality fea",
        ),
        (SMALL, "landscape", {"model__name": "lightgnc"}, "model.name must be one of"),
        (GeneralisationConfig(), "generalisation", {"data__name": "nowhere", "data__root": "/none"}, "data set folder"),
    ],
)
def test_a_mistake_is_the_units_error(settings: Any, protocol: str, flat: Any, sentence: str, toy: DataBundle) -> None:
    bundle = None if "data__name" in flat else toy
    measured = measure(unit(settings, protocol, **flat), bundle, Resources())
    assert measured.measurements == () and measured.error is not None and sentence in measured.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(Diverged(3, 1, float("nan")), "the loss must stay finite"), (KeyError("weights"), "KeyError: 'weights'")],
)
def test_what_a_protocol_raises_is_the_units_error(
    error: Exception, sentence: str, toy: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(task, "PROTOCOLS", {"landscape": raises})
    measured = measure(unit(SMALL), toy, Resources())
    assert measured.measurements == () and measured.error is not None and measured.error.startswith(sentence)
