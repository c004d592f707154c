"""Reading .inter files: what comes back, and the sentence for everything that may be wrong with one."""

import numpy as np
import pytest

from trainables.data.interactions import read_interactions
from trainables.errors import DataError

HEADER = "userID\titemID\tx_label\n"


@pytest.fixture
def inter(tmp_path):
    def write(text):
        path = tmp_path / "tiny.inter"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_rows_come_back_in_the_order_of_the_file(inter):
    table = read_interactions(inter(HEADER + "1\t0\t2\n0\t1\t0\n0\t0\t1\n"))
    np.testing.assert_array_equal(table.users, [1, 0, 0])
    np.testing.assert_array_equal(table.items, [0, 1, 0])
    np.testing.assert_array_equal(table.labels, [2, 0, 1])
    assert (table.num_users, table.num_items, table.times) == (2, 2, None)


def test_columns_may_stand_in_any_order_and_unknown_ones_are_not_read(inter):
    table = read_interactions(inter("note\titemID\trating\ttimestamp\tuserID\nx\t0\t4.5\t17\t0\ny\t1\t\t18\t0\n"))
    np.testing.assert_array_equal(table.items, [0, 1])
    np.testing.assert_array_equal(table.times, [17, 18])
    assert table.labels is None
    assert table.columns == ("note", "itemID", "rating", "timestamp", "userID")


@pytest.mark.parametrize(
    "text", [HEADER.replace("\n", "\r\n") + "0\t0\t0\r\n0\t1\t1\r\n", HEADER + "0\t0\t0\n\n0\t1\t1"]
)
def test_windows_line_ends_empty_lines_and_a_missing_last_line_end_are_fine(inter, text):
    assert len(read_interactions(inter(text)).users) == 2


def test_a_byte_order_mark_is_fine(inter):
    assert len(read_interactions(inter(b"\xef\xbb\xbf" + (HEADER + "0\t0\t0\n").encode())).users) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must start with a line of column names, but its first line is empty"),
        (HEADER, "must hold interactions, but has only a header"),
        (
            "user\titemID\n0\t0\n",
            r"column 'userID', but its columns are \['user', 'itemID'\] \(did you mean 'user'\?\)",
        ),
        ("userID,itemID\n0,0\n", r"must have a tab separated column 'userID', but its columns are \['userID,itemID'\]"),
        ("userID\titemID\tuserID\n0\t0\t0\n", r"distinct column names, but has \['userID', 'itemID', 'userID'\]"),
        (HEADER + "0\t0\t0\nu7\t1\t0\n", "line 3: userID must be an integer, but is 'u7'"),
        (HEADER + "0\t0\t0\n\n0\t1.5\t0\n", "line 4: itemID must be an integer, but is '1.5'"),
        (HEADER + "0\t0\t0\n0\t1.0\t0\n", "line 3: itemID must be an integer, but is '1.0'"),
        (HEADER + "0\t0\t0\n0\t\t0\n", "line 3: itemID must be an integer, but is ''"),
        (HEADER + "0\t0\t0\n0\tNA\t0\n", "line 3: itemID must be an integer, but is 'NA'"),
        (HEADER + "0\t0\t0\n0\t1\ttrain\n", "line 3: x_label must be an integer, but is 'train'"),
        (
            HEADER + "0\t0\t0\n0\t1\t3\n",
            r"line 3: x_label must be 0 \(train\), 1 \(validation\) or 2 \(test\), but is 3",
        ),
        (HEADER + "0\t0\t0\n0\t1\t-1\n", "line 3: x_label must be 0 .*, but is -1"),
        (HEADER + "0\t0\t0\n-4\t1\t0\n", "line 3: userID must not be negative, but is -4"),
        (
            HEADER + "0\t0\t0\n3\t1\t0\n4\t1\t0\n",
            "userID must run from 0 to 4 without gaps, but 2 ids are missing, .* 1$",
        ),
        (HEADER + "1\t0\t0\n", "userID must run from 0 to 1 without gaps, but 1 ids are missing, the first is 0"),
        (
            HEADER + "0\t0\t0\n0\t900000000000\t0\n",
            "itemID must run .* but 899999999999 ids are missing, the first is 1",
        ),
        (HEADER + "0\t0\t0\n0\t99999999999999999999\t0\n", "must be a tab separated table of integers, but: .*9999"),
        (HEADER + "0\t0\t0\n1\t0\n", "must be a tab separated table of integers, but: .*Expected 3 columns, got 2"),
        ("userID\titemID\ttimestamp\n0\t0\t5\n0\t1\tnoon\n", "line 3: timestamp must be a number, but is 'noon'"),
        ("userID\titemID\ttimestamp\n0\t0\t5\n0\t1\t\n", "line 3: timestamp must be a number, but is ''"),
        ("userID\titemID\ttimestamp\n0\t0\t2020-01-01\n", "line 2: timestamp must be a number, but is '2020-01-01'"),
    ],
)
def test_a_broken_file_is_an_error_that_says_where_and_what(inter, text, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        read_interactions(inter(text))
    assert "tiny.inter" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pair_that_occurs_twice_is_an_error_also_across_splits(inter):
    text = HEADER + "0\t0\t0\n0\t1\t0\n\n1\t1\t0\n0\t1\t2\n"
    with pytest.raises(DataError, match=r"line 6: a pair .* but user 0 with item 1 is also on line 3"):
        read_interactions(inter(text))


def test_a_missing_file_and_a_file_that_is_no_text_are_errors(tmp_path, inter):
    with pytest.raises(DataError, match=r"nothing\.inter must be a readable text file, but: .*No such file"):
        read_interactions(tmp_path / "nothing.inter")
    with pytest.raises(DataError, match="must be a readable text file"):
        read_interactions(inter(b"\xff\xfe\x00\x01"))
