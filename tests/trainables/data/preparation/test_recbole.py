"""RecBole's atomic files: the same rows as the other readers, broken lines named, columns by their names."""

import pytest
from published_files import review_2014

from trainables.data.preparation.amazon import AmazonFiles
from trainables.data.preparation.pipeline import prepare
from trainables.data.preparation.raw import NO_ITEM, NO_RATING, NO_TIME, NO_USER
from trainables.data.preparation.recbole import AtomicFiles
from trainables.data.preparation.settings import Settings
from trainables.errors import DataError

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEMS = "item_id:token\ttitle:token_seq\tprice:float\tgenre:token"


def test_atomic_files_and_reviews_of_the_same_rows_make_the_same_data_set(write_lines, rows, tmp_path):
    lines = [HEADER, *("\t".join(map(str, row)) for row in rows)]
    prepare(AtomicFiles(write_lines("baby.inter", lines)), tmp_path / "a" / "baby", Settings())
    reviews = write_lines("r.json", [review_2014(row) for row in rows])
    prepare(AmazonFiles(reviews), tmp_path / "b" / "baby", Settings())
    for name in ("baby.inter", "u_id_mapping.csv"):
        assert (tmp_path / "a" / "baby" / name).read_bytes() == (tmp_path / "b" / "baby" / name).read_bytes()


def test_columns_may_stand_in_any_order_beside_others(write_lines):
    path = write_lines("x.inter.gz", ["age:float\titem_id:token\tuser_id:token", "1\tI\tU"])
    raw = AtomicFiles(path).interactions()
    assert (raw.user_ids, raw.item_ids, raw.ratings, raw.times) == (["U"], ["I"], None, None)


def test_broken_lines_are_left_out_counted_and_named(write_lines):
    lines = [HEADER, "U\tI\t5\t1", "U\tI", "\tI\t5\t1", "U\t\t5\t1", "U\tI\tx\t1", "U\tI\t5\tnan", b"\xff\tI\t5\t1"]
    raw = AtomicFiles(write_lines("x.inter", lines)).interactions()
    assert len(raw.users) == 1 and raw.rows == 7
    assert {reason: found["first_lines"] for reason, found in raw.skipped.items()} == {
        "as many cells as columns must be there": [3],
        NO_USER: [4],
        NO_ITEM: [5],
        NO_RATING: [6],
        NO_TIME: [7],
        "no text in UTF-8": [8],
    }


@pytest.mark.parametrize(
    ("text", "expected"), [((), ["A cup. Cups", ""]), (("genre", "price"), ["Cups. 3.5", ""])], ids=["all", "chosen"]
)
def test_texts_are_the_chosen_columns_or_all_of_tokens(write_lines, text, expected):
    items = write_lines("x.item", [ITEMS, "I1\tA cup\t3.5\tCups", "I9\tother\t1\tx", "I1\tlater\t1\tx", "I2"])
    found = AtomicFiles(write_lines("x.inter", [HEADER]), items, text).texts({"I1": 0, "I2": 1})
    assert found.texts == expected
    assert found.skipped == {"as many cells as columns must be there": {"count": 1, "first_lines": [5]}}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"x\.inter must start with a line of columns with types, such as 'user_id:token', but starts with \[''\]"),
        (["user_id\titem_id", "U\tI"], r"but starts with \['user_id', 'item_id'\]"),
        (["user:token\titem_id:token"], r"a column 'user_id', but its columns are .* \(did you mean 'user'\?\)"),
        ([HEADER], "must hold interactions, but none of its lines is sound: it has none"),
        ([HEADER, "U"], r"none of its lines is sound: as many cells as columns must be there \(1, first in line 2\)"),
    ],
)
def test_a_file_that_is_no_table_of_interactions_is_an_error(write_lines, lines, sentence):
    with pytest.raises(DataError, match=sentence):
        AtomicFiles(write_lines("x.inter", lines)).interactions()


def test_a_text_column_that_is_not_there_is_an_error(write_lines):
    files = AtomicFiles(write_lines("x.inter", [HEADER]), write_lines("x.item", [ITEMS]), ("titel",))
    with pytest.raises(DataError, match=r"x\.item must have a column 'titel', .* \(did you mean 'title'\?\)"):
        files.texts({})
