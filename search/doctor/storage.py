"""Whether a machine can write, read and delete in the store; runs on the driver and on every node."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from search.errors import StoreError
from search.store import Store


@dataclass(frozen=True)
class Trial:
    """How one machine's attempt at the store went.

    Attributes:
        where: the machine.
        error: why it could not write; None where it could.
        unseen: machines whose files it could not read.
        clock: seconds by which the store's file times are ahead of its clock; None where the store has none.
    """

    where: str
    error: str | None = None
    unseen: Sequence[str] = field(default_factory=tuple)
    clock: float | None = None


def write(root: str, name: str, content: str, where: str) -> Trial:
    """Writes a probe into the store and looks at its time."""
    try:
        store = Store(root)
        before = time.time()
        store.place.write(name, content.encode())
        after = time.time()
        found = store.place.info(name).mtime_ns
    except (StoreError, OSError, pa.ArrowException) as error:
        return Trial(where, error=_first_line(error))
    # Ahead of what is still possible, or behind it: a clock between before and after is right.
    stamp = None if found is None else found / 1e9
    clock = None if stamp is None else max(stamp - after, 0.0) + min(stamp - before, 0.0)
    return Trial(where, clock=clock)


def unseen(root: str, expected: Mapping[str, tuple[str, str]]) -> list[str]:
    """The machines whose probes cannot be read here, of machine: (name, content)."""
    missing = []
    for where, (name, content) in expected.items():
        try:
            store = Store(root)
            right = store.place.read(name) == content.encode()
        except (StoreError, OSError, pa.ArrowException):
            right = False
        if not right:
            missing.append(where)
    return missing


def delete(root: str, names: Sequence[str]) -> str | None:
    """Deletes probes; returns why one could not be deleted, or None."""
    problem = None
    for name in names:
        try:
            store = Store(root)
            store.place.delete(name)
        except FileNotFoundError:
            continue
        except (StoreError, OSError, pa.ArrowException) as error:
            problem = _first_line(error)
    return problem


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
