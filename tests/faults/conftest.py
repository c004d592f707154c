"""Sweeps in real processes on real Ray that are broken on purpose, and the undisturbed sweep to compare them with."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fault_sweeps import Sweeps, fork_server, ok


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where processes are forked from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path_factory.mktemp("token") / "auth_token"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield fork_server()


@pytest.fixture
def sweeps(tmp_path: Path, server: Any) -> Iterator[Sweeps]:
    """Runs command lines in a folder of the test's own."""
    running = Sweeps(tmp_path, server)
    yield running
    running.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Path:
    """The store of the undisturbed sweep `faults`."""
    undisturbed = Sweeps(tmp_path_factory.mktemp("whole"), server)
    ok(undisturbed.run("launch", undisturbed.file(), "--store", "s"))
    return undisturbed.folder / "s"
