"""Protocols on a stored sweep: through the command line, on real Ray, and what they refuse."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from search.cli import run
from search.errors import StoreError
from search.protocols.runner import run_protocols
from search.sections import ProtocolsSection
from search.spec import parse, studies
from search.store import Store
from trainables.config import TrialConfig
from trainables.data.catalog import load
from trainables.protocols import generalisation, landscape, robustness
from trainables.protocols.config import GeneralisationConfig, LandscapeConfig, RobustnessConfig, variants

SWEEP = """
name: judged
data: {names: [synthetic]}
axes: {model: [lightgcn, vbpr], update: [descent, sam]}
space: {tune: [update], fix: {model.embedding_size: 8}}
search: {trials: 1, seeds: [1]}
train: {max_epochs: 2, batch_size: 1024}
protocols:
  robustness: {draws: 2}
  generalisation: {seeds: [996, 997]}
  landscape: {points: 3, batches: 1, hessian_iterations: 3}
"""
CELLS = [f"synthetic/{model}/plain/{update}/adam" for model in ("lightgcn", "vbpr") for update in ("descent", "sam")]
MEASURED = [
    "trial",
    "protocol",
    "settings",
    "seed",
    "split_seed",
    "subject",
    "phase",
    "level",
    "draw",
    "point",
    "metric",
]


Recsweep = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, recsweep_in: Recsweep) -> dict[str, Path]:
    """The same sweep with its protocols, one trial at a time and two; folders with the store `s`."""
    folders = {}
    for concurrency in ("1", "2"):
        folders[concurrency] = tmp_path_factory.mktemp(f"at-once-{concurrency}")
        (folders[concurrency] / "judged.yaml").write_text(SWEEP)
        limit = f"resources.max_concurrent={concurrency}"
        done = recsweep_in(folders[concurrency], "launch", "judged.yaml", limit, "--store", "s")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert "Sweep judged: 4 finished" in done.stdout
        assert "judged: 16 units, 16 measured, 0 in the store already, 0 failed" in done.stdout
        assert "Next: recsweep report judged --store" in done.stdout
    return folders


@pytest.fixture
def folder(launched: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the folder with the sweep and its protocols, to be changed."""
    shutil.copytree(launched["2"], tmp_path / "copy")
    return tmp_path / "copy"


def rows(folder: Path) -> pd.DataFrame:
    frame = Store(folder / "s").frame("protocols")
    return frame.sort_values(MEASURED).reset_index(drop=True)


@pytest.mark.slow
def test_a_launch_measures_every_cell_under_every_protocol(launched: dict[str, Path]) -> None:
    found = rows(launched["2"])
    units = found.groupby(["cell", "protocol"], sort=True)["seed"].unique().map(sorted).to_dict()
    seeds = {"generalisation": [996, 997], "landscape": [1], "robustness": [1]}
    assert units == {(cell, protocol): known for cell in CELLS for protocol, known in seeds.items()}
    assert set(found["split"]) <= {"valid", "train"} and (found["gradient_evaluations"] > 0).all()
    noisy = found[(found["subject"] == "item_embedding") & (found["metric"] == "recall@20")]
    assert len(noisy) == len(CELLS) * 3 * 2 and set(noisy["level"]) == {"L1", "L2", "L3"}
    grid = found[(found["subject"] == "filter_norm") & (found["cell"] == CELLS[0])]
    assert sorted(zip(grid["x"], grid["y"], strict=True)) == [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


@pytest.mark.slow
def test_concurrency_does_not_change_a_value(launched: dict[str, Path]) -> None:
    clock = ["train_seconds", "written"]
    alone, together = (rows(launched[number]).drop(columns=clock) for number in ("1", "2"))
    assert len(alone) > 1000
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def _directly(unit: dict[str, Any], flat: dict[str, Any]) -> list[Any]:
    settings = {
        "robustness": RobustnessConfig(draws=2),
        "generalisation": GeneralisationConfig(seeds=(unit["seed"],)),
        "landscape": LandscapeConfig(points=3, batches=1, hessian_iterations=3),
    }[unit["protocol"]]
    if isinstance(settings, GeneralisationConfig):
        (variant,) = variants(flat, settings)
        flat = dict(variant.flat)
    config = TrialConfig.from_flat(flat)
    function: Callable[..., list[Any]] = {
        "robustness": robustness,
        "generalisation": generalisation,
        "landscape": landscape,
    }[unit["protocol"]]
    return function(config, load(config.data), settings)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["robustness", "generalisation", "landscape"])
