"""The processes that `gpu_epochs.py` starts: one that makes a data set, and workers, each with a trial at a time.

Usage: python tests/benchmarks/gpu_trials.py prepare FOLDER MODEL,..
       python tests/benchmarks/gpu_trials.py serve DEVICE

A worker reads tasks from stdin and writes answers to stdout, a line of JSON each. Heavy imports come with the first
task, which takes their time. Ray is not needed, so that a bare machine with PyTorch will do.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OUT_OF_MEMORY = "out of memory"
"""The answer to a task for which the device's memory did not do; any other failure is told in its own words."""
WAYS = {"as it is": "as_it_is", "in a CUDA graph": "graphed", "by torch.compile": "compiled"}
"""Ways to take a step, and what of `Step` makes it."""


class Trials:
    """The worker's side: one trial at a time."""

    def __init__(self, device: str) -> None:
        self.wanted = device
        self.trainer: Any = None
        self.bundles: dict[str, Any] = {}

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """The answer to a task; a failure is an answer, too."""
        import torch

        try:
            answer: dict[str, Any] = getattr(self, task.pop("do"))(**task)
            return answer
        except torch.OutOfMemoryError:
            self.drop()
            return {"error": OUT_OF_MEMORY}
        except Exception as error:
            self.drop()
            return {"error": f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:200]}"}

    def greet(self) -> dict[str, Any]:
        """Imports what a trial needs and wakes the device."""
        start = time.perf_counter()
        import torch

        from trainables import trainer  # noqa: F401

        imported = time.perf_counter()
        torch.ones(1, device=self.wanted).sum().item()
        return {"imports": imported - start, "device": time.perf_counter() - imported}

    def build(self, folder: str, flat: dict[str, Any], share: float) -> dict[str, Any]:
        """Builds a trial and trains and validates it once."""
        import torch

        from trainables.shares import Resources, claim_device, forget_peak_memory

        if self.wanted == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
        self.device = claim_device(Resources(gpu=share if self.wanted == "cuda" else 0))
        forget_peak_memory(self.device)
        (config, data), loaded = _timed(lambda: self._data(folder, flat))
        (self.trainer, built), first = _timed(lambda: self._first_epoch(config, data))
        return {"load": loaded, "build": built, "first": first - built}

    def _first_epoch(self, config: Any, data: Any) -> tuple[Any, float]:
        from trainables.trainer import Trainer

        trainer, built = _timed(lambda: Trainer(config, data, device=self.device))
        trainer.run_epoch()
        return trainer, built

    def _data(self, folder: str, flat: dict[str, Any]) -> tuple[Any, Any]:
        config = _config(Path(folder), flat)
        if folder not in self.bundles:
            self.bundles = {folder: _load(Path(folder), config)}
        return config, self.bundles[folder]

    def run(self, epochs: int) -> dict[str, Any]:
        """Trains and validates on; its trial stays, so that all trials are there when the device is looked at."""
        from trainables.shares import peak_memory

        found: dict[str, Any] = {"train": [], "valid": []}
        progress = self.trainer.progress
        for _ in range(epochs):
            before = progress.train_seconds, progress.evaluation_seconds
            self.trainer.run_epoch()
            found["train"].append(progress.train_seconds - before[0])
            found["valid"].append(progress.evaluation_seconds - before[1])
        return {**found, "peak": peak_memory(self.device), "held": self._held()}

    def _held(self) -> int:
        import torch

        if self.device.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self.device)
        return total - free

    def drop(self) -> dict[str, Any]:
        """Lets go of the trial and its memory."""
        import torch

        self.trainer = None
        gc.collect()
        if self.wanted == "cuda":
            torch.cuda.empty_cache()
        return {}

    def capture(self, folder: str, flat: dict[str, Any], way: str) -> dict[str, Any]:
        """Milliseconds of a step, taken in one of `WAYS`."""
        import torch

        from trainables.trainer import Trainer

        torch.set_num_threads(1)
        config, data = self._data(folder, flat)
        trainer = Trainer(config, data, device=self.wanted)
        trainer._start_epoch(1)
        step = Step(trainer.model, trainer._batches(1, 0)[0])
        return {"ms": step.milliseconds(getattr(step, WAYS[way])())}


class Step:
    """Forward and backward pass of one batch, whose tensors stay where they are."""

    def __init__(self, model: Any, batch: Any) -> None:
        self.model = model
        self.batch = batch

    def loss(self) -> Any:
        """The batch's loss."""
        return self.model.loss(self.model.extract(self.model.fuse(self.batch)), self.batch).total

    def __call__(self) -> None:
        """Leaves the gradients in the parameters."""
        self.model.zero_grad(set_to_none=True)
        self.loss().backward()

    def as_it_is(self) -> Any:
        """The step itself."""
        return self

    def graphed(self) -> Any:
        """The step as one launch of a CUDA graph."""
        import torch

        if self.batch.users.device.type != "cuda":
            raise RuntimeError("it needs a GPU")
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        self.model.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.loss().backward()
        return graph.replay

    def compiled(self) -> Any:
        """The step with a compiled loss."""
        import torch

        self()  # makes what a model makes on its first step, such as transposes, before the compiler looks
        loss = torch.compile(self.loss)

        def step() -> None:
            self.model.zero_grad(set_to_none=True)
            loss().backward()

        return step

    def milliseconds(self, step: Any) -> float:
        """Of a step, the quickest of three rounds of ten, after three that are not counted."""
        for _ in range(3):
            step()
        return min(_timed(lambda: self._rounds(step))[1] for _ in range(3)) * 100

    def _rounds(self, step: Any) -> None:
        import torch

        for _ in range(10):
            step()
        if self.batch.users.device.type == "cuda":
            torch.cuda.synchronize()


def _timed(task: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = task()
    return result, time.perf_counter() - start


def _config(folder: Path, flat: dict[str, Any]) -> Any:
    from trainables.config import TrialConfig

    place = {"data.name": "synthetic"} if folder.name == "tiny" else {"data.name": folder.name}
    more = {} if folder.name == "tiny" else {"data.root": str(folder.parent)}
    return TrialConfig.from_flat({**place, **more, **flat})


def _load(folder: Path, config: Any) -> Any:
    from trainables.data.catalog import load

    return load(config.data, cache=folder.with_name(f"{folder.name}-graphs"))


def serve(device: str) -> None:
    """Does what its lines on stdin ask for until there are none; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    trials = Trials(device)
    for text in sys.stdin:
        print(json.dumps(trials.do(json.loads(text))), file=answers, flush=True)


def prepare(folder: Path, models: Sequence[str]) -> None:
    """Makes the data set where it is not there, and the graphs that these models cut from it, with all threads."""
    from trainables.data.synthetic import RECIPES, synthesize, write_folder
    from trainables.trainer import Trainer

    if folder.name != "tiny" and not folder.exists():
        made = folder.with_name(f"{folder.name}.{os.getpid()}") / folder.name
        write_folder(made, synthesize(RECIPES[folder.name], seed=999))
        made.rename(folder)
        made.parent.rmdir()
    config = _config(folder, {})
    data = _load(folder, config)
    for model in models:
        Trainer(_config(folder, {"model.name": model}), data)


def main() -> None:
    """Does one of the two."""
    match sys.argv[1:]:
        case ["serve", device]:
            serve(device)
        case ["prepare", folder, models]:
            prepare(Path(folder), models.split(","))


if __name__ == "__main__":
    main()
