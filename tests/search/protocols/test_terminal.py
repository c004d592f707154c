"""What a person reads of the protocols."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from search.protocols.runner import UnitEnd
from search.protocols.terminal import print_figures, unit_line
from search.protocols.units import Unit
from trainables.protocols.config import LandscapeConfig

DESCENT, SAM = (f"lfm2k/vbpr/plain/{update}/adam" for update in ("descent", "sam"))


@pytest.fixture
def measured(new_sweep: Callable[..., Any]) -> Any:
    """Two cells under all three protocols, with round numbers."""
    writer = new_sweep()
    trials = {cell: writer.trial(cell, 0.5) for cell in (DESCENT, SAM)}
    common = {"sweep": writer.name, "settings": "s", "level": "", "phase": "", "draw": 0, "point": 0, "split": "valid"}
    cost = {"gradient_evaluations": 1, "train_seconds": 1.0}
    noise = {"phase": "test", "level": "L1", "severity": 0.001}
    for number, (cell, trial) in enumerate(trials.items()):
        place = {**common, **cost, "cell": cell, "trial": trial}
        rows = [
            {"protocol": "robustness", "seed": 1, "subject": "clean", "metric": "recall@20", "value": 0.4},
            {"protocol": "robustness", "seed": 1, "subject": "gaussian", "metric": "recall@20", "value": 0.3} | noise,
            {"protocol": "robustness", "seed": 1, "subject": "gaussian", "metric": "snr/text", "value": 12.0} | noise,
            *(
                {"protocol": "generalisation", "seed": seed, "split_seed": seed, "subject": "both"}
                | {"metric": "recall@20", "value": 0.2 + 0.1 * number + 0.01 * seed}
                for seed in (1, 3)
            ),
            {"protocol": "landscape", "seed": 1, "subject": "ascent_sharpness", "metric": "value", "value": 0.125}
            | {"level": "0.05", "severity": 0.05, "split": "train"},
        ]
        writer.store.append("protocols", [{**place, **row} for row in rows])
    return writer


def printed(writer: Any, *protocols: str, cells: list[str] | None = None) -> str:
    screen = Console(file=io.StringIO(), width=200)
    print_figures(screen, writer.store, writer.name, protocols, cells)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_main_figures_of_every_protocol_are_printed(measured: Any) -> None:
    robustness = printed(measured, "robustness")
    assert "recall@20" in robustness and "gaussian (test)" in robustness and "L1" in robustness
    assert robustness.count("0.4000") == robustness.count("0.3000") == 2 and "25.0" in robustness
    assert "text 12" in robustness and "1 x 1" in robustness
    generalisation = printed(measured, "generalisation")
    assert "0.2200 ± 0.0141" in generalisation and "0.2100 to 0.2300" in generalisation and "+0.1000" in generalisation
    landscape = printed(measured, "landscape")
    assert "ascent sharpness" in landscape and "0.05" in landscape and landscape.count("0.125") == 2


def test_only_the_cells_that_were_asked_for_are_shown_but_compared_with_all(measured: Any) -> None:
    shown = printed(measured, "generalisation", cells=[SAM])
    assert SAM in shown and DESCENT not in shown and "+0.1000" in shown


def test_a_protocol_without_rows_prints_nothing(new_sweep: Callable[..., Any]) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.5)
    assert printed(writer, "robustness", "generalisation", "landscape") == ""


def test_a_units_line_says_what_it_came_to() -> None:
    unit = Unit("landscape", "cell", "vbpr-sam-1", {}, 999, None, False, None, LandscapeConfig())
    assert unit_line(UnitEnd(unit, 2, 7, 441, 3.21, None)) == (
        "[2/7] landscape of vbpr-sam-1 (seed 999): 441 values in 3.2 s"
    )
    assert unit_line(UnitEnd(unit, 3, 7, 0, 1.0, "the loss exploded")).endswith("(seed 999): failed: the loss exploded")
