"""The commands `data check`, `data describe`, `data prepare ...` and `data synthesize`."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands import prepare
from search.errors import SearchError
from search.wording import plural
from spaces.nearest import did_you_mean

if TYPE_CHECKING:
    from trainables.data.config import DataConfig

app = typer.Typer(
    help="Check and describe data sets, prepare published ones, or make synthetic ones.", no_args_is_help=True
)
app.add_typer(prepare.app, name="prepare")

Dataset = Annotated[
    str, typer.Argument(help="Folder of a data set, or its name below --root, or synthetic.", metavar="DATASET")
]
Root = Annotated[str | None, typer.Option(help="Folder that holds the data sets' folders.")]
Modalities = Annotated[str | None, typer.Option(help="Only these, with commas between; default: all.")]


@app.command()
def check(dataset: Dataset, root: Root = None, modalities: Modalities = None) -> int:
    """Check a data set in MMRec's format; every rule that is broken is named with its file and line."""
    from trainables.data import catalog

    problems = catalog.check(_config(dataset, root, modalities))
    for problem in problems:
        print(f"recsweep: {problem}", file=sys.stderr)
    if not problems:
        print(f"{dataset}: every check passed")
    return 2 if problems else 0


@app.command()
def describe(dataset: Dataset, root: Root = None, modalities: Modalities = None) -> int:
    """Print sizes, sparsity, modalities, dropped users and digests of a data set as JSON."""
    from trainables.data import catalog

    print(json.dumps(catalog.describe(_config(dataset, root, modalities)), indent=2))
    return 0


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(help="New folder; its name is the data set's name.")],
    like: Annotated[
        str, typer.Option(help="Size: synthetic, lfm2k, or of Amazon: baby, sports, clothing, pet, office.")
    ] = "synthetic",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 999,
    users: Annotated[int | None, typer.Option(min=1, help="Users, instead of those of --like.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Items, instead of those of --like.")] = None,
    interactions: Annotated[int | None, typer.Option(min=1, help="Pairs of both, instead of those of --like.")] = None,
    image_width: Annotated[int | None, typer.Option(min=1, help="Columns of the image features.")] = None,
    text_width: Annotated[int | None, typer.Option(min=1, help="Columns of the text features.")] = None,
) -> int:
    """Make a synthetic data set in MMRec's format: interactions and features from shared latent factors."""
    from trainables.data.synthetic import RECIPES, check_free, write_folder
    from trainables.data.synthetic import synthesize as generate

    if like not in RECIPES:
        raise SearchError(f"--like must be one of {', '.join(RECIPES)}, but got {like!r}{did_you_mean(like, RECIPES)}")
    if not folder.name:
        raise SearchError(f"FOLDER must be the path of a new folder, whose name is the data set's, but is {folder}")
    check_free(folder)
    recipe = RECIPES[like]
    sizes = {"num_users": users, "num_items": items, "num_interactions": interactions}
    widths = {"image": image_width, "text": text_width}
    recipe = replace(
        recipe,
        **{key: size for key, size in sizes.items() if size},
        widths={**recipe.widths, **{modality: width for modality, width in widths.items() if width}},
    )
    write_folder(folder, generate(recipe, seed))
    print(
        f"{folder}: a data set of {plural(recipe.num_users, 'user')}, {plural(recipe.num_items, 'item')} and "
        f"{plural(recipe.num_interactions, 'interaction')}"
    )
    return 0


def _config(dataset: str, root: str | None, modalities: str | None) -> "DataConfig":
    from pydantic import ValidationError

    from search.spec_errors import sentence
    from trainables.data.config import DataConfig
    from trainables.data.sources import EMBEDDED

    if root is None and dataset != EMBEDDED:
        folder = Path(dataset).resolve()
        root, dataset = str(folder.parent), folder.name
    fields = {"name": dataset, "root": root, "modalities": modalities.split(",") if modalities else None}
    try:
        return DataConfig.model_validate(fields)
    except ValidationError as error:
        raise SearchError(sentence(error, fields, DataConfig, lambda key: "data set")) from None
