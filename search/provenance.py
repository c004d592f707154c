"""Where results come from: versions, commit, machine and data."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from search.names import JOB_VARIABLE
from search.spec import SweepSpec
from trainables.data.bundle import DataBundle

LIBRARIES = ("recsweep", "torch", "ray", "optuna", "numpy", "scipy", "pandas", "pyarrow")

NUMERIC = ("python", "torch", "numpy", "scipy", "optuna")
"""Those that can change a trial's numbers or a sampler's proposals."""

CODE = ("spaces", "trainables")
"""The packages that decide a trial's numbers."""


def sweep_row(
    spec: SweepSpec, bundles: Mapping[str, DataBundle], *, after: datetime | None = None
) -> dict[str, object]:
    """The row of the `sweeps` table for a start of this sweep: now, and later than `after` whatever the clock says."""
    commit, dirty = _checkout()
    now = datetime.now(UTC)
    return {
        "sweep": spec.name,
        "digest": spec.digest,
        "spec_json": spec.model_dump_json(),
        "started": now if after is None else max(now, after + timedelta(microseconds=1)),
        "git_commit": commit,
        "git_dirty": dirty,
        "code_digest": code_digest(),
        "versions_json": json.dumps({"python": platform.python_version(), **_versions()}),
        "sampler_json": json.dumps({"kind": spec.search.sampler, "seed": spec.search.seeds[0]}),
        "scheduler_json": spec.search.scheduler.model_dump_json(),
        "data_json": json.dumps({name: dict(bundle.file_digests) for name, bundle in bundles.items()}),
        "host": host_name(),
        "job": os.environ.get(JOB_VARIABLE),
    }


def host_name() -> str:
    """The name of this machine."""
    return platform.node()


def code_digest() -> str:
    """The SHA-256 in hex of the sources of the packages that decide a trial's numbers."""
    found = hashlib.sha256()
    for package in CODE:
        place = importlib.util.find_spec(package)
        assert place is not None and place.submodule_search_locations
        root = Path(place.submodule_search_locations[0])
        for path in sorted(root.rglob("*.py")):
            found.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two rows of `sweeps` that could change numbers, each as the end of a sentence."""
    found = []
    if then["code_digest"] != now["code_digest"]:
        commits = [
            f"commit {str(row['git_commit'])[:12]}{' with changes' if row['git_dirty'] else ''}" for row in (then, now)
        ]
        found.append(f"the code of {' and '.join(CODE)} ({commits[0]}, now {commits[1]})")
    old, new = (json.loads(row["versions_json"]) for row in (then, now))
    found += [f"{name} ({old.get(name)}, now {new.get(name)})" for name in NUMERIC if old.get(name) != new.get(name)]
    for dataset, files in json.loads(now["data_json"]).items():
        before = json.loads(then["data_json"]).get(dataset, {})
        names = sorted(name for name in {*before, *files} if before.get(name) != files.get(name))
        if names:
            found.append(f"the data set {dataset} ({', '.join(names)})")
    return found


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