def test_rows_are_what_the_python_function_returns(protocol: str, launched: dict[str, Path]) -> None:
    torch.set_num_threads(1)
    found = rows(launched["1"])
    found = found[(found["cell"] == CELLS[3]) & (found["protocol"] == protocol)]
    first = found.iloc[0].to_dict()
    found = found[found["seed"] == first["seed"]]
    trials = Store(launched["1"] / "s").frame("trials").set_index("trial")
    flat = json.loads(trials.loc[first["trial"], "config_json"])
    direct = pd.DataFrame([asdict(measurement) for measurement in _directly(first, flat)])
    direct = direct.astype(dict.fromkeys(("severity", "x", "y"), float))
    names = [name for name in direct if name != "train_seconds"]
    assert len(found) == len(direct)
    order = ["subject", "phase", "level", "draw", "point", "metric"]
    stored, expected = (each.sort_values(order)[names].reset_index(drop=True) for each in (found, direct))
    # Sums of squares depend in their last bits on the threads of BLAS, which are one in a worker and all here.
    pd.testing.assert_frame_equal(stored, expected, check_dtype=False, rtol=1e-12, atol=0)
    exact = ~expected["metric"].str.startswith("snr/")
    pd.testing.assert_frame_equal(stored[exact], expected[exact], check_exact=True, check_dtype=False)


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_other_seeds_are_added(folder: Path, recsweep_in: Recsweep) -> None:
    before = rows(folder)
    for command in ("robustness", "generalise", "landscape"):
        done = recsweep_in(folder, command, "--store", "s")
        assert done.returncode == 0 and ", 0 measured, " in done.stdout and ", 0 failed" in done.stdout, done.stdout
        assert "recall@20" in done.stdout or command == "landscape"
    pd.testing.assert_frame_equal(rows(folder), before)
    more = recsweep_in(folder, "generalise", "judged", "--store", "s", "--seeds", "997,998", "--cell", CELLS[0])
    assert "2 units, 1 measured, 1 in the store already, 0 failed" in more.stdout, more.stderr
    after = rows(folder)
    added = after[(after["cell"] == CELLS[0]) & (after["protocol"] == "generalisation")]
    assert sorted(added["seed"].unique()) == [996, 997, 998] and len(after) == len(before) + len(added) // 3


@pytest.mark.slow
def test_a_unit_that_fails_leaves_the_others_alone(folder: Path, recsweep_in: Recsweep) -> None:
    arguments = ("robustness", "--store", "s", "--seeds", "7", "--corruption", "gaussian", "--draws", "1")
    done = recsweep_in(folder, *arguments)
    assert (done.returncode, done.stderr) == (3, ""), done.stderr
    failures = [line for line in done.stdout.splitlines() if "failed: " in line]
    assert len(failures) == 2 and all(
        re.search(r"lightgcn-\w+-\w+ \(seed 7\): failed: gaussian needs a model that uses modality features", line)
        for line in failures
    )
    assert "4 units, 2 measured, 0 in the store already, 2 failed" in done.stdout
    measured = rows(folder)
    measured = measured[(measured["seed"] == 7)]
    assert set(measured["cell"]) == set(CELLS[2:]) and set(measured["subject"]) == {"clean", "gaussian"}
    again = recsweep_in(folder, *arguments)
    assert again.returncode == 3 and "0 measured, 2 in the store already, 2 failed" in again.stdout


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_measured_and_the_same_command_measures_the_rest(
    folder: Path, recsweep_in: Recsweep
) -> None:
    seeds = ",".join(map(str, range(100, 140)))
    arguments = ["generalise", "--store", "s", "--seeds", seeds, "--cell", CELLS[0]]
    command = [str(Path(sys.executable).parent / "recsweep"), *arguments]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell that runs the tests in its background has SIGINT ignored by all that it starts.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes, **heard) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 200
        for line in process.stdout:
            if line.startswith("[2/40]") or time.monotonic() > deadline:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err and "Interrupted; what was measured is in the store" in out
    kept = rows(folder)
    finished = kept[kept["seed"].between(100, 139)]["seed"].nunique()
    assert 2 <= finished < 40
    rest = recsweep_in(folder, *arguments)
    assert rest.returncode == 0, rest.stderr
    assert f"40 units, {40 - finished} measured, {finished} in the store already" in rest.stdout


INTERRUPTED_IN_PYTHON = """
import time
import ray
from search import Store
from search.protocols import runner
from search.protocols.task import Measured
from search.sections import ProtocolsSection

def measure(unit, bundle, resources):
    for _ in range(0 if unit.seed == 100 else 3000):
        time.sleep(0.1)
    return Measured(error="no matter")

runner.measure = measure
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

def interrupt(end):
    raise KeyboardInterrupt

protocols = ProtocolsSection(generalisation={"seeds": tuple(range(100, 140))})
outcome = runner.run_protocols(Store("s"), "judged", protocols, cells=[CELL], on_unit=interrupt)
deadline = time.monotonic() + 60
while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
    time.sleep(0.2)
print(outcome.interrupted, len(outcome.failed), ray.available_resources().get("CPU", 0))
"""


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_running_on_a_connection_of_the_callers(folder: Path) -> None:
    """All units but the first take five minutes, so one that went on would be seen."""
    script = INTERRUPTED_IN_PYTHON.replace("CELL", repr(CELLS[0]), 1)
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.split() == ["True", "1", "2.0"], done.stdout + done.stderr


