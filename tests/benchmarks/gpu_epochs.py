"""Prints what an epoch costs on a GPU: every model, alone and packed, in every precision, within a given time.

Usage: python tests/benchmarks/gpu_epochs.py [minutes=8] [sizes=baby,clothing] [models=vbpr,..] [packed=1,2,4,8,16]
       [precisions=float32,tf32,bf16] [epochs=2] [capture=vbpr,lightgcn] [folder=FOLDER] [device=cpu]

One command for a machine that is lent for minutes. Data sets of the published sizes (`tiny` is the embedded one) are
made below FOLDER (default: the system's temporary folder) by processes of their own, the second while the first is
measured. Trials run in worker processes that live on, each with one thread, the launcher's variables and, packed by n,
the n-th part of the card's memory, as Ray packs them by fractions of a GPU. They start their counted epochs together.
Lines come as they are known, the most telling first: all models alone in float32 at every size, then packed, then the
other precisions (of models without features, whose products are all sparse, only float32). What does not fit into the
memory or fails says so, and the next one follows; when time is up, the rest is not run.

Columns: seconds of a training epoch and of a validation (medians over trials and counted epochs); "build" and "first",
the seconds in which the first of the trials was built and then trained and validated once; trials an hour, of 100
epochs each, all packed ones together, and how many times as many as one after the other; the largest of the trials'
own peaks of memory, and what all of the device held. `capture` then tries a step (forward and backward) of these models
in a CUDA graph and by `torch.compile`; `capture=` tries none.

Needs a GPU, or `device=cpu`, which shows that the command works and nothing else.
"""

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_trials import OUT_OF_MEMORY, WAYS

SIZES = ("baby", "clothing", "sports", "pet", "office", "tiny")
PRECISIONS = ("float32", "tf32", "bf16")
TRIAL_EPOCHS = 100
TRIALS = Path(__file__).resolve().with_name("gpu_trials.py")
HEADER = (
    f"{'size':>9s} {'model':>9s} {'precision':>9s} {'packed':>6s} {'train s':>8s} {'valid s':>8s} {'build s':>8s} "
    f"{'first s':>8s} {'trials/h':>9s} {'times':>6s} {'peak MB':>8s} {'device MB':>9s}"
)


class WrongArgumentError(Exception):
    """The command line asks for what there is not; the text is for the user."""


class LostWorkerError(Exception):
    """A worker ended, failed, or did not answer before time was up; the text says which."""


