"""The driver is killed, interrupted, stopped and doubled; `resume` makes the sweep what it would have been."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from fault_sweeps import EVERY_EPOCHS, SLOW, Driver, Sweeps, assert_same, family, ok, parts_of, trials_of, wait_until

from search.store import Store

pytestmark = pytest.mark.slow

EARLY = 0.2
"""Share of the kills that may come before the driver has stored anything new."""


class Killer:
    """Kills a sweep's driver at random moments, each time with a look at what the store lost."""

    def __init__(self, sweeps: Sweeps, file: str, store: str, seed: int) -> None:
        self.sweeps, self.store, self.name = sweeps, sweeps.folder / store, Path(file).stem
        self.launch = ["launch", file, "--store", store]
        self.random = random.Random(seed)
        self.startup = 5.0
        self.finished: dict[str, int] = {}

    def next(self) -> Driver:
        """The next driver: a resume where there is something to resume."""
        resume = ["resume", self.name, "--store", str(self.store)]
        return self.sweeps.start(*(resume if parts_of(self.store, "sweeps") else self.launch))

    def kill_once(self) -> bool:
        """Lets a driver run for a while and kills it; False where the sweep was complete before."""
        driver, before, began = self.next(), parts_of(self.store, "trials"), time.monotonic()
        if self.random.random() < EARLY:
            driver.process.join(self.random.uniform(0, self.startup))
        else:
            wait_until(lambda: not driver.running or not parts_of(self.store, "trials") <= before)
            self.startup = time.monotonic() - began
            driver.process.join(self.random.uniform(0, 2.5))
        if not driver.running:
            ok(driver)
            return False
        driver.kill()
        self._check_kept()
        return True

    def _check_kept(self) -> None:
        """What had finished has not begun again."""
        if parts_of(self.store, "trials"):
            frame = Store(self.store).frame("trials", self.name)
            finished = frame[frame["status"] == "finished"].set_index("trial")["attempt"].to_dict()
            assert self.finished.items() <= finished.items()
            self.finished = finished


def _killed(sweeps: Sweeps, file: str, kills: int) -> None:
    """Kills a sweep's drivers so many times, where one sweep is not long enough for that, those of several."""
    name, left, rounds = Path(file).stem, kills, 0
    while left:
        rounds += 1
        (sweeps.marks / "epochs").unlink(missing_ok=True)
        killer = Killer(sweeps, file, f"store-{rounds}", rounds)
        while left and killer.kill_once():
            left -= 1
        if not left:
            ok(killer.next())
        assert_same(killer.store, sweeps.folder / "whole", name, of=name)
        assert _most_repeated(sweeps) <= EVERY_EPOCHS


def _most_repeated(sweeps: Sweeps) -> int:
    """The most epochs that one process trained of a trial although an earlier process had."""
    done: dict[str, set[int]] = {}
    repeated: dict[tuple[str, int], int] = {}
    for line in sweeps.epochs():
        epochs, who = done.setdefault(line["trial"], set()), (line["trial"], line["process"])
        if line["epoch"] in epochs:
            repeated[who] = repeated.get(who, 0) + 1
        epochs.add(line["epoch"])
    return max(repeated.values(), default=0)


def test_twenty_kills_of_the_driver_lose_nothing(sweeps: Sweeps) -> None:
    file = sweeps.file("killed", axes={"model": ["lightgcn", "vbpr"]}, train={"max_epochs": 40})
    ok(sweeps.run("launch", file, "--store", "whole"))
    _killed(sweeps, file, 20)


