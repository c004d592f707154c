"""The checks before a sweep, in a process of their own while the cluster starts.

They build models, and a driver that had imported PyTorch for them would hold it for as long as the sweep lasts.
"""

import multiprocessing
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection

from search.errors import SearchError
from search.spec import SweepSpec
from search.study_spec import StudySpec
from spaces.errors import SpaceError
from trainables.data.bundle import DataBundle
from trainables.errors import TrainableError
from trainables.shares import give_back_memory

Check = Callable[[], None]


def checks_beside(
    spec: SweepSpec, studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle]
) -> AbstractContextManager[Check]:
    """Begins to check that every cell of the sweep can be trained on its data; yields what waits for the verdict.

    The verdict is the errors of `check_configurations` and `check_protocols`, or a SearchError where the process that
    checks is lost. Where a fork would be no use or no safe one, all is checked before anything is yielded.
    """
    return beside(lambda: _check(spec, studies, bundles))


def _check(spec: SweepSpec, studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle]) -> None:
    from search.preparation import check_configurations
    from search.protocols.preparation import check_protocols

    check_configurations(studies, bundles, spec.search.seeds[0])
    check_protocols(spec, studies, bundles)


@contextmanager
def beside(check: Check) -> Iterator[Check]:
    """Begins a check in a fork of this process; yields what waits for its end and raises what it raised.

    A process that has PyTorch already has nothing to save, and its threads, as any others, are lost in a fork and may
    hold locks: there the check is made at once, and what it raises is raised here.
    """
    if sys.platform != "linux" or "torch" in sys.modules or threading.active_count() > 1:
        check()
        give_back_memory()
        yield lambda: None
        return
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(check, sending), daemon=True)
    with warnings.catch_warnings():
        # From 3.12 on Python warns of forks beside threads of libraries; OpenBLAS and Arrow are ready for forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sending.close()
    try:
        yield lambda: _verdict(receiving)
    finally:
        receiving.close()
        process.kill()  # which has ended, where its verdict was heard
        process.join()


def _report(check: Check, sending: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the driver, which Ctrl-C reaches as well
    raised: Exception | None = None
    try:
        check()
    except (SearchError, SpaceError, TrainableError) as error:
        raised = error
    except Exception:
        raised = RuntimeError(f"the configurations could not be checked:\n{traceback.format_exc()}")
    with suppress(BrokenPipeError):
        sending.send(raised)


def _verdict(receiving: Connection) -> None:
    try:
        raised = receiving.recv()
    except EOFError:
        raise SearchError(
            "the process that checks the configurations must live to its end, but was killed, as it is where a machine "
            "has too little memory to build the largest model"
        ) from None
    if raised is not None:
        raise raised
