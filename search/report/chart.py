"""What all figures share: how a figure goes into a page, its palette, its layout, and safe text."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go

# Okabe and Ito's colours (legible to colour-blind readers), the light ones darkened to stand on white and on black.
PALETTE = ("#0077BB", "#D55E00", "#009E73", "#B5579A", "#B8860B", "#2FA4DC", "#7A6FF0", "#8C6D46")
DASHES = ("solid", "dash", "dot", "dashdot")
BEST, MIDDLE, REST = "#D55E00", "#2F86C0", "#8C939B"

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

# How a legend's swatch is dashed, in the units of SVG.
_SWATCHES = {"solid": "none", "dash": "6 3", "dot": "2 3", "dashdot": "6 2 2 2"}


@dataclass(frozen=True)
class Series:
    """How one group of lines or marks looks, for themselves and for the legend."""

    name: str
    colour: str
    dash: str = "solid"
    width: float = 2.0
    mark: Literal["line", "dot", "ring", "bar"] = "line"

    @property
    def swatch(self) -> str:
        """The dash pattern in SVG's units."""
        return _SWATCHES[self.dash]

    @property
    def line(self) -> dict[str, object]:
        """The line in plotly's terms."""
        return {"color": self.colour, "dash": self.dash, "width": self.width}


@dataclass(frozen=True)
class Chart:
    """One figure of a page.

    Attributes:
        identity: the element's id, unique in the page.
        title: a heading of plain text.
        caption: what is drawn and how to read it, plain text.
        legend: the series that are drawn; the page sets it as text, so that it wraps and never covers the figure.
        height: of the plot in rem.
        data: plotly's JSON, safe to stand inside a script element.
    """

    identity: str
    title: str
    caption: str
    legend: Sequence[Series]
    height: float
    data: str


@dataclass(frozen=True)
class Scale:
    """What colours mean in a figure: `colours` from the lowest to the highest value, `ticks` spread evenly below."""

    title: str
    colours: Sequence[str]
    ticks: Sequence[str]


@dataclass(frozen=True)
class Panels:
    """Charts that are one figure: side by side where there is room, below each other where there is not.

    Attributes:
        identity: unique in the page.
        title, caption: plain text, of all charts together; those of a chart itself say what only it shows.
        charts: their own legends are not shown.
        legend: the series that are drawn in any of the charts.
        scale: what their colours mean, where they are numbers.
        narrow: whether a chart may be as narrow as a third of the page, else half of it.
    """

    identity: str
    title: str
    caption: str
    charts: Sequence[Chart]
    legend: Sequence[Series] = ()
    scale: Scale | None = None
    narrow: bool = False


def chart(
    identity: str,
    title: str,
    caption: str,
    figure: go.Figure,
    *,
    legend: Sequence[Series] = (),
    height: float = 22,
    framed: bool = True,
) -> Chart:
    """Return the figure ready for a page, in the common layout; `framed` leaves room for axes' titles and ticks."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 13, "family": FONT},
        margin={"l": 56, "r": 12, "t": 10, "b": 48} if framed else {"l": 4, "r": 4, "t": 4, "b": 4},
        showlegend=False,
        hoverlabel={"namelength": -1},
        dragmode=False,
    )
    figure.update_xaxes(automargin=True, zeroline=False, title_standoff=10, title_font_size=13)
    figure.update_yaxes(automargin=True, zeroline=False, title_standoff=10, title_font_size=13)
    return Chart(identity, title, caption, tuple(legend), height, _script_safe(figure.to_json()))


def series(names: Sequence[str], width: float = 2.0) -> dict[str, Series]:
    """Return one look per name, in the palette's order; after its last colour it starts again with another dash."""
    looks = [(colour, dash) for dash in DASHES for colour in PALETTE]
    return {name: Series(name, *looks[place % len(looks)], width) for place, name in enumerate(names)}


def label(text: str) -> str:
    """Return text as plotly shows it literally: plotly reads a subset of HTML in labels."""
    return html.escape(text, quote=False)


def translucent(hexadecimal: str, opacity: float) -> str:
    """Return "#rrggbb" as an rgba colour."""
    red, green, blue = (int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def slug(text: str) -> str:
    """Return text as part of an element's id."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)


def _script_safe(text: str | None) -> str:
    # In a script element only "</script" and "<!--" end or change the text; no "<" at all is simpler to be sure of.
    return (text or "{}").replace("<", "\\u003c")
