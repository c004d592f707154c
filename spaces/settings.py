"""Named sets of fixed values: how a paper or its released code sets what its published grid does not search.

A sweep names them in `space.settings`. A set belongs to some entries of one group and leaves all others alone, so that
`asam_samsung` does not change the radius of plain SAM in the same sweep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spaces.errors import SpaceError
from spaces.nearest import did_you_mean
from spaces.params import Value
from spaces.presets import Group


@dataclass(frozen=True)
class Settings:
    """Values that belong together.

    Attributes:
        summary: one line for `recsweep show presets`.
        source: the paper or repository that they come from.
        group: the group of the entries that they are for.
        entries: the names of these entries; one that lacks a key is left without it.
        values: by full name, such as "update.rho".
    """

    summary: str
    source: str
    group: Group
    entries: tuple[str, ...]
    values: Mapping[str, Value]


_DVIB = ("dvib_c", "dvib_a")
_ASAM = ("asam", "asam_plus")

SETTINGS: dict[str, Settings] = {
    "dvib_paper": Settings(
        summary="the loss as printed: a sum, with the true Jensen-Shannon divergence and eq. (13)",
        source="Variational Information Bottleneck Distillation, WWW 2025, eq. (8) and (13); strategies.md §6.3",
        group="objective",
        entries=_DVIB,
        values={"objective.distill": "js", "objective.combine": "sum", "objective.reg": "eq13"},
    ),
    "dvib_released": Settings(
        summary="the loss of the released code: a convex combination, its own divergence on every row, its regulariser",
        source="MarshmallowLight/DVIB@a9930723; strategies.md §6.2 and §6.3",
        group="objective",
        entries=_DVIB,
        values={
            "objective.distill": "released",
            "objective.combine": "convex",
            "objective.reg": "kl_std",
            "objective.distill_rows": 0,
        },
    ),
    "asam_samsung": Settings(
        summary="the authors' ASAM: adaptive where a parameter's name contains `weight`, so not on most embeddings",
        source="SamsungLabs/ASAM@f156a680, defaults of the class",
        group="update",
        entries=_ASAM,
        values={"update.adaptive_on": "name_contains_weight", "update.eta": 0.01, "update.rho": 0.5},
    ),
    "asam_davda": Settings(
        summary="ASAM as most PyTorch users know it: adaptive on every parameter, without eta, with a radius of 2",
        source="davda54/sam@3c3afdbd, adaptive=True; rho as the authors of ASAM advise in its issue 37",
        group="update",
        entries=_ASAM,
        values={"update.adaptive_on": "all", "update.eta": 0.0, "update.rho": 2.0},
    ),
    "friendly_sam_official": Settings(
        summary="Friendly SAM as its authors ran it: the moving average before the batch, decay 0.6, radius 0.2",
        source="nblt/F-SAM@2e2f9899, run.sh for ResNet-18",
        group="update",
        entries=("friendly_sam", "friendly_sam_plus"),
        values={"update.sigma": 1.0, "update.ema_decay": 0.6, "update.ema": "previous", "update.rho": 0.2},
    ),
    "mirror_gradient_official": Settings(
        summary="Mirror Gradient as its authors ran it: both half-steps by the one optimizer, every third batch",
        source="Qrange-group/Mirror-Gradient@a28908d9, trainer.py and mg.yaml (which leaves alpha2 to be searched)",
        group="update",
        entries=("mirror_gradient",),
        values={"update.mode": "official", "update.alpha1": 1.0, "update.beta": 3, "update.draws": "fresh"},
    ),
}


def settings_values(names: Sequence[str], chosen: Mapping[Group, str]) -> dict[str, Value]:
    """Return what the named sets say for one combination of entries, by full name.

    Args:
        chosen: the entry of every group, as {"model": "vbpr", "objective": "dvib_a", ...}.

    Raises:
        SpaceError: a name is unknown, or two of the sets give the same hyperparameter of these entries.
    """
    values: dict[str, Value] = {}
    givers: dict[str, str] = {}
    for name in names:
        settings = find_settings(name)
        if chosen[settings.group] not in settings.entries:
            continue
        for key, value in settings.values.items():
            if key in givers:
                both = f"{givers[key]} and {name} give {key} for {chosen[settings.group]}"
                raise SpaceError(f"two sets must not give one hyperparameter, but {both}")
            values[key], givers[key] = value, name
    return values


def find_settings(name: str) -> Settings:
    """Return the set of that name.

    Raises:
        SpaceError: there is none.
    """
    if name not in SETTINGS:
        raise SpaceError(f"must be among {', '.join(SETTINGS)}, but got {name!r}{did_you_mean(name, SETTINGS)}")
    return SETTINGS[name]
