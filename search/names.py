"""The names under which cells and trials are known everywhere: terminal, store, report, checkpoint folders."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from spaces.params import Value

JOB_VARIABLE = "RECSWEEP_JOB"
"""The environment variable that tells a driver the id of the job as which it was sent to a cluster."""

ConfigValue: TypeAlias = Value | Sequence[str] | Mapping[str, Value] | None

# Where the data lie does not change a number: the same trial has the same name on every machine.
_NOT_IDENTITY = ("data.root",)


def cell_name(dataset: str, model: str, objective: str, update: str, optimizer: str) -> str:
    """Return the cell's name, such as "lfm2k/vbpr/plain/bsam_plus/adam"."""
    return "/".join((dataset, model, objective, update, optimizer))


def trial_name(config: Mapping[str, ConfigValue]) -> str:
    """Return the trial's name: model, objective unless plain, update, and 8 hex digits of the configuration's digest.

    Trials with the same configuration, seed included, have the same name; `data.root` plays no part. Others differ, but
    for chance: two of 1000 trials of one model and update share their digits in one sweep of 8600.
    """
    objective = str(config["objective.name"])
    parts = [str(config["model.name"]), *([] if objective == "plain" else [objective]), str(config["update.name"])]
    return "-".join((*parts, config_digest(config)[:8]))


def config_digest(config: Mapping[str, ConfigValue]) -> str:
    """Return the SHA-256 of a flat trial configuration in hex, independent of the order of its keys."""
    return digest({key: value for key, value in config.items() if key not in _NOT_IDENTITY})


def digest(value: object) -> str:
    """Return the SHA-256 in hex of a JSON-able value, independent of the order of keys in mappings."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
