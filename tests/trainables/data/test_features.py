"""Reading *_feat.npy files: what comes back, and the sentence for everything that may be wrong with one."""

import numpy as np
import pytest

from trainables.data.features import count_zero_rows, file_digest, find_features, read_features
from trainables.errors import DataError


@pytest.fixture
def npy(tmp_path):
    def write(array, **options):
        path = tmp_path / "image_feat.npy"
        np.save(path, array, **options)
        return path

    return write


def test_modalities_are_the_file_stems_without_feat_sorted_by_name(tmp_path):
    for name in ("text_feat.npy", "audio_feat.npy", "image_feat.npz", "_feat.npy", "feat.npy", "notes.npy"):
        (tmp_path / name).write_bytes(b"")
    assert list(find_features(tmp_path)) == ["audio", "text"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_floating_type_and_memory_order_is_read_as_float32_rows(npy, dtype, order):
    values = np.arange(12.0).reshape(4, 3)
    features = read_features(npy(np.asarray(values, dtype=dtype, order=order)), 4)
    assert features.dtype == np.float32 and features.flags.c_contiguous
    np.testing.assert_array_equal(features, values)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros(4), r"must have the shape \[items, width\], but has \[4\]"),
        (np.zeros((4, 2, 2)), r"must have the shape \[items, width\], but has \[4, 2, 2\]"),
        (np.zeros((4, 3), dtype=np.int64), "must hold floating point numbers, but holds int64"),
        (np.zeros((4, 3), dtype=np.complex64), "must hold floating point numbers, but holds complex64"),
        (np.full((4, 3), "a"), "must hold floating point numbers, but holds <U1"),
        (np.zeros((3, 3)), "must have one row for each of the 4 items, but has 3 rows"),
        (np.zeros((5, 3)), "must have one row for each of the 4 items, but has 5 rows"),
        (np.full((4, 3), 1e300), r"finite float32 numbers, but row 0, column 0 is inf \(12 such values\)"),
    ],
)
def test_an_array_of_the_wrong_shape_type_or_length_is_an_error(npy, array, sentence):
    with pytest.raises(DataError, match=rf"image_feat\.npy {sentence}|image_feat\.npy must hold only {sentence}"):
        read_features(npy(array), 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_that_says_where(npy, value):
    array = np.zeros((4, 3), dtype=np.float32)
    array[2, 1] = array[3, 0] = value
    with pytest.raises(DataError, match=rf"but row 2, column 1 is {value} \(2 such values\)"):
        read_features(npy(array), 4)


def test_python_objects_are_refused_and_never_unpickled(npy):
    with pytest.raises(DataError, match=r"must be a \.npy array without Python objects"):
        read_features(npy(np.array([[{"a": 1}]], dtype=object), allow_pickle=True), 1)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY"])
def test_a_file_that_is_no_array_is_an_error(tmp_path, content):
    path = tmp_path / "image_feat.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"image_feat\.npy must be a \.npy array"):
        read_features(path, 4)


def test_a_truncated_file_and_an_archive_are_errors(npy, tmp_path):
    path = npy(np.zeros((400, 30)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"must be a \.npy array"):
        read_features(path, 400)
    np.savez(tmp_path / "archive.npz", a=np.zeros((4, 3)))
    (tmp_path / "archive.npz").rename(path)
    with pytest.raises(DataError, match=r"must be a \.npy array"):
        read_features(path, 4)


def test_rows_of_zeros_are_counted():
    features = np.ones((5, 3), dtype=np.float32)
    features[[0, 3]] = 0.0
    features[1, :2] = 0.0
    assert count_zero_rows(features) == 2


def test_a_digest_changes_with_any_byte(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = file_digest(path)
    path.write_bytes(b"abd")
    assert len(before) == 32 and file_digest(path) != before
