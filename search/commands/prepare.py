"""The commands `data prepare amazon`, `recbole` and `frame`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from search.commands.options import console
from search.errors import SearchError
from search.wording import count, plural
from spaces.nearest import did_you_mean

if TYPE_CHECKING:
    from trainables.data.preparation.feature_rows import Encoder
    from trainables.data.preparation.images import BinaryImages, PictureFolder
    from trainables.data.preparation.source import PublishedFiles

NONE = "none"
_NAMED_REASONS = 8

app = typer.Typer(help="Make a data set in MMRec's format from published files.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="The folder to make; its name is the data set's name.", metavar="DIR")]
Core = Annotated[int, typer.Option(min=1, help="Every user and item keeps this many interactions; 1 keeps all.")]
MinRating = Annotated[float | None, typer.Option(help="Lower ratings are no interactions.")]
Split = Annotated[str, typer.Option(help="random (8:1:1 of each user), leave_one_out or global_time.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of a split that draws at random.")]
Missing = Annotated[str, typer.Option(help="Row of an item without a text or image: mean (of the others) or zero.")]
TextModel = Annotated[
    str, typer.Option(help="sentence-transformers model, by name or folder; none keeps texts without encoding them.")
]
Images = Annotated[
    Path | None,
    typer.Option(help="Folder of pictures named by item id, or the published image_features_X.b.", metavar="PATH"),
]
ImageModel = Annotated[str, typer.Option(help="timm model that encodes a folder of pictures.")]
ImageWeights = Annotated[
    Path | None, typer.Option(help="Its weights as a .safetensors file; default: from the hub.", metavar="FILE")
]
Device = Annotated[
    str | None, typer.Option(help="Where models run: cpu, cuda, cuda:1; default: a GPU if there is one.")
]
Like = Annotated[str | None, typer.Option(help="Published data set to compare with; default: the one of that name.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder prepared from other files or settings.")]

DEFAULT_TEXT_MODEL, DEFAULT_IMAGE_MODEL = "all-MiniLM-L6-v2", "resnet50"
"""384 numbers a text and 2,048 a picture."""


@app.command()
def amazon(
    reviews: Annotated[Path, typer.Option(help="Reviews, one JSON object a line, also .gz.", metavar="FILE")],
    out: Out,
    meta: Annotated[
        Path | None, typer.Option(help="Metadata of the items, for texts; one object a line.", metavar="FILE")
    ] = None,
    images: Images = None,
    core: Core = 5,
    min_rating: MinRating = None,
    split: Split = "random",
    seed: Seed = 999,
    missing: Missing = "mean",
    text_model: TextModel = DEFAULT_TEXT_MODEL,
    image_model: ImageModel = DEFAULT_IMAGE_MODEL,
    image_weights: ImageWeights = None,
    device: Device = None,
    like: Like = None,
    force: Force = False,
) -> int:
    """Amazon's reviews of 2014, 2018 or 2023, with metadata and images.

    An item's text is its title, brand, categories and description. Broken lines are counted and left out. A run that
    was killed goes on where it was; a folder that is already there with the same files and settings stays.
    """
    from trainables.data.preparation.amazon import AmazonFiles

    chosen = {"core": core, "min_rating": min_rating, "split": split, "split_seed": seed, "missing": missing}
    models = _Models(text_model, images, image_model, image_weights, device)
    return _prepare(AmazonFiles(reviews, meta), out, chosen, models, like, force, has_texts=meta is not None)


@app.command()
def recbole(
    inter: Annotated[Path, typer.Option(help="Interactions: user_id:token, item_id:token, ...", metavar="FILE")],
    out: Out,
    item: Annotated[Path | None, typer.Option(help="Items, for texts: item_id:token, ...", metavar="FILE")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the items' text; may be given several times; default: all.")
    ] = None,
    images: Images = None,
    core: Core = 5,
    min_rating: MinRating = None,
    split: Split = "random",
    seed: Seed = 999,
    missing: Missing = "mean",
    text_model: TextModel = DEFAULT_TEXT_MODEL,
    image_model: ImageModel = DEFAULT_IMAGE_MODEL,
    image_weights: ImageWeights = None,
    device: Device = None,
    like: Like = None,
    force: Force = False,
) -> int:
    """RecBole's atomic files."""
    from trainables.data.preparation.recbole import AtomicFiles

    chosen = {"core": core, "min_rating": min_rating, "split": split, "split_seed": seed, "missing": missing}
    models = _Models(text_model, images, image_model, image_weights, device)
    files = AtomicFiles(inter, item, tuple(text or ()))
    return _prepare(files, out, chosen, models, like, force, has_texts=item is not None)