@pytest.mark.slow
def test_the_new_rows_can_be_queried_and_reported(folder: Path, recsweep_in: Recsweep) -> None:
    sql = "select protocol, count(*) as n from protocols group by protocol order by protocol"
    done = recsweep_in(folder, "query", sql, "--store", "s", "--format", "json")
    counts = {row["protocol"]: row["n"] for row in json.loads(done.stdout)}
    assert counts == rows(folder).groupby("protocol").size().to_dict()
    report = recsweep_in(folder, "report", "judged", "--store", "s", "-o", "r")
    assert report.returncode == 0 and (folder / "r/report.html").exists(), report.stderr


# What is refused: in this process, before Ray is asked for anything.

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Desk:
    """A store with one finished trial of two cells, and the way to a command that must refuse."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], data_digest: str | None = None) -> None:
        self._capsys = capsys
        self.store = Store(folder / "store", create=True)
        axes = {"model": ["lightgcn"], "update": ["descent", "sam"]}
        spec = parse({"name": "kept", "data": {"names": ["synthetic"]}, "axes": axes, "space": {"tune": []}})
        start = {"sweep": "kept", "digest": spec.digest, "spec_json": spec.model_dump_json(), "started": NOW}
        self.store.append("sweeps", [start])
        for study, status in zip(studies(spec), ("finished", "failed"), strict=True):
            names = ("cell", "dataset", "model", "objective", "update", "optimizer")
            row = {name: getattr(study, name) for name in names} | {"config_json": json.dumps(study.config({}, 999))}
            row |= {"sweep": "kept", "trial": study.update, "attempt": 1, "seed": 999, "status": status}
            row |= {"metric": "recall@20", "mode": "max", "best_score": 0.5, "started": NOW, "data_digest": data_digest}
            self.store.append("trials", [row])

    def refuses(self, *arguments: str) -> str:
        """Runs a command, which must exit with 2 and one sentence, and returns the sentence."""
        code = run([*arguments, "--store", self.store.root])
        out, err = self._capsys.readouterr()
        assert code == 2 and "Traceback" not in out + err, (out, err)
        assert err.startswith("recsweep: ") and err.count("\n") == 1, err
        assert self.store.table("protocols_all").num_rows == 0
        return err.removeprefix("recsweep: ").rstrip("\n")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Desk(tmp_path, capsys)


CELL = "synthetic/lightgcn/plain/descent/adam"
COMMANDS = ("robustness", "generalise", "landscape")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kpet"], "has no sweep `kpet`; the nearest is `kept`"),
        (["--cell", CELL.removesuffix("m")], f"a cell must be one of sweep 'kept', but got {CELL[:-1]!r}; did you"),
        (
            ["--cell", CELL.replace("descent", "sam")],
            "a cell must have a finished trial to be measured, but synthetic/",
        ),
        (["--seeds", "996,x"], "--seeds must be whole numbers from 0 with commas between, but got '996,x'"),
        (["--seeds", "-1"], "--seeds must be whole numbers from 0 with commas between, but got '-1'"),
        (["--seeds", "1,,2"], "--seeds must be whole numbers from 0 with commas between, but got '1,,2'"),
        (["--seeds", str(2**32)], "--seeds must be whole numbers from 0 with commas between, but got '4294967296'"),
        (["--seeds", "5,5"], "--seeds must name nothing twice, but got '5,5'"),
        (["--address", "127.0.0.1:1"], "--address must be that of a running Ray cluster, but '127.0.0.1:1' does not"),
    ],
    ids=str,
)
def test_wrong_input_is_one_sentence(command: str, arguments: Sequence[str], sentence: str, desk: Desk) -> None:
    assert sentence in desk.refuses(command, *arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["robustness", "--corruption", "gausian"],
            "--corruption must be 'gaussian', 'item_embedding', 'raw_features',",
        ),
        (["robustness", "--corruption", "gausian"], "but got 'gausian'; did you mean 'gaussian'?"),
        (["robustness", "--draws", "0"], "--draws must be at least 1, but got 0"),
        (["generalise", "--vary", "al"], "--vary must be 'both', 'split' or 'init', but got 'al'"),
        (["robustness", "--draws", "x"], "Invalid value for '--draws'"),
    ],
)
def test_a_wrong_setting_is_named_by_its_option(arguments: Sequence[str], sentence: str, desk: Desk) -> None:
    assert sentence in desk.refuses(*arguments)


def test_a_store_that_is_not_there_is_named(desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["robustness", "--store", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"recsweep: there is no result store at {tmp_path / 'none'}\n"


def test_data_that_changed_since_the_sweep_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Desk(tmp_path, capsys, data_digest="of other data").store
    with pytest.raises(StoreError, match=r"data set synthetic must be as it was in the sweep \(digest of other data\)"):
        run_protocols(store, "kept", ProtocolsSection(landscape=LandscapeConfig()))
