"""The hint that ends an error sentence when a name may have been mistyped."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'vbpr'?" for the known name nearest to `name`, or "" when none is near."""
    matches = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
