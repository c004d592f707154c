"""One record a line: JSON, or the Python literals of old metadata files. Nothing in a file is ever executed."""

import ast
import json
import warnings

_BROKEN = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def parse_record(line: bytes) -> dict[str, object] | None:
    """Returns the object that a line holds, or None where it holds no object.

    A line that is no JSON is tried as a Python literal (`{'asin': ...}`), as the metadata of 2014 are written.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _literal(text.strip())
    return value if isinstance(value, dict) else None


def _literal(text: str) -> object:
    if not text.startswith("{"):
        return None
    try:
        with warnings.catch_warnings():
            # A path or an emoticon in a description looks like an escape sequence that Python does not know.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except _BROKEN:
        return None
