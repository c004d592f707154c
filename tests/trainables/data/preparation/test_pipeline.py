"""From files to a folder: what it holds, what happens the second time, and what is left when something goes wrong."""

import json

import numpy as np
import pytest
from published_files import letters, random_rows, review_2014, review_2018
from pyarrow import parquet

from trainables.data.catalog import check, describe, load
from trainables.data.config import DataConfig
from trainables.data.interactions import read_interactions
from trainables.data.preparation.amazon import AmazonFiles
from trainables.data.preparation.feature_rows import CHUNK_ROWS, Encoder
from trainables.data.preparation.images import BinaryImages
from trainables.data.preparation.pipeline import prepare
from trainables.data.preparation.settings import Settings
from trainables.data.splits import split_labels
from trainables.errors import DataError

LETTERS = Encoder("letters", lambda: letters)


def titles(rows):
    """A title for two of three items."""
    ids = sorted({row[1] for row in rows})
    return {item: f"Title of {item} zz{place}" for place, item in enumerate(ids) if place % 3}


@pytest.fixture
def files(reviews, rows, write_lines):
    meta = write_lines("meta.json.gz", [repr({"asin": item, "title": title}) for item, title in titles(rows).items()])
    return AmazonFiles(reviews, meta)


@pytest.fixture
def pictures(tmp_path, rows):
    """Published features of every second item, and of others."""
    rng = np.random.default_rng(0)
    ids = ["B999999999", *sorted({row[1] for row in rows})[::2]]
    features = {item: rng.standard_normal(4096).astype("<f4") for item in ids}
    path = tmp_path / "image_features_Baby.b"
    path.write_bytes(b"".join(item.encode() + row.tobytes() for item, row in features.items()))
    return path, features


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def left_beside(out):
    return sorted(path.name for path in out.parent.iterdir() if path.name.startswith("."))


def test_a_prepared_folder_passes_every_check_and_loads(files, tmp_path):
    out = tmp_path / "made" / "baby"
    result = prepare(files, out, Settings(), text_encoder=LETTERS)
    assert not result.was_there
    assert check(DataConfig.of_folder(out)) == ()
    bundle = load(DataConfig.of_folder(out))
    counts = result.account["interactions"]["counts"]
    assert (bundle.num_users, bundle.num_items) == (counts["users"], counts["items"])
    assert describe(DataConfig.of_folder(out))["interactions"]["total"] == counts["interactions"]
    assert json.loads((out / "prepare.json").read_text()) == result.account
    assert sorted(content(out)) == [
        "baby.inter",
        "i_id_mapping.csv",
        "item_texts.parquet",
        "prepare.json",
        "text_feat.npy",
        "u_id_mapping.csv",
    ]
    assert left_beside(out) == []


def test_rows_with_their_original_ids_are_the_reviews(files, tmp_path, rows):
    prepare(files, tmp_path / "baby", Settings(core=1))
    users, items = (
        [line.split("\t")[0] for line in (tmp_path / "baby" / name).read_text().splitlines()[1:]]
        for name in ("u_id_mapping.csv", "i_id_mapping.csv")
    )
    lines = [line.split("\t") for line in (tmp_path / "baby" / "baby.inter").read_text().splitlines()]
    assert lines[0] == ["userID", "itemID", "rating", "timestamp", "x_label"]
    made = {(users[int(u)], items[int(i)], float(r), int(t)) for u, i, r, t, _ in lines[1:]}
    assert made <= set(rows)
    assert len(made) == len({row[:2] for row in rows})


@pytest.mark.parametrize("split", ["random", "leave_one_out", "global_time"])
def test_the_labels_are_those_of_the_rule_and_the_seed(files, tmp_path, split):
    prepare(files, tmp_path / "baby", Settings(split=split, split_seed=7))
    table = read_interactions(tmp_path / "baby" / "baby.inter")
    np.testing.assert_array_equal(table.labels, split_labels(table, DataConfig(split=split, split_seed=7)))


