"""Tables: CSV, TSV and Parquet give the same rows; times of every kind are seconds; broken rows are named."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from published_files import review_2014

from trainables.data.preparation.amazon import AmazonFiles
from trainables.data.preparation.frame import TableFile
from trainables.data.preparation.pipeline import prepare
from trainables.data.preparation.raw import NO_ITEM, NO_RATING, NO_TIME, NO_USER
from trainables.data.preparation.settings import Settings
from trainables.errors import DataError

COLUMNS = {"user": "who", "item": "what", "rating": "stars", "time": "when"}


@pytest.fixture
def frame(rows):
    return pd.DataFrame(rows, columns=list(COLUMNS.values()))


@pytest.fixture
def write(tmp_path):
    def write(frame, suffix):
        path = tmp_path / f"table{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, sep="\t" if ".tsv" in suffix else ",", index=False)
        return path

    return write


def as_rows(raw):
    return [
        (raw.user_ids[user], raw.item_ids[item], rating, time)
        for user, item, rating, time in zip(
            raw.users.tolist(), raw.items.tolist(), raw.ratings.tolist(), raw.times.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_a_table_and_reviews_of_the_same_rows_make_the_same_data_set(write, frame, suffix, write_lines, rows, tmp_path):
    table = TableFile(write(frame, suffix), **COLUMNS)
    assert as_rows(table.interactions()) == rows
    prepare(table, tmp_path / "a" / "baby", Settings())
    prepare(AmazonFiles(write_lines("r.json", [review_2014(row) for row in rows])), tmp_path / "b" / "baby", Settings())
    for name in ("baby.inter", "u_id_mapping.csv"):
        assert (tmp_path / "a" / "baby" / name).read_bytes() == (tmp_path / "b" / "baby" / name).read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_numbers_may_be_ids(write, suffix):
    frame = pd.DataFrame({"u": [10, 9], "i": [1, 2]})
    raw = TableFile(write(frame, suffix), "u", "i").interactions()
    assert (raw.user_ids, raw.item_ids, raw.times) == (["10", "9"], ["1", "2"], None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_moments_are_seconds_and_those_without_a_zone_are_utc(write, suffix, zone):
    moments = pd.to_datetime(["2014-03-01 12:00:00", "2023-10-05 07:08:09.25"], format="ISO8601").tz_localize(zone)
    frame = pd.DataFrame({"u": ["a", "b"], "i": ["c", "d"], "t": moments})
    expected = [moment.replace(tzinfo=UTC if zone is None else moment.tzinfo).timestamp() for moment in moments]
    assert TableFile(write(frame, suffix), "u", "i", time="t").interactions().times.tolist() == expected
    assert zone == "Asia/Tokyo" or expected[0] == datetime(2014, 3, 1, 12, tzinfo=UTC).timestamp()


def test_broken_rows_are_left_out_counted_and_named(write_lines):
    lines = ["u,i,r,t", "A,B,5,1", ",B,5,1", "A,,5,1", "A,B,x,1", "A,B,5,", "A,B,5,inf"]
    raw = TableFile(write_lines("x.csv", lines), "u", "i", "r", "t").interactions()
    assert len(raw.users) == 1 and raw.rows == 6
    assert {reason: found["first_lines"] for reason, found in raw.skipped.items()} == {
        NO_USER: [2],
        NO_ITEM: [3],
        NO_RATING: [4],
        NO_TIME: [5, 6],
    }


def test_rows_with_another_number_of_cells_are_left_out(write_lines):
    raw = TableFile(write_lines("x.csv", ["u,i", "A,B", "A", "A,B,C", "C,D"]), "u", "i").interactions()
    assert raw.user_ids == ["A", "C"]
    assert raw.skipped == {"as many cells as columns must be there": {"count": 2, "first_lines": [3, 4]}}


def test_texts_come_from_the_same_table_or_from_one_of_items(write_lines):
    table = write_lines("x.csv", ["u,i,title", "A,B,Cup", "A,C,", "D,C,Lid", "D,B,later"])
    positions = {"B": 0, "C": 1}
    assert TableFile(table, "u", "i", text=("title",)).texts(positions).texts == ["Cup", "Lid"]
    items = write_lines("items.tsv", ["i\tname\tmaker", 'B\t"A ""cup"""\tAcme', "Z\tother\tx"])
    found = TableFile(table, "u", "i", text=("maker", "name"), items=items).texts(positions)
    assert found.texts == ['Acme. A "cup"', ""]
    assert TableFile(table, "u", "i").texts(positions) is None


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        ("x.csv", ["user,i", "A,B"], r"must have a column 'u', but its columns are \['user', 'i'\]"),
        ("x.json", ["{}"], r"must be named \.csv, \.tsv \(or with \.gz behind it\) or \.parquet"),
        ("x.csv", [], r"x\.csv must be a readable table, but: Empty CSV file"),
        ("x.csv", ["u,i"], "must hold interactions, but none of its rows is sound"),
        (
            "x.parquet",
            ["u,i", "A,B", "C,D"],
            r"x\.parquet must be a readable table, but: Parquet magic bytes not found",
        ),
    ],
)
def test_a_file_that_is_no_table_of_interactions_is_an_error(write_lines, name, lines, sentence):
    with pytest.raises(DataError, match=sentence):
        TableFile(write_lines(name, lines), "u", "i").interactions()
