"""Synthetic data sets: one set of latent factors generates both the interactions and the modality features."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Float64, Int64

from trainables.data.candidate_pairs import draw_by_candidates
from trainables.data.features import SUFFIX
from trainables.data.interactions import ITEM, LABEL, TIME, USER, write_interactions
from trainables.data.splits import random_split
from trainables.errors import ConfigError, DataError

_BLOCK_ROWS = 512
DENSE_CELLS = 2**30
"""Pairs of user and item up to which every pair is looked at; above, candidates are drawn (`candidate_pairs`)."""
_FEATURE_ROWS = 2**16
_FIRST_TIME, _LAST_TIME = 1_400_000_000, 1_500_000_000


@dataclass(frozen=True)
class Recipe:
    """What a synthetic data set is made of; the defaults are the embedded data set.

    An item has latent factors of three kinds: `shared` ones that every modality shows, `private` ones for each modality
    that it alone shows, and `hidden` ones that only interactions reveal. A feature column has variance 1, of which
    `noise` is independent noise, `redundancy` is structure of the modality that no user cares about, and the rest
    is a linear view of the factors.
    """

    num_users: int = 1200
    num_items: int = 800
    num_interactions: int = 11_000
    widths: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"image": 64, "text": 32}))
    """Modality -> number of columns."""
    shared: int = 12
    private: int = 2
    hidden: int = 2
    affinity: float = 5.0
    """Standard deviation over items of a user's log-odds from taste; 0 makes all users alike."""
    popularity: float = 0.7
    """Zipf exponent of the items' appeal; 0 makes all items alike."""
    activity: float = 0.6
    """Standard deviation of the logarithm of how active users are."""
    noise: float = 0.1
    """Share of a feature's variance, in [0, 1]."""
    redundancy: float = 0.2
    """Share of a feature's variance, in [0, 1]."""
    min_per_user: int = 5
    min_per_item: int = 5

    def __post_init__(self) -> None:
        shares = self.noise + self.redundancy
        if min(self.noise, self.redundancy) < 0 or shares > 1:
            raise ConfigError(
                f"noise and redundancy must be shares of at most 1 together, but got {self.noise=}, {self.redundancy=}"
            )
        least = self.num_items * self.min_per_item + self.num_users * self.min_per_user
        most = self.num_users * self.num_items // 2
        if not least <= self.num_interactions <= most:
            raise ConfigError(
                f"num_interactions must lie between {least} (the minima per user and item) and {most} (half of all"
                f" pairs), but is {self.num_interactions}"
            )


_AMAZON_WIDTHS = {"image": 4096, "text": 384}
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "synthetic": Recipe(),
        "lfm2k": Recipe(1858, 1425, 56_345, {"audio": 512, "text": 384, "vggish": 128}),
        "baby": Recipe(19_445, 7_050, 160_792, dict(_AMAZON_WIDTHS)),
        "sports": Recipe(35_598, 18_357, 296_337, dict(_AMAZON_WIDTHS)),
        "clothing": Recipe(39_387, 23_033, 278_677, dict(_AMAZON_WIDTHS), min_per_user=4, min_per_item=3),
        "pet": Recipe(19_856, 8_510, 157_836, dict(_AMAZON_WIDTHS)),
        "office": Recipe(4_905, 2_420, 53_258, dict(_AMAZON_WIDTHS)),
    }
)
"""Recipes by name: the embedded data set, and the sizes of published ones (their content is not imitated)."""


@dataclass(frozen=True, eq=False)
class SyntheticData:
    """A generated data set, rows sorted by user, with the factors that generated it.

    Attributes:
        times: seconds, uniform over three years: time carries no information.
        labels: 0 train, 1 validation, 2 test; per user at random 8:1:1.
        features: modality -> [I, F].
        user_factors: [U, L].
        item_factors: [I, L], columns: shared, then each modality's private ones, then hidden.
    """

    users: Int64[np.ndarray, " E"]
    items: Int64[np.ndarray, " E"]
    times: Int64[np.ndarray, " E"]
    labels: Int64[np.ndarray, " E"]
    features: Mapping[str, Float32[np.ndarray, "I _"]]
    user_factors: Float64[np.ndarray, "U L"]
    item_factors: Float64[np.ndarray, "I L"]


def synthesize(recipe: Recipe, seed: int) -> SyntheticData:
    """Returns the data set of a recipe and a seed; its five parts draw from independent streams."""
    factors, pairs, features, times, split = np.random.default_rng(seed).spawn(5)
    num_factors = recipe.shared + recipe.private * len(recipe.widths) + recipe.hidden
    user_factors = factors.standard_normal((recipe.num_users, num_factors))
    item_factors = factors.standard_normal((recipe.num_items, num_factors))
    users, items = _draw_pairs(recipe, user_factors, item_factors, pairs)
    return SyntheticData(
        users=users,
        items=items,
        times=times.integers(_FIRST_TIME, _LAST_TIME, size=len(users)),
        labels=random_split(users, split),
        features=_draw_features(recipe, item_factors, features),
        user_factors=user_factors,
        item_factors=item_factors,
    )


