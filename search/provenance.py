"""Where results come from: versions, commit, machine and data."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from search.spec import SweepSpec
from trainables.data.bundle import DataBundle

LIBRARIES = ("recsweep", "torch", "ray", "optuna", "numpy", "scipy", "pandas", "pyarrow")


def sweep_row(spec: SweepSpec, bundles: Mapping[str, DataBundle]) -> dict[str, object]:
    """The row of the `sweeps` table for a start of this sweep, now."""
    commit, dirty = _checkout()
    return {
        "sweep": spec.name,
        "digest": spec.digest,
        "spec_json": spec.model_dump_json(),
        "started": datetime.now(UTC),
        "git_commit": commit,
        "git_dirty": dirty,
        "versions_json": json.dumps({"python": platform.python_version(), **_versions()}),
        "sampler_json": json.dumps({"kind": spec.search.sampler, "seed": spec.search.seeds[0]}),
        "scheduler_json": spec.search.scheduler.model_dump_json(),
        "data_json": json.dumps({name: dict(bundle.file_digests) for name, bundle in bundles.items()}),
        "host": platform.node(),
    }


def _versions() -> dict[str, str]:
    known = {}
    for name in LIBRARIES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def _checkout() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether it has changes; None where it is none."""
    commit = _git("rev-parse", "HEAD")
    return (None, None) if commit is None else (commit, bool(_git("status", "--porcelain")))


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
