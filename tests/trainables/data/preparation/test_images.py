"""Published image features: whole records, broken ones, and files that are something else."""

import gzip

import numpy as np
import pytest

from trainables.data.preparation.feature_rows import Encoder
from trainables.data.preparation.images import BINARY_WIDTH, BinaryImages, PictureFolder
from trainables.errors import DataError


def record(item, value):
    return item + np.full(BINARY_WIDTH, value, dtype="<f4").tobytes()


def read(images, positions, tmp_path):
    return {int(places[0]): float(rows[0, 0]) for places, rows in images.blocks(positions, tmp_path, None)}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_records_go_to_their_items_and_broken_ones_are_counted(tmp_path, pack):
    content = [
        record(b"B000000001", 1.0),
        record(b"B00000000\xff", 2.0),
        record(b"B000000009", 3.0),
        record(b"B000000002", np.nan),
        record(b"B000000001", 5.0),
        record(b"B3        ", 6.0),
    ]
    (tmp_path / "x.b").write_bytes(pack(b"".join(content)))
    images = BinaryImages(tmp_path / "x.b")
    assert read(images, {"B000000001": 4, "B000000002": 0, "B3": 1}, tmp_path) == {4: 1.0, 1: 6.0}
    assert {reason: lines["first_lines"] for reason, lines in images.skipped.plain().items()} == {
        "an id that is not ASCII": [2],
        "a feature that is no finite number": [4],
        "an item that an earlier record describes": [5],
    }


def test_a_file_that_breaks_off_in_a_record_is_an_error(tmp_path):
    (tmp_path / "x.b").write_bytes(record(b"B000000001", 1.0) + record(b"B000000002", 1.0)[:-1])
    with pytest.raises(
        DataError, match=r"x\.b must hold records of 10 bytes and 4,096 float32, but: record 2 has 16393"
    ):
        read(BinaryImages(tmp_path / "x.b"), {}, tmp_path)


def test_of_a_folder_only_pictures_of_the_items_are_encoded_in_the_order_of_the_items(tmp_path):
    for name in ("B2.jpg", "B1.PNG", "B1.webp", "B9.jpg", "B3.txt", "notes"):
        (tmp_path / name).write_text(name)
    seen = []

    def encode(paths):
        seen.extend(paths)
        return np.array([[len(path)] for path in paths], dtype=np.float32)

    images = PictureFolder(tmp_path, Encoder("lengths", lambda: encode))
    blocks = list(images.blocks({"B1": 5, "B2": 3, "B3": 0}, tmp_path / "chunks", encode))
    assert [places.tolist() for places, _ in blocks] == [[3, 5]]
    assert [path.rpartition("/")[2] for path in seen] == ["B2.jpg", "B1.PNG"]