@app.command()
def frame(
    table: Annotated[Path, typer.Argument(help="A .csv, .tsv (also .gz) or .parquet file, a row an interaction.")],
    out: Out,
    user: Annotated[str, typer.Option(help="Column of the users.", metavar="COLUMN")],
    item: Annotated[str, typer.Option(help="Column of the items.", metavar="COLUMN")],
    rating: Annotated[str | None, typer.Option(help="Column of the ratings.", metavar="COLUMN")] = None,
    time: Annotated[str | None, typer.Option(help="Column of the times: seconds or moments.", metavar="COLUMN")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the items' text; may be given several times.", metavar="COLUMN")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Table with the items' texts; default: the same.", metavar="FILE")
    ] = None,
    images: Images = None,
    core: Core = 5,
    min_rating: MinRating = None,
    split: Split = "random",
    seed: Seed = 999,
    missing: Missing = "mean",
    text_model: TextModel = DEFAULT_TEXT_MODEL,
    image_model: ImageModel = DEFAULT_IMAGE_MODEL,
    image_weights: ImageWeights = None,
    device: Device = None,
    like: Like = None,
    force: Force = False,
) -> int:
    """A table of interactions, whatever its columns are called."""
    from trainables.data.preparation.frame import TableFile

    chosen = {"core": core, "min_rating": min_rating, "split": split, "split_seed": seed, "missing": missing}
    models = _Models(text_model, images, image_model, image_weights, device)
    files = TableFile(table, user, item, rating, time, tuple(text or ()), items)
    return _prepare(files, out, chosen, models, like, force, has_texts=bool(text))


class _Models:
    """What encodes texts and pictures, as the options have it."""

    def __init__(
        self, text: str, images: Path | None, image_model: str, image_weights: Path | None, device: str | None
    ) -> None:
        self._text, self._images, self._device = text, images, device
        self._image_model, self._image_weights = image_model, image_weights

    def for_texts(self) -> "Encoder | None":
        from trainables.data.preparation.text_encoder import sentence_encoder

        return None if self._text == NONE else sentence_encoder(self._text, self._device)

    def for_images(self) -> "BinaryImages | PictureFolder | None":
        from trainables.data.preparation.images import BinaryImages, PictureFolder
        from trainables.data.preparation.picture_encoder import picture_encoder

        if self._images is None:
            return None
        if not self._images.is_dir():
            return BinaryImages(self._images)
        return PictureFolder(self._images, picture_encoder(self._image_model, self._image_weights, self._device))


def _prepare(
    files: "PublishedFiles",
    out: Path,
    chosen: Mapping[str, object],
    models: _Models,
    like: str | None,
    force: bool,
    *,
    has_texts: bool,
) -> int:
    from pydantic import ValidationError

    from trainables.data.preparation.pipeline import prepare
    from trainables.data.preparation.published import PUBLISHED
    from trainables.data.preparation.settings import Settings

    if like is not None and like not in PUBLISHED:
        raise SearchError(
            f"--like must be one of {', '.join(PUBLISHED)}, but got {like!r}{did_you_mean(like, PUBLISHED)}"
        )
    try:
        settings = Settings.model_validate(chosen)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = "seed" if wrong["loc"][0] == "split_seed" else str(wrong["loc"][0])
        raise SearchError(f"--{key}: {wrong['msg']}, but got {wrong['input']!r}") from None
    result = prepare(
        files,
        out,
        settings,
        text_encoder=models.for_texts() if has_texts else None,
        images=models.for_images(),
        force=force,
        say=lambda step: print(f"{out.name}: {step} ...", file=sys.stderr),
    )
    if result.was_there:
        print(f"{out} is already what these files and settings give; nothing was done.")
    _print_account(result.account, out, like or out.name.lower())
    return 0


def _print_account(account: Mapping[str, Any], out: Path, like: str) -> None:
    """Prints what was left out and what is left, beside the published sizes where there are any."""
    _print_left_out(account)
    _print_without(account)
    _print_sizes(account["interactions"]["counts"], out, like)


def _print_left_out(account: Mapping[str, Any]) -> None:
    counts = account["interactions"]["counts"]
    for key, what in (
        ("below_min_rating", "rated lower than --min-rating"),
        ("repeated_pairs", "of a user and item that an earlier one has"),
        ("outside_core", "outside the core"),
    ):
        if counts[key]:
            print(f"{plural(counts[key], 'interaction')} left out: {what}.")
    for part, where in (("interactions", "interactions"), ("texts", "items"), ("image", "images")):
        skipped = (account.get(part) or {}).get("skipped", {})
        for reason, lines in list(skipped.items())[:_NAMED_REASONS]:
            first = ", ".join(map(str, lines["first_lines"]))
            more = ", ..." if lines["count"] > len(lines["first_lines"]) else ""
            print(f"{plural(lines['count'], 'line')} of the {where} left out: {reason} (line {first}{more}).")


def _print_without(account: Mapping[str, Any]) -> None:
    row = {"mean": "the mean of the others", "zero": "zero"}[account["request"]["settings"]["missing"]]
    for part, what in (("texts", "text"), ("image", "image")):
        without = (account.get(part) or {}).get("items_without", 0)
        if without:
            names = account[part]["first_without"]
            stand_in = f"; their row is {row}" if what in account else ""  # texts may be kept without being encoded
            more = ", ..." if without > len(names) else ""
            print(f"{plural(without, 'item')} without {what}{stand_in}: {', '.join(names)}{more}")


def _print_sizes(counts: Mapping[str, int], out: Path, like: str) -> None:
    from trainables.data.preparation.published import PUBLISHED

    published = PUBLISHED.get(like)
    table = Table("", str(out))
    if published:
        table.add_column(f"published ({like})")
        table.add_column("difference")
    for key in ("users", "items", "interactions"):
        cells = [key, count(counts[key])]
        if published:
            cells += [count(getattr(published, key)), f"{counts[key] - getattr(published, key):+,}"]
        table.add_row(*cells)
    console().print(table)
