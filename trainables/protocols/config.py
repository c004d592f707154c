"""The settings of the protocols, and what follows from them alone. Importable without torch.

Numbers and phases are the papers' (strategies.md §8, §9, §10); every decision taken there is a field.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator

Kind: TypeAlias = Literal[
    "gaussian", "item_embedding", "raw_features", "text_redundancy", "visual_redundancy", "information_adjustment"
]
"""`gaussian`: DVIB's noise χ on the features; `item_embedding`, `raw_features`: BSAM's levels L1.. on the items'
embeddings (its Table III) and on the features (Table IV); the redundancies are DVIB's, the adjustment BSAM's."""

Phase: TypeAlias = Literal["test", "train_test"]
"""`test`: corrupted only when judged; `train_test`: trained anew on corrupted data, and judged on them."""

PAPER_PHASES: dict[Kind, Phase] = {
    "gaussian": "train_test",
    "item_embedding": "test",
    "raw_features": "test",
    "text_redundancy": "train_test",
    "visual_redundancy": "train_test",
    "information_adjustment": "test",
}

Entry = TypeVar("Entry")
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Draws = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """What all settings share: immutable, no unknown keys, no conversions between types, only finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _distinct(cls, value: Entry) -> Entry:
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError(f"must name nothing twice, but got {list(value)}")
        return value


class CorruptionConfig(Settings):
    """One corruption at one severity in one phase."""

    kind: Kind
    phase: Phase
    level: str
    """Label of the severity."""
    severity: float
    """Standard deviation of a noise, relative norm or share of what is changed, as the kind says."""


class RobustnessConfig(Settings):
    """Which corruptions a trained configuration is judged under, and how often each is drawn."""

    corruptions: Annotated[tuple[Kind, ...], Strict(False), Field(min_length=1)] | None = None
    """The corruptions by name; null for all that apply to the data set and the model."""
    phases: Annotated[tuple[Phase, ...], Strict(False), Field(min_length=1)] | None = None
    """The phases of every corruption; null for each one's own, as its paper has it (`PAPER_PHASES`)."""
    draws: Draws = 5
    """Noise draws of each corruption and level in phase `test`."""
    train_draws: Draws = 1
    """The same in phase `train_test`, where each is a training."""
    rebuild_graph: bool = False
    """Whether phase `test` also builds the items' graphs from corrupted features; `train_test` always does."""
    gaussian_stds: Annotated[tuple[NotNegative, ...], Strict(False), Field(min_length=1)] = (0.01, 0.05)
    """χ: standard deviations of `gaussian`."""
    noise_levels: Annotated[tuple[NotNegative, ...], Strict(False), Field(min_length=1)] = (1e-6, 1e-5, 1e-4)
    """Second arguments of N(0, ·) at levels L1, L2, ... of `item_embedding` and `raw_features`."""
    as_std: bool = False
    """Whether these are standard deviations; they are variances else (std 1e-3, 3.16e-3, 1e-2)."""
    text_ratios: Annotated[tuple[NotNegative, ...], Strict(False), Field(min_length=1)] = (0.1,)
    """r: norm of what `text_redundancy` adds to a row, over the row's own; a surrogate for 30 random characters."""
    text_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the items that `text_redundancy` touches."""
    visual_stds: Annotated[tuple[NotNegative, ...], Strict(False), Field(min_length=1)] = (3.0,)
    """σ of the columns abs(N(1, σ²)) that `visual_redundancy` appends."""
    noise_columns: Annotated[int, Field(ge=0)] = 512
    """How many such columns."""
    zero_columns: Annotated[int, Field(ge=0)] = 512
    """How many columns of zeros after them."""
    adjusted_shares: Annotated[tuple[Share, ...], Strict(False), Field(min_length=1)] = (0.01, 0.03, 0.05)
    """Each item's probability of an `information_adjustment`."""
    adjustment: Literal["ridge", "shuffle"] = "ridge"
    """`ridge`: text predicted from the other modalities and they from text; `shuffle`: another item's features."""
    ridge_penalty: Positive = 0.1
    """Ridge penalty over the mean variance of the predictors."""

    @property
    def noise_stds(self) -> tuple[float, ...]:
        """Standard deviations at levels L1, L2, ..."""
        return self.noise_levels if self.as_std else tuple(level**0.5 for level in self.noise_levels)

    def draws_in(self, phase: Phase) -> int:
        """Noise draws of each corruption and level in a phase."""
        return self.draws if phase == "test" else self.train_draws

    def listed(self) -> tuple[CorruptionConfig, ...]:
        """Every corruption, level and phase that is asked for, whether or not it applies to a data set and model."""
        kinds = tuple(PAPER_PHASES) if self.corruptions is None else self.corruptions
        return tuple(
            CorruptionConfig(kind=kind, phase=phase, level=level, severity=severity)
            for kind in kinds
            for phase in self.phases or (PAPER_PHASES[kind],)
            for level, severity in self._levels(kind)
        )

    def _levels(self, kind: Kind) -> Sequence[tuple[str, float]]:
        """(label, severity) of each level of a corruption."""
        if kind in ("item_embedding", "raw_features"):
            return [(f"L{number}", std) for number, std in enumerate(self.noise_stds, 1)]
        if kind == "information_adjustment":
            return [(f"{100 * share:g}%", share) for share in self.adjusted_shares]
        numbers = {
            "gaussian": self.gaussian_stds,
            "text_redundancy": self.text_ratios,
            "visual_redundancy": self.visual_stds,
        }
        return [(f"{number:g}", number) for number in numbers[kind]]

    def trainings(self, corruptions: Sequence[CorruptionConfig]) -> int:
        """Trainings that one seed of the protocol takes with these corruptions: a clean one, and those of `train_test`.

        With `listed()` the most that there can be; `selection.applicable` leaves out what does not apply.
        """
        return 1 + self.train_draws * sum(corruption.phase == "train_test" for corruption in corruptions)