def test_a_row_of_text_features_is_the_encoders_of_that_items_text(files, tmp_path, rows):
    prepare(files, tmp_path / "baby", Settings(missing="zero"), text_encoder=LETTERS)
    ids = [line.split("\t")[0] for line in (tmp_path / "baby" / "i_id_mapping.csv").read_text().splitlines()[1:]]
    expected = letters([titles(rows).get(item, "") for item in ids])
    np.testing.assert_array_equal(np.load(tmp_path / "baby" / "text_feat.npy"), expected)
    texts = parquet.read_table(tmp_path / "baby" / "item_texts.parquet")
    assert texts["id"].to_pylist() == ids
    assert texts["text"].to_pylist() == [titles(rows).get(item, "") for item in ids]


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_items_without_text_get_the_mean_or_zero_and_are_counted_and_named(files, tmp_path, rows, missing):
    account = prepare(files, tmp_path / "baby", Settings(missing=missing), text_encoder=LETTERS).account
    ids = [line.split("\t")[0] for line in (tmp_path / "baby" / "i_id_mapping.csv").read_text().splitlines()[1:]]
    without = [place for place, item in enumerate(ids) if item not in titles(rows)]
    features = np.load(tmp_path / "baby" / "text_feat.npy")
    known = np.delete(features, without, axis=0)
    stand_in = known.mean(axis=0, dtype=np.float64) if missing == "mean" else np.zeros(26)
    assert without
    for place in without:
        np.testing.assert_allclose(features[place], stand_in, rtol=1e-6)
    for part in ("texts", "text"):
        assert account[part]["items_without"] == len(without)
        assert account[part]["first_without"] == [ids[place] for place in without][:5]


def test_published_image_features_go_to_their_items(files, tmp_path, pictures):
    path, features = pictures
    account = prepare(files, tmp_path / "baby", Settings(missing="zero"), images=BinaryImages(path)).account
    ids = [line.split("\t")[0] for line in (tmp_path / "baby" / "i_id_mapping.csv").read_text().splitlines()[1:]]
    made = np.load(tmp_path / "baby" / "image_feat.npy")
    assert made.shape == (len(ids), 4096) and made.dtype == np.float32
    for place, item in enumerate(ids):
        np.testing.assert_array_equal(made[place], features.get(item, np.zeros(4096)))
    assert account["image"]["items_without"] == sum(item not in features for item in ids) > 0


def test_without_an_encoder_texts_are_kept_and_no_features_made(files, tmp_path):
    prepare(files, tmp_path / "baby", Settings())
    assert "item_texts.parquet" in content(tmp_path / "baby")
    assert load(DataConfig.of_folder(tmp_path / "baby")).features == {}


# Once more


def test_the_same_again_does_nothing_and_says_so(files, tmp_path):
    def never():
        raise AssertionError("the model must not be loaded")

    first = prepare(files, tmp_path / "baby", Settings(), text_encoder=LETTERS)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "baby").iterdir()}
    again = prepare(files, tmp_path / "baby", Settings(), text_encoder=Encoder("letters", never))
    assert again.was_there and again.account == first.account
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "baby").iterdir()} == before


def test_the_order_and_layout_of_the_reviews_leave_every_byte_of_the_data_alone(write_lines, tmp_path, rows):
    lines = [review_2018(row) for row in reversed(rows)]
    for name, path in (
        ("a", write_lines("1.json", [review_2014(row) for row in rows])),
        ("b", write_lines("2.json.gz", lines)),
    ):
        prepare(AmazonFiles(path), tmp_path / name / "baby", Settings())
    first, second = (content(tmp_path / name / "baby") for name in "ab")
    first.pop("prepare.json"), second.pop("prepare.json")
    assert first == second


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": Settings(core=4)}, "settings.core"),
        ({"settings": Settings(split="leave_one_out", missing="zero")}, "settings.missing, settings.split"),
        ({"text_encoder": Encoder("other", lambda: letters)}, "text_encoder"),
    ],
)
def test_other_settings_are_refused_unless_forced(files, tmp_path, change, named):
    asked = {"settings": Settings(), "text_encoder": LETTERS}
    prepare(files, tmp_path / "baby", **asked)
    before = content(tmp_path / "baby")
    with pytest.raises(
        DataError, match=rf"baby was prepared from something else \({named}\); --force prepares it anew"
    ):
        prepare(files, tmp_path / "baby", **asked | change)
    assert content(tmp_path / "baby") == before
    assert not prepare(files, tmp_path / "baby", **asked | change, force=True).was_there
    assert content(tmp_path / "baby") != before
    assert left_beside(tmp_path / "baby") == []


def test_other_files_are_refused(files, tmp_path, write_lines, rows):
    prepare(files, tmp_path / "baby", Settings())
    write_lines("reviews.json.gz", [review_2014(row) for row in rows[:-1]])
    with pytest.raises(DataError, match=r"something else \(inputs\.reviews\.bytes, inputs\.reviews\.digest\)"):
        prepare(files, tmp_path / "baby", Settings())


