"""What all tests share: shape checks at run time, a small data set, and the way to the real data."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping

# Before anything of `trainables` is imported: every annotated shape is then checked at every call.
jaxtyping.install_import_hook("trainables", "beartype.beartype")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from trainables.data.bundle import DataBundle, Interactions  # noqa: E402

# No example is timed: on a busy machine a first call may take long, and a test would fail by chance.
hypothesis.settings.register_profile("recsweep", deadline=None)
hypothesis.settings.load_profile("recsweep")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread, as in a trial, so that sums are added in the same order every time."""
    torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the project with real data and golden vectors; tests that use it skip where it is absent."""
    folder = Path(os.environ.get("RECSWEEP_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir() or not (folder / "golden").is_dir():
        pytest.skip(f"needs real data and golden vectors in {folder}")
    return folder


def toy_bundle(
    seed: int = 0, num_users: int = 9, num_items: int = 11, modalities: tuple[str, ...] = ("image", "text")
) -> DataBundle:
    """Nine users, eleven items, about four training items a user; the last item has no interaction at all."""
    rng = np.random.default_rng(seed)
    pairs = [(u, int(i)) for u in range(num_users) for i in rng.choice(num_items - 1, size=6, replace=False)]
    users, items = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    place = np.tile(np.arange(6), num_users)
    widths = {"image": 7, "text": 5, "audio": 4}
    features = {name: rng.standard_normal((num_items, widths[name])).astype(np.float32) for name in modalities}
    return DataBundle(
        name="toy",
        digest="toy",
        file_digests={},
        num_users=num_users,
        num_items=num_items,
        train=Interactions(users[place < 4], items[place < 4]),
        valid=Interactions(users[place == 4], items[place == 4]),
        features=features,
    )


@pytest.fixture
def toy() -> DataBundle:
    """The small data set with two modalities."""
    return toy_bundle()


@pytest.fixture
def make_toy() -> object:
    """The maker of small data sets."""
    return toy_bundle
