"""Runs a command's work in a child process, so that somebody is left to speak when it dies without a word.

Ray's core ends a driver's process where the cluster's head is lost: no Python code of that process gets to run.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

BROKEN = 5
KNOWN = (0, 2, 3, 4, BROKEN, 130)
"""Exit codes with which the work has said itself what there is to say."""

WAIT_SECONDS = 0.1

apart = False
"""Whether commands run their work in a child; only the console script does, whose process is nobody else's."""

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1

Tell = Callable[[str], None]


def in_child(work: Callable[[Tell], int]) -> int:
    """Returns what the work returns, in the child that does it and in the parent that waits for it.

    The child is in a process group of its own, so that Ctrl-C reaches it once, through the parent; it ends with the
    parent. `work` is given a function that tells the parent the sweep's name.
    """
    if not hasattr(os, "fork"):
        return work(lambda name: None)
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    earlier = {number: signal.getsignal(number) for number in PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child == 0:
        # Also where SIGINT was ignored, as it is for what a script starts with `&`.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.close(reading)
        os.setpgid(0, 0)
        _end_with(parent)
        return work(lambda name: _tell(writing, name))
    os.close(writing)
    for number in PASSED_ON:
        signal.signal(number, partial(_pass_on, child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    # In steps: a signal that arrives just before a wait without end would be handled after it.
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        time.sleep(WAIT_SECONDS)
    for number, handler in earlier.items():
        signal.signal(number, handler)
    code, name = os.waitstatus_to_exitcode(ended[1]), _told(reading)
    return code if code in KNOWN else _complain(code, name)


def _pass_on(child: int, number: int, frame: FrameType | None) -> None:
    """Every signal arrives as Ctrl-C: Ray's core takes SIGTERM for itself, and ends the process at once."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGINT)


def _told(reading: int) -> str:
    """What the child has told, without waiting for processes of its that live on."""
    os.set_blocking(reading, False)
    try:
        return os.read(reading, 1000).decode()
    except BlockingIOError:
        return ""
    finally:
        os.close(reading)


def _tell(writing: int, name: str) -> None:
    with suppress(OSError):
        os.write(writing, name.encode())


def _complain(code: int, name: str) -> int:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    remedy = f"recsweep resume {name} goes on from there" if name else "nothing had been started"
    print(
        f"recsweep: the driver {how} without a word, as it does where the Ray cluster is lost; "
        f"what was measured is in the store; {remedy}",
        file=sys.stderr,
    )
    return BROKEN


def _end_with(parent: int) -> None:
    """On Linux the kernel ends the child where the parent is killed; elsewhere it goes on, and its lease shows it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(BROKEN)
