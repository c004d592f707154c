"""The data sets of a sweep, loaded and checked."""

import os
from pathlib import Path

from search.spec import SweepSpec
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig


def graph_cache_folder() -> Path:
    """Where graphs are kept between processes: recsweep/graphs below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsweep" / "graphs"


def load_data(spec: SweepSpec) -> dict[str, DataBundle]:
    """Each data set of the sweep, loaded and checked.

    Raises:
        DataError: a file breaks a rule.
    """
    shared = spec.data.model_dump(exclude={"names"})
    return {name: load(DataConfig(name=name, **shared), graph_cache_folder()) for name in spec.data.names}
