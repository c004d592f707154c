"""Breaks a process on purpose. Copied as `sitecustomize.py` onto the path of drivers and workers: the product has no
hooks for it.

$RECSWEEP_FAULTS is a JSON list of faults, each an object with

    point      where: `setup` (a trial is built), `epoch` (one begins) or `checkpoint` (one is being written)
    action     what: `kill` (SIGKILL to itself), `raise`, `hang`, `slow`, `diverge` or `leak` (memory without end)
    name       a fault's own name
    update     only in trials with this update; every trial where it is missing
    epoch      only from this epoch on
    times      how often in all processes together; always where it is missing

$RECSWEEP_CONSTANTS is a JSON object of constants to replace, such as {"search.supervision.HANG_GRACE_SECONDS": 1}.
$RECSWEEP_CLOCK, where it is set, lets the clocks be set back.
$RECSWEEP_MARKS is a folder: a file `NAME-N` there is the Nth time that a fault struck, the file `clock` sets the clocks
of all processes back by an hour while it is there, and `epochs` gets a line for every epoch that was trained.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

HOUR = 3600.0
LEAK_BYTES, LEAK_MOST = 2**27, 5 * 2**30

FAULTS: list[dict[str, Any]] = json.loads(os.environ.get("RECSWEEP_FAULTS", "[]"))
CLOCK = "RECSWEEP_CLOCK" in os.environ
CONSTANTS: dict[str, Any] = json.loads(os.environ.get("RECSWEEP_CONSTANTS", "{}"))
MARKS = Path(os.environ.get("RECSWEEP_MARKS", os.devnull))

BUILT: list[str] = []
"""The updates of the trials that this process has built, the current one last."""


def strike(point: str, update: str, epoch: int) -> None:
    """Does what is to happen at this place, if anything is; to workers alone, as drivers build models, too."""
    for fault in FAULTS if "default_worker" in sys.argv[0] else ():
        fits = fault["point"] == point and fault.get("update", update) == update and epoch >= fault.get("epoch", 0)
        if fits and _is_turn(fault):
            ACTIONS[fault["action"]]()


def _is_turn(fault: Mapping[str, Any]) -> bool:
    """Whether the fault strikes once more; of several processes at once each takes another turn."""
    if "times" not in fault:
        (MARKS / f"{fault['name']}-0").touch()
        return True
    for turn in range(fault["times"]):
        try:
            os.close(os.open(MARKS / f"{fault['name']}-{turn}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise ArithmeticError("injected: the matrix is not positive definite")


def _hang() -> None:
    time.sleep(HOUR)


def _slow() -> None:
    time.sleep(0.4)


def _leak() -> None:
    held = []
    while len(held) * LEAK_BYTES < LEAK_MOST:
        held.append(b"\1" * LEAK_BYTES)
        time.sleep(0.05)
    time.sleep(HOUR)


def _diverge() -> None:
    from trainables.errors import Diverged

    raise Diverged(3, 1, float("nan"))


ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": _kill,
    "raise": _raise,
    "hang": _hang,
    "slow": _slow,
    "leak": _leak,
    "diverge": _diverge,
}


def _patch_trainer(module: ModuleType) -> None:
    """Faults in a trial's set-up and epochs, and the log of epochs."""
    build, run = module.Trainer.__init__, module.Trainer.run_epoch

    @functools.wraps(build)
    def building(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        BUILT.append(config.update_name)
        strike("setup", config.update_name, 0)
        build(self, config, *arguments, **options)

    @functools.wraps(run)
    def running(self: Any) -> Any:
        strike("epoch", self.config.update_name, self.progress.epoch + 1)
        report = run(self)
        if MARKS.is_dir():
            identity = f"{self.config.model_name} {self.config.update_name} {self.config.optimizer!r}"
            with open(MARKS / "epochs", "a") as log:
                log.write(json.dumps({"trial": identity, "process": os.getpid(), "epoch": report.epoch}) + "\n")
        return report

    module.Trainer.__init__, module.Trainer.run_epoch = building, running


def _patch_checkpoints(module: ModuleType) -> None:
    """Faults in the middle of a checkpoint: half of the weights' file is written."""
    save = module.save

    @functools.wraps(save)
    def saving(folder: Path, tensors: Any, numbers: Any) -> None:
        import torch

        whole = torch.save

        def half(content: Any, file: Any) -> None:
            buffer = io.BytesIO()
            whole(content, buffer)
            file.write(buffer.getvalue()[: buffer.tell() // 2])
            file.flush()
            strike("checkpoint", BUILT[-1], numbers["progress"]["epoch"])
            file.write(buffer.getvalue()[buffer.tell() // 2 :])

        torch.save = half
        try:
            save(folder, tensors, numbers)
        finally:
            torch.save = whole

    module.save = saving


PATCHES: Mapping[str, Callable[[ModuleType], None]] = {
    "trainables.trainer": _patch_trainer,
    "trainables.checkpoints": _patch_checkpoints,
}


def patch(module: ModuleType) -> None:
    """Changes a module that was just imported."""
    if module.__name__ in PATCHES and MARKS.is_dir():
        PATCHES[module.__name__](module)
    if CLOCK and getattr(module, "datetime", None) is datetime:
        module.datetime = Shifted  # type: ignore[attr-defined]
    for name, value in CONSTANTS.items():
        place, _, constant = name.rpartition(".")
        if place == module.__name__:
            if not hasattr(module, constant):
                raise AttributeError(f"{name} is to be replaced, but there is no such constant")
            setattr(module, constant, value)


class Finder(importlib.abc.MetaPathFinder):
    """Lets the modules be found as always, and patches them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module that is to be patched."""
        if not _is_wanted(name):
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            loader = spec.loader
            execute = loader.exec_module

            def executing(module: ModuleType) -> None:
                execute(module)
                patch(module)

            loader.exec_module = executing  # type: ignore[method-assign]
        return spec


WANTED = {*PATCHES, *(name.rpartition(".")[0] for name in CONSTANTS)}


def _is_wanted(name: str) -> bool:
    return name in WANTED or (CLOCK and name.startswith("search."))


class _Kind(type):
    """Takes every datetime for one of `Shifted`."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, datetime)


class Shifted(datetime, metaclass=_Kind):
    """Stands for `datetime` in the product's modules: C libraries cannot take another one."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """The time by the shifted clock."""
        return datetime.now(tz) - timedelta(seconds=_back())


def _back() -> float:
    return HOUR if (MARKS / "clock").exists() else 0.0


def _shift_clock(real: Callable[[], float] = time.time) -> None:
    """Puts all wall clocks of Python back by an hour while the file `clock` is there; the monotonic ones go on."""
    time.time = lambda: real() - _back()


def install() -> None:
    """Patches what is imported and what will be."""
    for name in [name for name in sys.modules if _is_wanted(name)]:
        patch(sys.modules[name])
    sys.meta_path.insert(0, Finder())
    if CLOCK:
        _shift_clock()


install()
