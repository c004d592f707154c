"""The door to every data set: what trains, what is sealed, and what can be said about it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.data.bundle import DataBundle, Interactions, unknown_modality
from trainables.data.config import DataConfig
from trainables.data.features import count_zero_rows
from trainables.data.graph_cache import GraphCache
from trainables.data.interactions import InteractionTable
from trainables.data.sources import Source, open_source
from trainables.data.splits import Division, Dropped, divide
from trainables.errors import DataError


def load(config: DataConfig, cache: Path | None = None) -> DataBundle:
    """Returns a checked data set without its test split.

    Args:
        cache: a folder in which graphs are kept for other processes; None keeps them in memory only.

    Raises:
        DataError: a file is missing or breaks a rule.
    """
    source, modalities, table, division, digests = _read(config)
    return DataBundle(
        name=config.name,
        digest=_digest(config, digests, modalities),
        file_digests=digests,
        num_users=table.num_users,
        num_items=table.num_items,
        train=division.train,
        valid=division.valid,
        features={modality: source.features(modality, table.num_items) for modality in modalities},
        graphs=GraphCache(cache),
    )


def open_test_split(config: DataConfig) -> Interactions:
    """Returns the test rows, read anew: the only way to them, for confirmations alone.

    Rows of users without training rows are left out, as in validation.

    Raises:
        DataError: a file is missing or breaks a rule, or there is no test row.
    """
    table = open_source(config).table()
    test = divide(table, config).test
    if not len(test):
        raise DataError(
            f"{table.source}: the test split must hold interactions, but is empty (data.split {config.split!r})"
        )
    return test


def describe(config: DataConfig) -> dict[str, object]:
    """Returns statistics of a data set as plain JSON values: sizes, sparsity, modalities, what was dropped, digests.

    Raises:
        DataError: a file is missing or breaks a rule.
    """
    source, modalities, table, division, digests = _read(config)
    pairs = table.num_users * table.num_items
    return {
        "name": config.name,
        "digest": _digest(config, digests, modalities),
        "split": config.split,
        "split_seed": _seed_in_use(config),
        "users": table.num_users,
        "items": table.num_items,
        "interactions": {
            "total": len(table.users),
            "train": len(division.train),
            "valid": len(division.valid),
            "test": len(division.test),
        },
        "sparsity": 1.0 - len(table.users) / pairs,
        "modalities": {modality: _modality(source, modality, table.num_items) for modality in modalities},
        "dropped": _dropped(division),
        "columns": list(table.columns),
        "file_digests": dict(digests),
    }


def check(config: DataConfig) -> tuple[str, ...]:
    """Returns a sentence for every rule that a data set breaks, file by file; () where `load` will succeed."""
    try:
        source = open_source(config)
        table = source.table()
    except DataError as error:
        return (str(error),)
    problems = []
    try:
        divide(table, config)
    except DataError as error:
        problems.append(str(error))
    try:
        modalities = _chosen_modalities(source, config)
    except DataError as error:
        return (*problems, str(error))
    for modality in modalities:
        try:
            source.features(modality, table.num_items)
        except DataError as error:
            problems.append(str(error))
    return tuple(problems)


def _read(config: DataConfig) -> tuple[Source, tuple[str, ...], InteractionTable, Division, Mapping[str, str]]:
    """The source, the modalities in use, all interactions, their split, and the digests of what is in use."""
    source = open_source(config)
    modalities = _chosen_modalities(source, config)
    table = source.table()
    return source, modalities, table, divide(table, config), source.digests(modalities)


def _chosen_modalities(source: Source, config: DataConfig) -> tuple[str, ...]:
    if config.modalities is None:
        return source.modalities
    for modality in config.modalities:
        if modality not in source.modalities:
            raise DataError(unknown_modality(source.name, modality, list(source.modalities)))
    return config.modalities


def _seed_in_use(config: DataConfig) -> int | None:
    return config.split_seed if config.split in ("random", "leave_one_out") else None


def _digest(config: DataConfig, digests: Mapping[str, str], modalities: Sequence[str]) -> str:
    content = [sorted(digests.items()), list(modalities), config.split, _seed_in_use(config)]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _modality(source: Source, modality: str, num_items: int) -> dict[str, int]:
    features = source.features(modality, num_items)
    return {"width": features.shape[1], "zero_rows": count_zero_rows(features)}


def _dropped(division: Division) -> dict[str, dict[str, int]]:
    def plain(dropped: Dropped) -> dict[str, int]:
        return {"users": dropped.users, "interactions": dropped.interactions}

    return {"valid": plain(division.dropped_valid), "test": plain(division.dropped_test)}
