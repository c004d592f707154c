"""Amazon's layouts: the same reviews in all three, texts from metadata, broken lines counted and named."""

import json

import pytest
from published_files import REVIEWS, random_rows, review_2014, review_2023

from trainables.data.preparation.amazon import NOT_A_RECORD, REPEATED, read_item_texts, read_reviews
from trainables.data.preparation.raw import NO_ITEM, NO_RATING, NO_TIME, NO_USER
from trainables.errors import DataError

META_2014 = {
    "asin": "B1",
    "title": 'Cup "it\'s" \u00e9',
    "brand": "Acme",
    "categories": [["Baby", "Feeding"], ["Baby"]],
    "description": "A cup &amp; a lid.",
    "imUrl": "http://x/y.jpg",
    "salesRank": {"Baby": 3},
}
META_2018 = {
    "category": ["Baby", "Feeding"],
    "description": ["A cup", "and a lid."],
    "title": "Cup",
    "brand": "Acme",
    "asin": "B2",
    "imageURL": [],
}
META_2023 = {
    "main_category": "Baby",
    "title": "Cup",
    "store": "Acme",
    "categories": ["Baby", "Feeding"],
    "description": ["A cup"],
    "features": ["round"],
    "images": [{"large": "u"}],
    "parent_asin": "B3",
    "bought_together": None,
}


def as_rows(raw):
    return [
        (raw.user_ids[user], raw.item_ids[item], rating, time)
        for user, item, rating, time in zip(
            raw.users.tolist(), raw.items.tolist(), raw.ratings.tolist(), raw.times.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("layout", REVIEWS)
@pytest.mark.parametrize("name", ["reviews.json.gz", "reviews.jsonl"])
def test_reviews_of_every_layout_come_back_row_by_row(write_lines, rows, layout, name):
    raw = read_reviews(write_lines(name, [REVIEWS[layout](row) for row in rows]))
    assert as_rows(raw) == rows
    assert (raw.rows, raw.skipped) == (len(rows), {})


def test_milliseconds_become_seconds_and_keep_their_fraction(write_lines):
    review = json.loads(review_2023(("A", "B", 5.0, 0))) | {"timestamp": 1_588_615_855_070}
    assert read_reviews(write_lines("r.jsonl", [json.dumps(review)])).times.tolist() == [1_588_615_855.07]


def test_an_item_of_2023_without_a_parent_is_itself(write_lines):
    review = json.loads(review_2023(("A", "B", 5.0, 0)))
    del review["parent_asin"]
    assert read_reviews(write_lines("r.jsonl", [json.dumps(review)])).item_ids == ["VARIANT"]


def test_broken_lines_are_left_out_counted_and_named(write_lines, rows):
    def but(**changes):
        review = json.loads(review_2014(rows[0])) | changes
        return json.dumps({key: value for key, value in review.items() if value is not None})

    broken = {
        NOT_A_RECORD: [b"{", b'["a"]', b"\xff", but(asin="x")[:-9], "{'a': 1", "no", "7"],
        NO_USER: [
            but(reviewerID=None),
            but(reviewerID=""),
            but(reviewerID=5),
            but(reviewerID="a\tb"),
            but(reviewerID="\ud800"),
        ],
        NO_ITEM: [but(asin=None), but(asin=["B"]), but(asin="B\n")],
        NO_RATING: [but(overall=None), but(overall="5"), but(overall=True), but(overall=float("nan"))],
        NO_TIME: [but(unixReviewTime=None), but(unixReviewTime="1300000000"), but(unixReviewTime=10**400)],
    }
    wrong = [line for lines in broken.values() for line in lines]
    sound = [review_2014(row) for row in rows]
    raw = read_reviews(write_lines("r.json.gz", [sound[0], *wrong, *sound[1:]]))
    assert as_rows(raw) == rows
    assert raw.rows == len(rows) + len(wrong)
    first = 2
    for reason, lines in broken.items():
        numbers = list(range(first, first + len(lines)))
        assert raw.skipped[reason] == {"count": len(lines), "first_lines": numbers[:5]}, reason
        first += len(lines)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"must hold Amazon reviews, one object a line with the keys reviewerID, asin, .*, but is empty"),
        (
            ['{"user": 1}'],
            r"user_id, parent_asin, rating, timestamp \(2023\), but of its lines none is sound: no key of",
        ),
        (["x", "y"], r"none is sound: no JSON object \(2, first in line 1\)"),
    ],
)
def test_a_file_without_a_sound_review_is_an_error(write_lines, lines, sentence):
    with pytest.raises(DataError, match=sentence):
        read_reviews(write_lines("r.json", lines))


@pytest.mark.parametrize("spell", [json.dumps, repr, ascii], ids=["json", "literal", "ascii literal"])
def test_texts_of_every_layout_are_title_brand_categories_and_description(write_lines, spell):
    path = write_lines("meta.json.gz", [spell(meta) for meta in (META_2023, META_2014, META_2018)])
    found = read_item_texts(path, {"B1": 0, "B2": 1, "B3": 2})
    assert found.texts == [
        'Cup "it\'s" \u00e9. Acme. Baby, Feeding. A cup & a lid',
        "Cup. Acme. Baby, Feeding. A cup, and a lid",
        "Cup. Acme. Baby, Feeding. A cup",
    ]
    assert (found.rows, found.skipped) == (3, {})


def test_metadata_of_other_items_are_passed_over_and_of_two_lines_the_first_counts(write_lines):
    lines = [
        json.dumps({"asin": "B9", "title": "other"}),
        json.dumps({"asin": "B1", "title": "first"}),
        json.dumps({"asin": "B1", "title": "second"}),
        json.dumps({"title": "nobody's"}),
        "broken",
    ]
    found = read_item_texts(write_lines("meta.json", lines), {"B0": 0, "B1": 1})
    assert found.texts == ["", "first"]
    assert found.skipped == {
        REPEATED: {"count": 1, "first_lines": [3]},
        NO_ITEM: {"count": 1, "first_lines": [4]},
        NOT_A_RECORD: {"count": 1, "first_lines": [5]},
    }


def test_reading_takes_memory_by_the_row_not_by_the_line(write_lines):
    padding = "x" * 10_000
    rows = random_rows(count=2_000)
    lines = [json.dumps(json.loads(review_2014(row)) | {"reviewText": padding}) for row in rows]
    raw = read_reviews(write_lines("r.json.gz", lines))
    held = sum(column.nbytes for column in (raw.users, raw.items, raw.ratings, raw.times))
    assert held == 20 * len(rows)