def test_a_folder_that_lost_a_file_is_no_longer_whole(files, tmp_path):
    prepare(files, tmp_path / "baby", Settings(), text_encoder=LETTERS)
    (tmp_path / "baby" / "text_feat.npy").unlink()
    with pytest.raises(DataError, match=r"baby is no longer whole \(text_feat\.npy\); --force"):
        prepare(files, tmp_path / "baby", Settings(), text_encoder=LETTERS)
    prepare(files, tmp_path / "baby", Settings(), text_encoder=LETTERS, force=True)
    assert check(DataConfig.of_folder(tmp_path / "baby")) == ()


@pytest.mark.parametrize("force", [False, True])
def test_what_others_put_there_is_never_replaced(files, tmp_path, force):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine must be new, empty or made by `data prepare`, but it has other content"):
        prepare(files, tmp_path / "mine", Settings(), force=force)
    assert content(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_an_empty_folder_is_filled(files, tmp_path):
    (tmp_path / "baby").mkdir()
    prepare(files, tmp_path / "baby", Settings())
    assert check(DataConfig.of_folder(tmp_path / "baby")) == ()


# When something goes wrong


def test_after_an_error_in_the_encoder_nothing_is_there_and_whole_chunks_are_not_encoded_again(tmp_path, write_lines):
    rows = random_rows(num_users=30, num_items=CHUNK_ROWS // 2 * 5, count=0)
    rows = [(f"U{user}", f"B{item:05d}", 5.0, item) for item in range(CHUNK_ROWS * 5 // 2) for user in range(2)]
    files = AmazonFiles(
        write_lines("r.json", [review_2014(row) for row in rows]),
        write_lines("m.json", [json.dumps({"asin": row[1], "title": f"t {row[1]}"}) for row in rows[::2]]),
    )
    encoded = []

    def failing(texts):
        if len(encoded) == 2:
            raise RuntimeError("the power went")
        encoded.append(list(texts))
        return letters(texts)

    settings = Settings(core=2)
    with pytest.raises(RuntimeError, match="the power went"):
        prepare(files, tmp_path / "baby", settings, text_encoder=Encoder("letters", lambda: failing))
    assert not (tmp_path / "baby").exists() and left_beside(tmp_path / "baby") == [".baby.partial"]
    later = []
    prepare(
        files,
        tmp_path / "baby",
        settings,
        text_encoder=Encoder("letters", lambda: lambda texts: (later.append(list(texts)), letters(texts))[1]),
    )
    assert [len(texts) for texts in encoded + later] == [CHUNK_ROWS, CHUNK_ROWS, CHUNK_ROWS // 2]
    prepare(files, tmp_path / "whole" / "baby", settings, text_encoder=LETTERS)
    assert content(tmp_path / "baby") == content(tmp_path / "whole" / "baby")


def test_what_another_request_left_behind_is_not_used(files, tmp_path):
    def failing(texts):
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        prepare(files, tmp_path / "baby", Settings(core=4), text_encoder=Encoder("letters", lambda: failing))
    prepare(files, tmp_path / "baby", Settings(), text_encoder=LETTERS)
    prepare(files, tmp_path / "whole" / "baby", Settings(), text_encoder=LETTERS)
    assert content(tmp_path / "baby") == content(tmp_path / "whole" / "baby")
    assert left_beside(tmp_path / "baby") == []


def test_a_folder_whose_replacement_was_killed_between_two_renames_is_put_back(files, tmp_path):
    prepare(files, tmp_path / "baby", Settings())
    (tmp_path / "baby").rename(tmp_path / ".baby.replaced")
    assert prepare(files, tmp_path / "baby", Settings()).was_there


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("synthetic", "the folder's name must not be 'synthetic', which is the embedded data set"),
        ("my data", r"must consist of letters, digits, '\.', '_' and '-', but is 'my data'"),
    ],
)
def test_a_name_that_no_data_set_can_have_is_an_error(files, tmp_path, name, sentence):
    with pytest.raises(DataError, match=sentence):
        prepare(files, tmp_path / name, Settings())


def test_a_missing_input_is_an_error_before_anything_is_done(files, tmp_path):
    with pytest.raises(DataError, match=r"none\.b must be a file or a folder, but does not exist"):
        prepare(files, tmp_path / "baby", Settings(), images=BinaryImages(tmp_path / "none.b"))
    assert left_beside(tmp_path / "baby") == []


@pytest.mark.parametrize("shape", [(3, 26), (0,), ()])
def test_an_encoder_that_returns_another_number_of_rows_is_an_error(files, tmp_path, shape):
    with pytest.raises(DataError, match="an encoder must return one row for each of"):
        prepare(
            files, tmp_path / "baby", Settings(), text_encoder=Encoder("odd", lambda: lambda texts: np.zeros(shape))
        )
