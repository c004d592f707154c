"""Numbers and names as people read them; all pages and tables use these, so a value looks the same everywhere."""

import math
from collections.abc import Sequence
from datetime import datetime

NONE = "–"


def missing(value: object) -> bool:
    """Return whether a cell of a frame holds nothing: None, NaN, NA or NaT."""
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def score(value: float | None) -> str:
    """Return a metric with four decimals, or three significant digits where it is small."""
    if value is None or missing(value):
        return NONE
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"


def with_deviation(mean: float | None, deviation: float | None) -> str:
    """Return "0.2512 ± 0.0021", or the mean alone where there is no deviation."""
    if deviation is None or missing(deviation):
        return score(mean)
    # In the mean's own decimals: of 0.1705 ± 0.000295 nobody reads the last digits.
    in_step = mean is not None and not missing(mean) and abs(mean) >= 0.001
    return f"{score(mean)} ± {f'{deviation:.4f}' if in_step else score(deviation)}"


def span(low: float, high: float) -> str:
    """Return a range of metrics: "0.2491 to 0.2530"."""
    return NONE if missing(low) or missing(high) else f"{score(low)} to {score(high)}"


def signed_score(value: float) -> str:
    """Return a difference of metrics with its sign, in the four decimals of the metrics beside it."""
    return f"{'+' if value >= 0 else '−'}{abs(value):.4f}"


def share(value: float | None) -> str:
    """Return a share as per cent with one decimal."""
    return NONE if value is None or missing(value) else f"{100 * value:.1f}\u00a0%"


def signed_share(value: float) -> str:
    """Return a relative difference as per cent with its sign."""
    return ("+" if value >= 0 else "−") + share(abs(value))


def count(value: float | None) -> str:
    """Return a whole number with thousands separators; from ten million on in millions."""
    if value is None or missing(value):
        return NONE
    if math.isinf(value):
        return "∞"
    return f"{value / 1e6:,.1f} million" if abs(value) >= 1e7 else f"{value:,.0f}"


def number(value: object) -> str:
    """Return a hyperparameter's value: numbers with up to four significant digits, the rest as text."""
    if missing(value):
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Return a time span in the unit that suits it: seconds, minutes or hours."""
    if seconds is None or missing(seconds):
        return NONE
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def moment(value: object) -> str:
    """Return a time stamp to the minute, in UTC."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) and not missing(value) else NONE


def plural(amount: int, noun: str) -> str:
    """Return "1 trial", "3 trials"."""
    return f"{count(amount)} {noun}" if amount == 1 else f"{count(amount)} {noun}s"


def listing(items: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def capitalised(text: str) -> str:
    """Return the text with its first letter as a capital, as at the start of a sentence."""
    return text[:1].upper() + text[1:]
