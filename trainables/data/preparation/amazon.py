"""Amazon's reviews and metadata in the layouts of 2014, 2018 and 2023, as McAuley's group publishes them.

One record a line. What the layouts call the same thing:

| layout       | user         | item                     | rating    | time                       |
|--------------|--------------|--------------------------|-----------|----------------------------|
| 2014 or 2018 | `reviewerID` | `asin`                   | `overall` | `unixReviewTime`, seconds  |
| 2023         | `user_id`    | `parent_asin`, or `asin` | `rating`  | `timestamp`, milliseconds  |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.data.preparation.lines import LONGEST_LINE, Skipped, read_lines
from trainables.data.preparation.raw import NO_ITEM, Collector, RawInteractions, is_id, number
from trainables.data.preparation.records import parse_record
from trainables.data.preparation.source import ItemTexts
from trainables.data.preparation.texts import join_text
from trainables.errors import DataError

NOT_A_RECORD = "no JSON object"
TOO_LONG = f"longer than {LONGEST_LINE // 2**20} MiB"
REPEATED = "an item that an earlier line describes"


@dataclass(frozen=True)
class Layout:
    """The keys of a review; `time_units` a second."""

    name: str
    user: str
    items: tuple[str, ...]
    rating: str
    time: str
    time_units: int


LAYOUTS = (
    Layout("2014 or 2018", "reviewerID", ("asin",), "overall", "unixReviewTime", 1),
    Layout("2023", "user_id", ("parent_asin", "asin"), "rating", "timestamp", 1000),
)
ITEM_KEYS = ("parent_asin", "asin")
TEXT_KEYS = (("title",), ("brand", "store"), ("categories", "category"), ("description",))
"""Parts of an item's text in their order; of the keys of a part the first that is there."""


@dataclass(frozen=True)
class AmazonFiles:
    """A file of reviews and, where texts are wanted, one of metadata."""

    reviews: Path
    meta: Path | None = None
    kind: str = "amazon"
    item_column: str = "asin"

    def inputs(self) -> Mapping[str, Path]:
        """Returns the files by role."""
        return {"reviews": self.reviews} | ({"meta": self.meta} if self.meta else {})

    def settings(self) -> Mapping[str, object]:
        """Returns nothing: all is in the files."""
        return {}

    def interactions(self) -> RawInteractions:
        """Returns the reviews as interactions; raises DataError."""
        return read_reviews(self.reviews)

    def texts(self, positions: Mapping[str, int]) -> ItemTexts | None:
        """Returns the texts of the given items, None without metadata; raises DataError."""
        return None if self.meta is None else read_item_texts(self.meta, positions)


def read_reviews(path: Path) -> RawInteractions:
    """Returns every review of a file in any of the three layouts; broken lines are counted and left out.

    Raises:
        DataError: the file cannot be read to its end, or holds no sound review.
    """
    rows = Collector()
    layout: Layout | None = None
    for line, content in read_lines(path):
        record = None if content is None else parse_record(content)
        if record is None:
            rows.skip(line, TOO_LONG if content is None else NOT_A_RECORD)
            continue
        layout = layout or _layout(record)
        if layout is None:
            rows.skip(line, "no key of a review")
            continue
        time = number(record.get(layout.time))
        rows.add(
            line,
            record.get(layout.user),
            _first(record, layout.items),
            record.get(layout.rating),
            None if time is None else time / layout.time_units,
        )
    result = rows.collected()
    if not len(result.users):
        raise DataError(f"{path} must hold Amazon reviews, {_expected()}, but {_without(rows.skipped)}")
    return result


def read_item_texts(path: Path, positions: Mapping[str, int]) -> ItemTexts:
    """Returns the texts of items from a metadata file: title, brand, categories and description, as `join_text` does.

    Lines about other items are passed over; of several lines about one item the first counts.

    Args:
        positions: item id -> position in the result.

    Raises:
        DataError: the file cannot be read to its end.
    """
    texts: list[str | None] = [None] * len(positions)
    skipped = Skipped()
    rows = 0
    for line, content in read_lines(path):
        rows += 1
        record = None if content is None else parse_record(content)
        if record is None:
            skipped.add(TOO_LONG if content is None else NOT_A_RECORD, line)
            continue
        item = _first(record, ITEM_KEYS)
        if not is_id(item):
            skipped.add(NO_ITEM, line)
            continue
        position = positions.get(str(item))
        if position is None:
            continue
        if texts[position] is not None:
            skipped.add(REPEATED, line)
            continue
        texts[position] = join_text(_first(record, keys) for keys in TEXT_KEYS)
    return ItemTexts([text or "" for text in texts], rows, skipped.plain())


def _layout(record: Mapping[str, object]) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.user in record), None)


def _first(record: Mapping[str, object], keys: tuple[str, ...]) -> object:
    """The value of the first key that has one."""
    return next((record[key] for key in keys if record.get(key)), None)


def _expected() -> str:
    keys = (f"{', '.join((each.user, each.items[0], each.rating, each.time))} ({each.name})" for each in LAYOUTS)
    return "one object a line with the keys " + " or ".join(keys)


def _without(skipped: Skipped) -> str:
    return f"of its lines none is sound: {skipped}" if skipped.total else "is empty"
