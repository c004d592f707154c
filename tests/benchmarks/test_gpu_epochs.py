"""The command for a GPU that is lent for minutes, tried on a CPU: there is no second try on the GPU."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.models import MODELS
from trainables.trainer import Trainer

CPU = torch.device("cpu")
SCRIPT = Path(__file__).with_name("gpu_epochs.py")


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu_epochs")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The workers' script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu_trials")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


@pytest.mark.slow
def test_on_a_cpu_it_measures_every_line_that_is_asked_for(tmp_path: Path) -> None:
    done = run(
        *("device=cpu", "sizes=tiny", "models=vbpr,lightgcn", "packed=1,2", "precisions=float32,bf16", "epochs=1"),
        *("minutes=5", "capture=", f"folder={tmp_path}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    head, names, *lines = done.stdout.splitlines()
    assert head.endswith("cores, 5 minutes") and names.split()[:2] == ["size", "model"]
    assert sum(line.startswith("data of size tiny: ready after") for line in lines) == 1
    assert sum(line.startswith("a fresh process has its first epoch after") for line in lines) == 1
    table = [line.split() for line in lines if line.startswith(" ")]
    assert [cells[1:4] for cells in table] == [
        ["vbpr", "float32", "1"],
        ["lightgcn", "float32", "1"],
        ["vbpr", "float32", "2"],
        ["lightgcn", "float32", "2"],
        ["vbpr", "bf16", "1"],
        ["vbpr", "bf16", "2"],
    ]
    assert all(float(cell) >= 0 for cells in table for cell in cells[4:] if cell != "-")
    assert [cells[9] == "-" for cells in table] == [True, True, False, False, True, False]


@pytest.mark.slow
def test_on_a_cpu_every_model_is_measured_and_a_step_compiled(tmp_path: Path) -> None:
    done = run(
        *("device=cpu", "sizes=tiny", "packed=1", "precisions=float32", "epochs=1"),
        *("minutes=9", "capture=lightgcn", f"folder={tmp_path}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    table = [line.split() for line in done.stdout.splitlines() if line.startswith("     tiny ")]
    assert [cells[1] for cells in table] == list(MODELS)
    assert all(float(cells[4]) > 0 for cells in table)
    steps = [line for line in done.stdout.splitlines() if line.startswith("tiny lightgcn, forward and backward")]
    compiler = shutil.which("g++") is not None  # of C++, which PyTorch's needs on a CPU
    assert [step.endswith(" ms") for step in steps] == [True, False, compiler]
    assert steps[1].endswith("RuntimeError: it needs a GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_in_a_sentence() -> None:
    done = run()
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("gpu_epochs needs a GPU, and torch.cuda.is_available() is False here")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("minutes", "minutes: must be KEY=VALUE with one of models, sizes"),
        ("hours=1", "hours=1: must be KEY=VALUE with one of models, sizes"),
        ("minutes=0", "minutes: must be positive numbers, but got '0'"),
        ("packed=1,few", "packed: must be positive numbers, but got '1,few'"),
        ("models=vbpr,vbbr", "models: must be of .*, but got 'vbbr'"),
        ("precisions=float16", "precisions: must be of float32, tf32, bf16, but got 'float16'"),
        ("device=tpu", "device: must be of cuda, cpu, but got 'tpu'"),
    ],
)
def test_a_wrong_argument_is_a_sentence(epochs: Any, argument: str, sentence: str) -> None:
    with pytest.raises(epochs.WrongArgumentError, match=f"^{sentence}"):
        epochs.plan([argument], list(MODELS))


def test_the_most_telling_lines_come_first_and_each_comes_once(epochs: Any) -> None:
    with_features = [name for name, model in MODELS.items() if model.uses_features]
    lines = epochs.entries(epochs.plan([], list(MODELS)), with_features)
    assert len(lines) == len(set(lines)) == 2 * 5 * (len(MODELS) + 2 * len(with_features))
    alone = [(line.size, line.model) for line in lines[: 2 * len(MODELS)]]
    assert alone == [(size, model) for size in ("baby", "clothing") for model in MODELS]
    assert all((line.precision, line.packed) == ("float32", 1) for line in lines[: len(alone)])
    assert [line.packed for line in lines[len(alone) :: len(MODELS)]][:4] == [4, 16, 8, 2]


class TestFailures:
    """A line says what went wrong, and the next one is measured."""

    @pytest.fixture
    def crew(self, epochs: Any) -> Any:
        found = epochs.Crew(epochs.Plan(["vbpr"], device="cpu"), epochs.time.monotonic() + 300)
        yield found
        found.dismiss()

    def test_a_trial_that_does_not_fit_leaves_its_worker_and_its_memory(
        self, trials: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def full(trainer: Trainer) -> None:
            raise torch.OutOfMemoryError("tried to allocate more than there is")

        worker = trials.Trials("cpu")
        build = {"do": "build", "folder": str(tmp_path / "tiny"), "flat": {"model.name": "vbpr"}, "share": 0.5}
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "run_epoch", full)
            assert worker.do(dict(build)) == {"error": "out of memory"}
        assert worker.trainer is None
        assert "error" not in worker.do(dict(build))
        assert set(worker.do({"do": "run", "epochs": 1})) == {"train", "valid", "peak", "held"}

    def test_out_of_memory_is_told_with_how_many_it_hit(self, epochs: Any, crew: Any) -> None:
        class Full:
            def ask(self, **task: Any) -> None:
                self.answers = {"error": "out of memory"} if task["do"] == "run" else {}

            def answer(self) -> dict[str, Any]:
                return self.answers

            def end(self) -> None:
                raise AssertionError("a worker that is out of memory goes on")

        crew.workers = [Full(), Full()]
        with pytest.raises(epochs.DoesNotFitError, match="out of memory in 2 of 2"):
            crew.measure(epochs.Entry("tiny", "vbpr", "float32", 2))
        crew.workers = []

    @pytest.mark.slow
    def test_a_mistake_ends_the_workers_and_the_next_line_gets_new_ones(
        self, epochs: Any, crew: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(epochs, "data_folder", lambda plan, size: tmp_path / size)
        with pytest.raises(epochs.LostWorkerError, match=r"ConfigError: model\.name must be one of"):
            crew.measure(epochs.Entry("tiny", "nothing", "float32", 1))
        assert crew.workers == []
        assert len(crew.measure(epochs.Entry("tiny", "vbpr", "float32", 1))) == 1
        crew.workers[0]._process.kill()
        with pytest.raises(epochs.LostWorkerError, match="a worker ended with status -9"):
            crew.measure(epochs.Entry("tiny", "vbpr", "float32", 1))
        crew.deadline = 0.0
        with pytest.raises(epochs.LostWorkerError, match="time is up"):
            crew.measure(epochs.Entry("tiny", "vbpr", "float32", 1))
        assert crew.workers == []

    def test_a_data_set_that_cannot_be_made_is_waited_for_no_longer(
        self, epochs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "baby").write_text("no folder")
        preparation = epochs.Preparation(epochs.Plan(["lightgcn"], sizes=("baby",), folder=tmp_path))
        assert not preparation.wait_for("baby", epochs.time.monotonic() + 300)
        assert capsys.readouterr().out.startswith("data of size baby: failed: ")


def test_on_a_gpu_a_trial_gets_its_share_and_the_device_is_looked_at(
    trials: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 10))
    monkeypatch.setattr("trainables.shares.claim_device", lambda resources: calls.append(resources.gpu) or CPU)
    worker = trials.Trials("cuda")
    for share in (0.25, 1.0):
        task = {"do": "build", "folder": str(tmp_path / "tiny"), "flat": {"model.name": "vbpr"}, "share": share}
        assert "error" not in worker.do(task)
        assert worker.do({"do": "drop"}) == {}
    assert calls == [1.0, 0.25, "emptied", 1.0, 1.0, "emptied"]
    worker.device = torch.device("cuda")
    assert worker._held() == 7


def test_what_a_worker_prints_is_no_answer(trials: Any) -> None:
    command = [sys.executable, trials.__file__, "serve", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    asked = json.dumps({"do": "drop"}) + "\n"
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, env=environment, timeout=300, check=True
    )
    assert done.stdout == "{}\n"