@pytest.mark.parametrize(
    ("name", "search", "epochs"),
    [
        ("tpe", {"sampler": "tpe", "trials": 14, "scheduler": {"kind": "fifo"}}, 6),
        ("asha", {"trials": 10, "scheduler": {"kind": "asha", "grace_epochs": 2, "reduction": 2}}, 12),
    ],
)
def test_kills_change_neither_suggestions_nor_prunings(
    sweeps: Sweeps, name: str, search: dict[str, object], epochs: int
) -> None:
    """One trial at a time, a study's proposals and an ASHA's verdicts are well defined: names are configurations."""
    file = sweeps.file(
        name,
        axes={"update": ["descent"]},
        search=search,
        train={"max_epochs": epochs},
        resources={"max_concurrent": 1},
    )
    ok(sweeps.run("launch", file, "--store", "whole"))
    statuses = set(trials_of(sweeps.folder / "whole", name)["status"])
    assert statuses == ({"finished", "pruned"} if name == "asha" else {"finished"})
    _killed(sweeps, file, 5)


def _interrupted(sweeps: Sweeps, driver: Driver, send: int, *, group: bool) -> None:
    """Ends a driver in mid-sweep by a signal, and checks what it says and leaves."""
    before = len(sweeps.epochs())
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > before + 4)
    assert driver.running, driver.output
    started = family(driver.pid)
    (os.killpg if group else os.kill)(driver.pid, send)
    ok(driver, 130)
    assert "recsweep resume faults" in driver.output
    assert all(not process.is_running() or process.name().startswith("ray::") for process in started)


def test_interrupted_by_signals_and_not_run_twice_at_once(sweeps: Sweeps, whole: Path) -> None:
    store = sweeps.folder / "s"
    driver = sweeps.start("launch", sweeps.file(), "--store", "s", faults=SLOW)
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > 1)
    second = ok(sweeps.run("resume", "faults", "--store", "s"), 2)
    assert second.err.count("\n") == 1 and "sweep faults is being run by process" in second.err
    _interrupted(sweeps, driver, signal.SIGINT, group=False)
    resume = ("resume", "faults", "--store", "s")
    _interrupted(sweeps, sweeps.start(*resume, faults=SLOW), signal.SIGINT, group=True)
    _interrupted(sweeps, sweeps.start(*resume, faults=SLOW), signal.SIGTERM, group=False)
    ok(sweeps.run(*resume))
    assert_same(store, whole)
    again = ok(sweeps.run(*resume))
    assert "it is complete" in again.out


def test_stopped_by_its_budget_and_on_request(sweeps: Sweeps, whole: Path) -> None:
    spent = ok(sweeps.run("launch", sweeps.file(), "budget.device_hours=1e-4", "--store", "s", faults=SLOW), 4)
    assert "Stopped by budget" in spent.out and "Spent: " in spent.out and "recsweep resume faults" in spent.out
    assert ok(sweeps.run("resume", "faults", "--store", "s"), 4).out.count("Stopped by budget") == 1
    driver = sweeps.start("resume", "faults", "budget.device_hours=100", "--store", "s", faults=SLOW)
    before = len(sweeps.epochs())
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > before)
    ok(sweeps.run("stop", "faults", "--store", "s"))
    ok(driver, 130)
    assert "Stopped on request" in driver.out
    ok(sweeps.run("resume", "faults", "--store", "s"))
    assert_same(sweeps.folder / "s", whole)


def test_a_clock_that_is_set_back_confuses_nobody(sweeps: Sweeps, whole: Path) -> None:
    store, clock = sweeps.folder / "s", {"RECSWEEP_CLOCK": "1"}
    driver = sweeps.start("launch", sweeps.file(), "--store", "s", faults=SLOW, **clock)
    wait_until(lambda: not driver.running or len(sweeps.epochs()) > 5)
    (sweeps.marks / "clock").touch()
    before = parts_of(store, "trials")
    wait_until(lambda: not driver.running or parts_of(store, "trials") - before)
    assert driver.running, driver.output
    driver.kill()
    ok(sweeps.run("resume", "faults", "--store", "s", **clock))
    assert_same(store, whole)
    at = Store(store).frame("events").set_index("kind")["at"]
    # A driver's first event is just after the last one of the driver before it where the clock says that it is earlier.
    assert (at["resume"] - at["start"]).total_seconds() < 1, "the clock was not set back"