class DoesNotFitError(Exception):
    """A trial ran out of memory; its worker goes on."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    models: Sequence[str]
    sizes: Sequence[str] = ("baby", "clothing")
    packed: Sequence[int] = (1, 2, 4, 8, 16)
    precisions: Sequence[str] = PRECISIONS
    capture: Sequence[str] = ("vbpr", "lightgcn")
    minutes: float = 8.0
    epochs: int = 2
    device: str = "cuda"
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "recsweep-benchmark")


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    size: str
    model: str
    precision: str
    packed: int

    def __str__(self) -> str:
        return f"{self.size:>9s} {self.model:>9s} {self.precision:>9s} {self.packed:6d}"


def plan(arguments: Sequence[str], known: Sequence[str]) -> Plan:
    """The plan from KEY=VALUE arguments.

    Raises:
        WrongArgumentError: an unknown key, or a value that it cannot have.
    """
    given: dict[str, Any] = {"models": tuple(known)}
    choices = {"models": known, "capture": known, "sizes": SIZES, "precisions": PRECISIONS, "device": ("cuda", "cpu")}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or key not in Plan.__dataclass_fields__:
            raise WrongArgumentError(
                f"{argument}: must be KEY=VALUE with one of {', '.join(Plan.__dataclass_fields__)}"
            )
        values = [part for part in text.split(",") if part]
        for value in values if key in choices else []:
            if value not in choices[key]:
                raise WrongArgumentError(f"{key}: must be of {', '.join(choices[key])}, but got {value!r}")
        given[key] = _parsed(key, text, values)
    return Plan(**given)


def _parsed(key: str, text: str, values: Sequence[str]) -> Any:
    try:
        match key:
            case "minutes":
                return _positive(float(text))
            case "epochs":
                return _positive(int(text))
            case "packed":
                return tuple(_positive(int(value)) for value in values)
            case "device":
                return text
            case "folder":
                return Path(text)
            case _:
                return tuple(values)
    except ValueError:
        raise WrongArgumentError(f"{key}: must be positive numbers, but got {text!r}") from None


def _positive(number: Any) -> Any:
    if not number > 0:
        raise ValueError(number)
    return number


def entries(wanted: Plan, with_features: Sequence[str]) -> list[Entry]:
    """All lines, the most telling first."""

    def lines(precision: str, packed: int, size: str) -> list[Entry]:
        models = [name for name in wanted.models if precision == "float32" or name in with_features]
        return [Entry(size, model, precision, packed) for model in models]

    first, *others = wanted.precisions
    several = [number for number in (4, 16, 8, 2) if number in wanted.packed]
    several += [number for number in wanted.packed if number not in (1, *several)]
    alone = [1] if 1 in wanted.packed else []
    found = [entry for packed in alone for size in wanted.sizes for entry in lines(first, packed, size)]
    found += [entry for size in wanted.sizes[:1] for packed in several for entry in lines(first, packed, size)]
    found += [e for packed in alone for size in wanted.sizes for name in others for e in lines(name, packed, size)]
    found += [e for size in wanted.sizes[1:] for packed in several for e in lines(first, packed, size)]
    return found + [
        e for size in wanted.sizes for name in others for packed in several for e in lines(name, packed, size)
    ]


def environment() -> dict[str, str]:
    """The variables of a trial's worker."""
    from search.cluster import ALLOCATOR

    return {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Worker:
    """A process that builds and trains trials; it is told what to do, and answers, in lines of JSON."""

    def __init__(self, device: str, deadline: float) -> None:
        self.deadline = deadline
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, str(TRIALS), "serve", device]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, env=environment(), bufsize=0
        )

    def ask(self, **task: Any) -> None:
        """Gives it a task; `answer` waits for what comes of it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
        except OSError:
            raise LostWorkerError(self._last_words()) from None

    def answer(self) -> dict[str, Any]:
        """Its answer to the oldest task that has none.

        Raises:
            LostWorkerError: it ended, or time is up.
        """
        assert self._process.stdout is not None
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, self.deadline - time.monotonic()))
            if not ready:
                raise LostWorkerError("time is up")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise LostWorkerError(self._last_words())
            text += part
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"a worker ended with status {status}" + (f": {lines[-1][:200]}" if lines else "")

    def end(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


class Crew:
    """As many workers as an entry needs; those that failed are replaced."""

    def __init__(self, wanted: Plan, deadline: float) -> None:
        self.wanted = wanted
        self.deadline = deadline
        self.workers: list[Worker] = []
        self.greeting: dict[str, float] = {}

    def measure(self, entry: Entry) -> list[dict[str, Any]]:
        """What every trial of the entry found.

        Raises:
            LostWorkerError: a worker was lost or a trial failed; the text says why.
            DoesNotFitError: the device's memory does not do.
        """
        task = {"folder": str(data_folder(self.wanted, entry.size)), "share": 1 / entry.packed}
        flat = {"model.name": entry.model, "train.precision": entry.precision}
        with self._working(entry.packed) as workers:
            built = self._all(workers, do="build", flat=flat, **task)
            ran = self._all(workers, do="run", epochs=self.wanted.epochs)
        return [{**one, **other} for one, other in zip(built, ran, strict=True)]

    def try_step(self, size: str, model: str, way: str) -> float:
        """Milliseconds of a step of the model, taken in one of `WAYS`.

        Raises:
            LostWorkerError: it cannot be taken in that way; the text says why.
            DoesNotFitError: the device's memory does not do.
        """
        task = {"folder": str(data_folder(self.wanted, size)), "flat": {"model.name": model}, "way": way}
        with self._working(1) as workers:
            (found,) = self._all(workers, do="capture", **task)
        milliseconds: float = found["ms"]
        return milliseconds

    @contextmanager
    def _working(self, number: int) -> Iterator[list[Worker]]:
        """So many workers, who let go of what they hold afterwards; a failure other than of memory ends them all."""
        try:
            self._gather(number)
            try:
                yield self.workers[:number]
            finally:
                self._all(self.workers[:number], do="drop")
        except LostWorkerError:
            self.dismiss()
            raise

    def _gather(self, number: int) -> None:
        new = [Worker(self.wanted.device, self.deadline) for _ in range(number - len(self.workers))]
        self.workers += new
        greetings = self._all(new, do="greet")
        if greetings and not self.greeting:
            self.greeting = greetings[0]

    def _all(self, workers: Sequence[Worker], **task: Any) -> list[dict[str, Any]]:
        for worker in workers:
            worker.ask(**task)
        answers = [worker.answer() for worker in workers]
        failed = [answer["error"] for answer in answers if "error" in answer]
        for error in failed:
            if error != OUT_OF_MEMORY:
                raise LostWorkerError(error)
        if failed:
            raise DoesNotFitError(f"{OUT_OF_MEMORY} in {len(failed)} of {len(answers)}")
        return answers

    def dismiss(self) -> None:
        """Ends all workers: whoever comes next starts afresh."""
        for worker in self.workers:
            worker.end()
        self.workers = []


def data_folder(wanted: Plan, size: str) -> Path:
    """Where a data set of that size is."""
    return wanted.folder / size


def line(entry: Entry, found: Sequence[dict[str, Any]], alone: float | None) -> tuple[str, float]:
    """The entry's line, and its trials an hour.

    Args:
        alone: trials an hour one after the other, if they are known.
    """
    train, valid = (statistics.median([value for trial in found for value in trial[key]]) for key in ("train", "valid"))
    hourly = entry.packed * 3600 / (TRIAL_EPOCHS * (train + valid))
    times = "-" if alone is None else f"{hourly / alone:.2f}"
    peak, held = (max(trial[key] for trial in found) / 2**20 for key in ("peak", "held"))
    start = f"{found[0]['build']:8.2f} {found[0]['first']:8.2f}"
    return f"{entry} {train:8.3f} {valid:8.3f} {start} {hourly:9.2f} {times:>6s} {peak:8.0f} {held:9.0f}", hourly


def fresh_worker(greeting: dict[str, float], first: dict[str, Any]) -> str:
    """What the first trial of a new process waits for, in a sentence."""
    parts = {"imports": greeting["imports"], "device": greeting["device"], "data": first["load"]}
    parts |= {"trial": first["build"], "epoch and validation": first["first"]}
    told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
    return f"a fresh process has its first epoch after {sum(parts.values()):.1f} s: {told}"


class Preparation:
    """The processes that make the data sets, one after the other."""

    def __init__(self, wanted: Plan) -> None:
        self.wanted = wanted
        self.waiting = list(wanted.sizes)
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.running: tuple[str, float, subprocess.Popen[str]] | None = None

    def wait_for(self, size: str, deadline: float) -> bool:
        """Whether the data set is there; it is waited for, and the next one begun meanwhile."""
        self.look()
        while size not in self.done | self.failed and time.monotonic() < deadline:
            time.sleep(0.05)
            self.look()
        return size in self.done

    def look(self) -> None:
        """Takes note of what has been done, and begins the next."""
        if self.running and self.running[2].poll() is not None:
            size, start, process = self.running
            self.running = None
            errors = process.communicate()[1].strip().splitlines()
            if process.returncode == 0:
                self.done.add(size)
                print(f"data of size {size}: ready after {time.monotonic() - start:.1f} s", flush=True)
            else:
                self.failed.add(size)
                print(f"data of size {size}: failed: {errors[-1] if errors else process.returncode}", flush=True)
        if not self.running and self.waiting:
            size = self.waiting.pop(0)
            self.wanted.folder.mkdir(parents=True, exist_ok=True)
            place, models = str(data_folder(self.wanted, size)), ",".join(self.wanted.models)
            command = [sys.executable, str(TRIALS), "prepare", place, models]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.running = size, time.monotonic(), process

    def close(self) -> None:
        """Ends what is still being made."""
        if self.running:
            self.running[2].kill()
            self.running[2].communicate()


def report(wanted: Plan, with_features: Sequence[str], deadline: float) -> Iterator[str]:
    """The table's lines as they are known, and what did not come to be."""
    preparation, crew = Preparation(wanted), Crew(wanted, deadline)
    waiting, alone = entries(wanted, with_features), dict[tuple[str, str, str], float]()
    try:
        yield HEADER
        while waiting and time.monotonic() < deadline:
            preparation.look()
            entry = next((e for e in waiting if e.size in preparation.done), waiting[0])
            waiting.remove(entry)
            if not preparation.wait_for(entry.size, deadline):
                yield f"{entry} not run: there is no data set of that size"
                continue
            try:
                key = entry.size, entry.model, entry.precision
                found = crew.measure(entry)
            except (LostWorkerError, DoesNotFitError) as failure:
                yield f"{entry} {failure}"
                continue
            text, hourly = line(entry, found, alone.get(key))
            if not alone:
                yield fresh_worker(crew.greeting, found[0])
            if entry.packed == 1:
                alone[key] = hourly
            yield text
        yield from captures(wanted, crew, preparation, deadline)
        if waiting:
            first = " ".join(str(waiting[0]).split())
            yield f"{wanted.minutes:g} minutes are over: {len(waiting)} lines were not measured, from {first} on"
    finally:
        crew.dismiss()
        preparation.close()


