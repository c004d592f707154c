"""Kills a sweep's drivers and workers at random for a while, and compares what comes out with an undisturbed run.

Usage: python tests/benchmarks/soak.py MINUTES [seed=0] [K=V ...]

Each driver is killed (SIGKILL) after a random time and followed by `recsweep resume`; meanwhile workers in random
states are. A sweep that is complete must have the same trials with the same metrics as the undisturbed one, to the
bit, and the next one is launched. K=V change the sweep, such as search.sampler=tpe; with an adaptive sampler or
asha one trial runs at a time, as its proposals depend on the order otherwise. Ends with the number of kills survived,
or with code 1 and what differs.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))

import psutil
from fault_sweeps import Driver, Sweeps, assert_same, fork_server, parts_of, workers_of

LONGEST_LIFE = 40.0
"""A driver's, in seconds."""


@dataclass
class Soak:
    """Sweeps under fire until a time.

    Attributes:
        kills: survived so far, of drivers and of workers.
    """

    sweeps: Sweeps
    overrides: list[str]
    until: float
    random: random.Random
    kills: dict[str, int] = field(default_factory=lambda: {"driver": 0, "worker": 0})
    complete: int = 0

    def run(self) -> None:
        """Runs the undisturbed sweep, then one disturbed sweep after the other."""
        sections = {"axes": {"model": ["lightgcn", "vbpr"]}, "train": {"max_epochs": 40}}
        file = self.sweeps.file("soak", **sections)  # type: ignore[arg-type]
        whole = self.sweeps.folder / "whole"
        driver = self.sweeps.run("launch", file, *self.overrides, "--store", str(whole), seconds=1800)
        assert driver.wait() in (0, 3), driver.output
        while time.monotonic() < self.until:
            store = self.sweeps.folder / f"store-{self.complete}"
            self._sweep(["launch", file, *self.overrides, "--store", str(store)], store)
            assert_same(store, whole, "soak", of="soak")
            self.complete += 1
            print(f"sweep {self.complete} is complete and equal to the undisturbed one", flush=True)
            shutil.rmtree(store)

    def _sweep(self, launch: list[str], store: Path) -> None:
        """One sweep to its end."""
        while True:
            resume = ["resume", "soak", "--store", str(store)]
            driver = self.sweeps.start(*(resume if parts_of(store, "sweeps") else launch))
            self._disturb(driver)
            if driver.running:
                driver.kill()
                self._count("driver", f"process {driver.pid}")
                continue
            assert driver.wait() in (0, 3), f"exit code {driver.wait()}:\n{driver.output}"
            assert "Traceback" not in driver.output, driver.output
            return

    def _disturb(self, driver: Driver) -> None:
        """Lets the driver run for a while and kills workers of it; after the soak's end it may run to its own."""
        end = time.monotonic() + self.random.uniform(0, LONGEST_LIFE)
        # A trial that loses its worker three times is given up: one kill a driver stays below that.
        worker_at = time.monotonic() + self.random.uniform(0, LONGEST_LIFE)
        while driver.running and (time.monotonic() < end or time.monotonic() > self.until):
            driver.process.join(0.1)
            if time.monotonic() > worker_at and time.monotonic() < self.until:
                workers = workers_of(driver.pid)
                if workers:
                    worker_at = float("inf")
                    worker = self.random.choice(workers)
                    with suppress(ProcessLookupError, psutil.Error):
                        doing = " ".join(worker.cmdline()).strip()
                        os.kill(worker.pid, signal.SIGKILL)
                        self._count("worker", f"process {worker.pid}, {doing}")

    def _count(self, kind: str, what: str) -> None:
        self.kills[kind] += 1
        print(f"kill {sum(self.kills.values())}: {kind} {what}", flush=True)


def main() -> int:
    """Runs the soak and says how it went."""
    minutes, seed, overrides = float(sys.argv[1]), 0, []
    for argument in sys.argv[2:]:
        if argument.startswith("seed="):
            seed = int(argument[5:])
        else:
            overrides.append(argument)
    if any(word in override for override in overrides for word in ("tpe", "asha")):
        overrides.append("resources.max_concurrent=1")
    with tempfile.TemporaryDirectory(prefix="recsweep-soak-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_AUTH_TOKEN_PATH"] = f"{folder}/token"
        sweeps = Sweeps(Path(folder), fork_server())
        soak = Soak(sweeps, overrides, time.monotonic() + 60 * minutes, random.Random(seed))
        try:
            soak.run()
        except AssertionError as difference:
            print(f"FAILED after {soak.kills}:\n{difference}", file=sys.stderr)
            return 1
        finally:
            sweeps.close()
    survived = f"{soak.kills['driver']} kills of drivers and {soak.kills['worker']} of workers"
    print(
        f"survived {survived} in {minutes:g} minutes; "
        f"{soak.complete} sweeps complete, every one equal to the undisturbed one to the bit"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
