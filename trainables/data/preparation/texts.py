"""The one text of an item that is encoded: its parts, cleaned and joined."""

import html
from collections.abc import Iterable, Iterator

TEXT_LIMIT = 2000
"""Characters kept of an item's text; the common sentence encoders read the first thousand or so."""


def join_text(parts: Iterable[object]) -> str:
    """Returns the parts of an item's text as one line, joined by ". ", at most `TEXT_LIMIT` characters.

    A part is text, a number or a list of parts (nested as deep as the files like), whose members are joined by ", " and
    stand once each. HTML entities become characters, white space becomes one space, parts without content vanish.
    """
    joined = (", ".join(dict.fromkeys(_leaves(part))) for part in parts)
    text = ". ".join(part.rstrip(". ") for part in joined if part.strip(". "))
    # What cannot be written as UTF-8 (half a surrogate pair) is no character.
    return text[:TEXT_LIMIT].encode(errors="ignore").decode().rstrip()


def _leaves(part: object) -> Iterator[str]:
    if isinstance(part, list | tuple):
        for member in part:
            yield from _leaves(member)
    elif isinstance(part, str | int | float) and not isinstance(part, bool):
        cleaned = " ".join(html.unescape(str(part)).split())
        if cleaned:
            yield cleaned
