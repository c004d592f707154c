"""Small data set folders, written by the tests themselves."""

import os
from pathlib import Path

import numpy as np
import pytest

from trainables.data.config import DataConfig

ROWS = (
    # user, item, label
    (0, 0, 0),
    (0, 1, 0),
    (0, 2, 1),
    (0, 3, 2),
    (1, 1, 0),
    (1, 2, 0),
    (1, 0, 1),
    (2, 3, 0),
    (2, 2, 2),
)


class FolderWriter:
    """Writes `<root>/<name>` in MMRec's format: a sound one, unless told otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name="tiny", rows=ROWS, header=("userID", "itemID", "x_label"), features=None) -> DataConfig:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        lines = ["\t".join(map(str, row)) for row in (header, *rows)]
        (folder / f"{name}.inter").write_text("\n".join(lines) + "\n")
        for modality, array in (features or {}).items():
            np.save(folder / f"{modality}_feat.npy", array)
        return DataConfig(name=name, root=str(self.root))


@pytest.fixture
def write(tmp_path: Path) -> FolderWriter:
    return FolderWriter(tmp_path)


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    """Features of the four items in ROWS."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((4, width)).astype(np.float32) for name, width in (("image", 5), ("text", 3))}


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets: RECSWEEP_TEST_DATA, or shared/data beside the repository."""
    default = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("RECSWEEP_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder}; RECSWEEP_TEST_DATA may name their folder")
    return folder