def write_folder(folder: Path, data: SyntheticData) -> None:
    """Writes a data set in MMRec's format: `<folder name>.inter` and `<modality>_feat.npy`; whole, by one rename.

    Raises:
        DataError: the folder exists and is not empty.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as hidden:
        made = Path(hidden) / folder.name
        made.mkdir()
        for modality, array in data.features.items():
            np.save(made / f"{modality}{SUFFIX}", array)
        columns = {USER: data.users, ITEM: data.items, TIME: data.times, LABEL: data.labels}
        write_interactions(made / f"{folder.name}.inter", columns)
        made.rename(folder)


def check_free(folder: Path) -> None:
    """Returns if a data set can be written to the folder.

    Raises:
        DataError: it exists and is not empty.
        OSError: what should hold it is no folder.
    """
    try:
        folder.stat()
    except FileNotFoundError:
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DataError(f"a synthetic data set must be written to a new or empty folder, but {folder} has content")


def _draw_pairs(
    recipe: Recipe, user_factors: np.ndarray, item_factors: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns exactly `num_interactions` distinct pairs that respect both minima, sorted by user.

    Above `DENSE_CELLS` pairs as `draw_by_candidates` does; else as follows.

    First every item takes its minimum of users, by taste and activity; then users fill up, by taste and appeal. Both
    draw without replacement with the softmax of the log-odds: the largest of log-odds + Gumbel noise.
    """
    taste = recipe.affinity / np.sqrt(user_factors.shape[1])
    log_activity = recipe.activity * rng.standard_normal(recipe.num_users)
    appeal = -recipe.popularity * np.log1p(rng.permutation(recipe.num_items))
    if recipe.num_users * recipe.num_items > DENSE_CELLS:
        weights = np.exp(log_activity)
        scaled = user_factors, taste * item_factors, log_activity, appeal, recipe.min_per_item
        return draw_by_candidates(*scaled, lambda forced: _draw_counts(recipe, forced, weights, rng), rng)
    taken = np.zeros((recipe.num_users, recipe.num_items), dtype=np.bool_)
    minima = np.full(recipe.num_items, recipe.min_per_item)
    for block, odds in _noisy_odds(taste * item_factors, user_factors, log_activity, rng):
        rows, columns = _largest(odds, minima[block])
        taken[columns, rows + block.start] = True
    counts = _draw_counts(recipe, taken.sum(axis=1), np.exp(log_activity), rng)
    for block, odds in _noisy_odds(taste * user_factors, item_factors, appeal, rng):
        odds[taken[block]] = np.inf
        rows, columns = _largest(odds, counts[block])
        taken[rows + block.start, columns] = True
    users, items = np.nonzero(taken)
    return users, items


def _noisy_odds(
    rows: np.ndarray, columns: np.ndarray, bias: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields blocks of rows @ columns.T + bias + Gumbel noise."""
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, min(start + _BLOCK_ROWS, len(rows)))
        odds = rows[block] @ columns.T + bias
        odds -= np.log(rng.standard_exponential(odds.shape))
        yield block, odds


def _largest(odds: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions (rows, columns) of each row's `counts[row]` largest values."""
    most = int(counts.max())
    if not most:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    columns = np.argpartition(-odds, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(odds, columns, axis=1), axis=1)
    columns = np.take_along_axis(columns, order, axis=1)
    rows, ranks = np.nonzero(np.arange(most) < counts[:, None])
    return rows, columns[rows, ranks]


def _draw_counts(recipe: Recipe, forced: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns how many items each user has: at least what is forced and the minimum, never all, the exact sum."""
    counts: np.ndarray = np.maximum(forced, recipe.min_per_user)
    limit = recipe.num_items - 1
    while (left := recipe.num_interactions - int(counts.sum())) > 0:
        open_weights = np.where(counts < limit, weights, 0.0)
        counts = np.minimum(counts + rng.multinomial(left, open_weights / open_weights.sum()), limit)
    return counts


def _draw_features(
    recipe: Recipe, item_factors: np.ndarray, rng: np.random.Generator
) -> Mapping[str, Float32[np.ndarray, "I _"]]:
    features = {}
    for position, (modality, width) in enumerate(recipe.widths.items()):
        first = recipe.shared + position * recipe.private
        shown = np.hstack([item_factors[:, : recipe.shared], item_factors[:, first : first + recipe.private]])
        nuisance = rng.standard_normal(shown.shape)
        array = rng.standard_normal((recipe.num_items, width), dtype=np.float32)
        array *= np.sqrt(recipe.noise)
        for share, source in ((1 - recipe.noise - recipe.redundancy, shown), (recipe.redundancy, nuisance)):
            view = rng.standard_normal((source.shape[1], width))
            scaled = np.sqrt(share) * view / np.linalg.norm(view, axis=0)
            for start in range(0, len(array), _FEATURE_ROWS):
                block = slice(start, start + _FEATURE_ROWS)
                array[block] += (source[block] @ scaled).astype(np.float32)
        # Rounded, so that processors whose last bits differ still make the same file.
        features[modality] = np.round(array, 4, out=array)
    return MappingProxyType(features)