def captures(wanted: Plan, crew: Crew, preparation: Preparation, deadline: float) -> Iterator[str]:
    """What comes of capturing and compiling a step, where there is time left."""
    crew.dismiss()
    size = wanted.sizes[0]
    for model in wanted.capture:
        for way in WAYS:
            if time.monotonic() > deadline or size not in preparation.done:
                return
            place = f"{size} {model}, forward and backward of a batch {way}:"
            try:
                yield f"{place} {crew.try_step(size, model, way):.2f} ms"
            except (LostWorkerError, DoesNotFitError) as failure:
                yield f"{place} {failure}"


def main() -> int:
    """Prints the table; the exit code is 2 where that cannot be."""
    start = time.monotonic()
    import torch

    from trainables.models import MODELS

    try:
        wanted = plan(sys.argv[1:], list(MODELS))
    except WrongArgumentError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    if wanted.device == "cuda" and not torch.cuda.is_available():
        says = "torch.cuda.is_available() is False here; device=cpu only tries the command"
        print(f"gpu_epochs needs a GPU, and {says}", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_name() if wanted.device == "cuda" else "cpu: these are no figures of a GPU"
    print(f"torch {torch.__version__}, {device}, {os.cpu_count()} cores, {wanted.minutes:g} minutes", flush=True)
    with_features = [name for name, model in MODELS.items() if model.uses_features]
    for text in report(wanted, with_features, start + 60 * wanted.minutes):
        print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
