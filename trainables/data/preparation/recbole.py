"""RecBole's atomic files: tab separated tables whose first line names columns and types (`user_id:token`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from trainables.data.preparation.lines import Skipped, read_lines
from trainables.data.preparation.raw import NO_ITEM, Collector, RawInteractions, is_id
from trainables.data.preparation.source import ItemTexts
from trainables.data.preparation.texts import join_text
from trainables.errors import DataError

USER_FIELD, ITEM_FIELD, RATING_FIELD, TIME_FIELD = "user_id", "item_id", "rating", "timestamp"
_TEXT_TYPES = ("token", "token_seq")


@dataclass(frozen=True)
class AtomicFiles:
    """A `.inter` file and, where texts are wanted, an `.item` file.

    Attributes:
        text: columns of the `.item` file that make up an item's text, in this order; () for all of tokens.
    """

    inter: Path
    item: Path | None = None
    text: tuple[str, ...] = ()
    kind: str = "recbole"
    item_column: str = ITEM_FIELD

    def inputs(self) -> Mapping[str, Path]:
        """Returns the files by role."""
        return {"inter": self.inter} | ({"item": self.item} if self.item else {})

    def settings(self) -> Mapping[str, object]:
        """Returns which columns make up the text."""
        return {"text": list(self.text)}

    def interactions(self) -> RawInteractions:
        """Returns the rows of the `.inter` file; ratings and times where it has them.

        Raises:
            DataError: the file cannot be read, lacks a column or has no sound row.
        """
        table = _Table(self.inter)
        user, item = (table.position(name) for name in (USER_FIELD, ITEM_FIELD))
        rating, time = (table.place(name) for name in (RATING_FIELD, TIME_FIELD))
        rows = Collector(rated=rating is not None, timed=time is not None)
        for line, cells in table.rows():
            if isinstance(cells, str):
                rows.skip(line, cells)
            else:
                rows.add(line, cells[user], cells[item], _number(cells, rating), _number(cells, time))
        result = rows.collected()
        if not len(result.users):
            raise DataError(f"{self.inter} must hold interactions, but none of its lines is sound: {rows.skipped}")
        return result

    def texts(self, positions: Mapping[str, int]) -> ItemTexts | None:
        """Returns the texts of the given items, None without an `.item` file; raises DataError."""
        if self.item is None:
            return None
        table = _Table(self.item)
        item, columns = table.position(ITEM_FIELD), self._text_columns(table)
        texts, skipped, rows = [""] * len(positions), Skipped(), 0
        for line, cells in table.rows():
            rows += 1
            if isinstance(cells, str):
                skipped.add(cells, line)
            elif not is_id(cells[item]):
                skipped.add(NO_ITEM, line)
            elif (position := positions.get(cells[item])) is not None and not texts[position]:
                texts[position] = join_text(cells[column] for column in columns)
        return ItemTexts(texts, rows, skipped.plain())

    def _text_columns(self, table: "_Table") -> list[int]:
        if self.text:
            return [table.position(name) for name in self.text]
        return [place for place, (name, kind) in enumerate(table.fields) if kind in _TEXT_TYPES and name != ITEM_FIELD]


class _Table:
    """An atomic file, opened as far as its header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = read_lines(path)
        _, header = next(self._lines, (0, b""))
        names = (header or b"").decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
        self.fields = [(name, kind) for name, _, kind in (field.partition(":") for field in names)]
        if not all(kind for _, kind in self.fields):
            raise DataError(
                f"{path} must start with a line of columns with types, such as 'user_id:token', but starts with {names}"
            )

    def place(self, name: str) -> int | None:
        """Returns where a column stands, None where there is none."""
        return next((place for place, (field, _) in enumerate(self.fields) if field == name), None)

    def position(self, name: str) -> int:
        """Returns where a column stands; raises DataError where there is none."""
        place = self.place(name)
        if place is None:
            known = [field for field, _ in self.fields]
            nearest = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise DataError(f"{self.path} must have a column {name!r}, but its columns are {known}{hint}")
        return place

    def rows(self) -> Iterator[tuple[int, Sequence[str] | str]]:
        """Yields the line and the cells of every row, or why it has none."""
        for line, content in self._lines:
            try:
                cells = None if content is None else content.decode().rstrip("\r\n").split("\t")
            except UnicodeDecodeError:
                cells = None
            if cells is None:
                yield line, "no text in UTF-8"
            elif len(cells) != len(self.fields):
                yield line, "as many cells as columns must be there"
            else:
                yield line, cells


def _number(cells: Sequence[str], place: int | None) -> float | None:
    try:
        return None if place is None else float(cells[place])
    except ValueError:
        return None
