"""A command's work in a child process: how its end is told, and who gets which signal. Each test is real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from search import cli
from search.commands import supervised

ROOT = Path(__file__).parents[3]

PROGRAM = """
import os, signal, sys, time
from search.commands.supervised import in_child
def work(tell):
{body}
sys.exit(in_child(work))
"""


@contextmanager
def started(body: str, before: str = "") -> "Iterator[subprocess.Popen[str]]":
    """A program whose supervised work has that body, until the test has seen enough of it."""
    program = before + PROGRAM.format(body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run(body: str, before: str = "") -> tuple[int, str, str]:
    with started(body, before) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 130])
def test_a_code_that_the_work_has_explained_is_passed_on_without_a_word(code: int) -> None:
    assert run(f"tell('sweep')\nprint('said')\nreturn {code}") == (code, "said\n", "")


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9"),
        ("os.abort()", "was ended by signal 6"),
        ("os._exit(1)", "ended with code 1"),
        ("return 1", "ended with code 1"),
    ],
)
def test_a_child_that_dies_without_a_word_is_spoken_for(end: str, how: str) -> None:
    code, out, err = run(f"tell('my-sweep-2')\n{end}")
    assert (code, out) == (5, "")
    assert err == (
        f"recsweep: the driver {how} without a word, as it does where the Ray cluster is lost; "
        "what was measured is in the store; recsweep resume my-sweep-2 goes on from there\n"
    )


def test_a_child_that_dies_before_the_sweep_has_a_name_had_started_nothing() -> None:
    code, _, err = run("os._exit(1)")
    assert code == 5 and err.endswith("; nothing had been started\n") and err.count("\n") == 1


def test_what_was_printed_before_is_printed_once() -> None:
    assert run("return 0", before="print('before')\n") == (0, "before\n", "")


COUNTING = """
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: heard.append(number))
print('ready', os.getpid(), flush=True)
end = time.monotonic() + 30
while not heard and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
print(*map(int, heard), flush=True)
return 130
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True])
def test_a_signal_to_the_parent_reaches_the_child_once_and_as_an_interrupt(number: signal.Signals, group: bool) -> None:
    """Also where a terminal sends it to the whole group, as Ctrl-C does."""
    with started(COUNTING) as process:
        assert first_line(process).startswith("ready")
        (os.killpg if group else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split(), err) == (130, [str(int(signal.SIGINT))], "")


def test_every_signal_is_passed_on() -> None:
    with started(COUNTING.replace("while not heard", "while len(heard) < 2")) as process:
        child = int(first_line(process).split()[1])
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        out, _ = process.communicate(timeout=60)
    assert out.split() == ["2", "2"] and not psutil.pid_exists(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_child_dies_with_its_parent() -> None:
    with started("print(os.getpid(), flush=True)\ntime.sleep(60)\nreturn 0") as process:
        child = int(first_line(process))
        assert child != process.pid and psutil.pid_exists(child)
        process.kill()
        until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


INTERRUPTED = """
try:
    print('ready', flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    return 130
return 0
"""


@pytest.mark.parametrize("before", ["", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_work_ends_as_one(number: signal.Signals, before: str) -> None:
    """Also where SIGINT is ignored, as it is for what a script starts in the background."""
    with started(INTERRUPTED, before) as process:
        assert first_line(process) == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("name", ["", "tell('s')\n"])
def test_a_process_that_the_work_leaves_behind_does_not_hold_the_parent(name: str) -> None:
    """A forked one keeps the pipe open over which the name is told."""
    leave = "if os.fork() == 0:\n    time.sleep(30)\n    os._exit(0)\n"
    with started(f"os.close(1)\nos.close(2)\n{leave}{name}os._exit(2)") as process:
        assert process.wait(timeout=15) == 2


def test_only_the_console_script_runs_its_work_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "apart", False)
    assert cli.run(["show", "models"]) == 0 and not supervised.apart
    with pytest.raises(SystemExit):
        cli.main(["show", "models"])
    assert supervised.apart
