"""The hidden folder in which a data set grows until it is whole; it then appears by one rename.

Beside the target `NAME` lies `.NAME.partial`: `request.json` says what it is made of, `stages/` which steps are done,
`chunks/` what has been encoded, and `folder/` becomes the target. Whoever is killed leaves only that behind, and the
next run with the same request goes on from there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.errors import DataError
from trainables.places import sync_folder

ACCOUNT = "prepare.json"
"""The file in a prepared folder that says what it was made of."""


class WorkFolder:
    """A target in the making; only one process at a time has it open."""

    def __init__(self, place: Path, out: Path) -> None:
        self.folder = place / "folder"
        self._place, self._out = place, out

    def stage(self, name: str, build: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
        """Returns what a step said about itself when it was done; does it where it is not done yet.

        Args:
            build: writes files into `folder`, each whole or not at all, and returns plain JSON values.
        """
        record = self._place / "stages" / f"{name}.json"
        if not record.is_file():
            write_json(record, build())
        done: Mapping[str, object] = json.loads(record.read_text())
        return done

    def chunks(self, name: str) -> Path:
        """Returns the folder for the parts of a long step."""
        folder = self._place / "chunks" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, account: Mapping[str, object]) -> Mapping[str, object]:
        """Gives the folder its name; an earlier folder of that name is moved aside and removed.

        Returns:
            The account with the sizes of all "files", as it is written beside them.

        Raises:
            OSError: the target cannot be written.
        """
        for file in self.folder.iterdir():
            # Of a process that was killed here, or while it wrote a file.
            if file.name == ACCOUNT or file.name.startswith("."):
                file.unlink()
        account = {**account, "files": {file.name: file.stat().st_size for file in sorted(self.folder.iterdir())}}
        write_json(self.folder / ACCOUNT, account)
        for file in self.folder.iterdir():
            _sync(file)
        old = _aside(self._out)
        if self._out.exists():
            shutil.rmtree(old, ignore_errors=True)  # there only if a process was killed while it removed it
            os.rename(self._out, old)
        os.rename(self.folder, self._out)
        sync_folder(self._out.parent)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self._place, ignore_errors=True)
        return account


@contextmanager
def opened(out: Path, request: Mapping[str, object]) -> Iterator[WorkFolder]:
    """Opens the work folder of a target; what another request left there is removed first.

    Raises:
        DataError: another process has it open.
    """
    place = out.parent / f".{out.name}.partial"
    with _locked(place):
        if _read_json(place / "request.json") != request:
            for left in place.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            write_json(place / "request.json", request)
        for part in ("folder", "stages"):
            (place / part).mkdir(exist_ok=True)
        yield WorkFolder(place, out)


def check_target(out: Path, request: Mapping[str, object], *, force: bool) -> Mapping[str, object] | None:
    """Returns the account of a target that is already what is asked for, None where it is to be made.

    A folder that was being replaced when its process was killed is put back first.

    Raises:
        DataError: the target holds something else and `force` is not given, or something that is never replaced.
    """
    if _aside(out).exists() and not out.exists():
        os.rename(_aside(out), out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    account = _read_json(out / ACCOUNT)
    if account is None or "request" not in account:
        raise DataError(f"{out} must be new, empty or made by `data prepare`, but it has other content")
    if force:
        return None
    differing = sorted(_differences(account["request"], request))
    if differing:
        raise DataError(f"{out} was prepared from something else ({', '.join(differing)}); --force prepares it anew")
    damaged = [name for name, size in account["files"].items() if _size(out / name) != size]
    if damaged:
        raise DataError(f"{out} is no longer whole ({', '.join(damaged)}); --force prepares it anew")
    return account


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file, whole or not at all; raises OSError."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside the given one, and the one's name to what was written there once all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.part"
    yield part
    os.replace(part, path)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Makes a folder and holds a lock on it, which ends with the process."""
    handle = _lock(place)
    try:
        yield
    finally:
        os.close(handle)


def _lock(place: Path) -> int:
    while True:
        place.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise DataError(f"{place} must be used by one process at a time, but another one is at it") from None
        # Who had it before us may have finished and removed it between our two calls.
        if place.is_dir() and os.path.samestat(os.fstat(handle), place.stat()):
            return handle
        os.close(handle)


def _aside(out: Path) -> Path:
    return out.parent / f".{out.name}.replaced"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _differences(first: object, second: object, key: str = "") -> Iterator[str]:
    """The keys, joined by dots, under which two trees of JSON values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in first.keys() | second.keys():
            yield from _differences(first.get(name), second.get(name), f"{key}.{name}" if key else name)
    elif first != second:
        yield key


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _sync(file: Path) -> None:
    with file.open("rb") as opened_file:
        os.fsync(opened_file.fileno())