class GeneralisationConfig(Settings):
    """How far the numbers of a configuration hang on its split and its seed; hyperparameters are never tuned again."""

    vary: Literal["both", "split", "init"] = "both"
    """`both`: per seed a random 8:1:1 split of that seed and a training of it; `split`, `init`: one of the two."""
    seeds: Annotated[tuple[Seed, ...], Strict(False), Field(min_length=1)] = tuple(range(996, 1006))
    """The seeds; the paper's are 996 to 1005."""


class LandscapeConfig(Settings):
    """What is measured around the weights of a trained configuration."""

    modes: Annotated[tuple[Literal["filter_norm", "paper"], ...], Strict(False)] = ("filter_norm",)
    """`filter_norm`: directions scaled to the weights row by row; `paper`: N(0, I) in full dimension, as printed."""
    dimensions: Literal[1, 2] = 2
    """Directions of a grid; its points grow accordingly."""
    points: Annotated[int, Field(ge=2)] = 21
    """Points of a `filter_norm` grid along each direction; an odd number has one at the weights themselves."""
    extent: Positive = 1.0
    """The grid goes from -extent to extent."""
    paper_points: Annotated[int, Field(ge=2)] = 20
    """The same of a `paper` grid."""
    paper_extent: Positive = 100.0
    """The same of a `paper` grid."""
    batches: Annotated[int, Field(ge=1)] = 4
    """Training batches over which the loss is averaged; fixed, with fixed negatives."""
    ascent_rhos: Annotated[tuple[Positive, ...], Strict(False)] = (0.05, 0.1)
    """Radii ρ of the sharpness L(θ + ρ g/‖g‖) - L(θ); none for []."""
    average_sigmas: Annotated[tuple[Positive, ...], Strict(False)] = (0.01,)
    """σ of the sharpness E[L(θ + δ)] - L(θ), δ ~ N(0, σ²‖p_r‖²) in row r; none for []."""
    average_draws: Draws = 10
    """Draws of δ, each taken with both signs."""
    hessian: bool = True
    """Whether the largest eigenvalue of the Hessian is sought."""
    hessian_tolerance: Positive = 1e-3
    """The power iteration ends when the eigenvalue changes by less than this share of itself."""
    hessian_iterations: Annotated[int, Field(ge=1)] = 100
    """It ends after this many products at the latest; each costs two gradients."""
    difference_step: Positive = 1e-4
    """Length of the central difference of gradients behind a product with the Hessian, in float64."""

    def forward_passes(self) -> int:
        """Points of all grids, each one pass through the model."""
        sizes = {"filter_norm": self.points, "paper": self.paper_points}
        return sum(sizes[mode] ** self.dimensions for mode in self.modes)


class Variant(NamedTuple):
    """One training of the generalisation protocol: the flat configuration to train, and its two seeds."""

    flat: Mapping[str, Any]
    seed: int
    split_seed: int | None


def variants(flat: Mapping[str, Any], settings: GeneralisationConfig) -> list[Variant]:
    """The trainings of the generalisation protocol, one a seed, from a flat configuration of a trial.

    `both` and `split` divide the data anew, "random" with that seed; `both` and `init` train with it. Everything else,
    all hyperparameters above all, stays. `split_seed` is None where the split is not drawn (`init` on a given one).
    """
    found = []
    for drawn in settings.seeds:
        changed = dict(flat)
        if settings.vary != "split":
            changed["seed"] = drawn
        if settings.vary != "init":
            changed |= {"data.split": "random", "data.split_seed": drawn}
        is_drawn = changed.get("data.split", "given") in ("random", "leave_one_out")
        split_seed = changed.get("data.split_seed", 999) if is_drawn else None
        found.append(Variant(changed, changed.get("seed", 999), split_seed))
    return found
