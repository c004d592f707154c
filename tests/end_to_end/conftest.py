"""Small sweeps through the real command line, real Ray and a real store."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

TINY = """
name: {name}
data: {{names: [synthetic]}}
axes:
  model: [lightgcn, vbpr]
  update: [descent, bsam_plus]
space:
  tune: [update, optimizer]
  fix: {{model.embedding_size: 8}}
search: {{sampler: random, trials: 2}}
train: {{max_epochs: 4, batch_size: 1024}}
checkpoint: {{every_epochs: 1}}
"""

Command = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a sweep of eight short trials and returns its file."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(TINY.format(name=name))
        return path

    return write


@pytest.fixture(scope="session")
def recsweep_in() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the installed command in a folder, with a cache there."""

    def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "160"}
        command = [str(Path(sys.executable).parent / "recsweep"), *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture
def recsweep(tmp_path: Path, recsweep_in: Callable[..., "subprocess.CompletedProcess[str]"]) -> Command:
    """Runs the installed command in an empty folder."""
    return lambda arguments: recsweep_in(tmp_path, *arguments)
