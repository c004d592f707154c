"""Writing `<modality>_feat.npy` row by row, in any order, with a stand-in for items that have none."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from trainables.data.preparation.work_folder import replacing
from trainables.errors import DataError

Encode: TypeAlias = Callable[[Sequence[str]], np.ndarray]
"""Texts, or paths of pictures, to one row of features each; a row that is not finite means: not to be read."""
Block: TypeAlias = tuple[Int64[np.ndarray, " n"], np.ndarray]
"""Positions of items and their rows [n, F]."""
CHUNK_ROWS = 1024


@dataclass(frozen=True)
class Encoder:
    """A model that turns texts or pictures into features.

    Attributes:
        name: stands in the account of what it made; two that give different features differ in it.
        load: called once, before anything is read; raises DataError where the model is not to be had.
    """

    name: str
    load: Callable[[], Encode]


def write_rows(
    target: Path, num_items: int, blocks: Iterator[Block], missing: Literal["mean", "zero"]
) -> tuple[int, Bool[np.ndarray, " I"]]:
    """Writes a feature file [num_items, F] of float32, whole or not at all; returns F and which items have a row.

    Only one block is in memory at a time. Items without a row, or with one that is not finite, get the mean of all
    rows, or zeros.

    Raises:
        DataError: no item has a row, or the blocks differ in width.
    """
    known = np.zeros(num_items, dtype=np.bool_)
    first = next(blocks, None)
    if first is None:
        raise DataError(f"{target.name} must have features of some item, but there are none")
    width = first[1].shape[1]
    total = np.zeros(width)
    with replacing(target) as part:
        start = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(num_items, width)).offset
        with part.open("r+b") as file:
            for positions, rows in _chained(first, blocks):
                total += _write_block(file.fileno(), start, positions, _checked(target, rows, width), known)
            if not known.any():
                raise DataError(f"{target.name} must have features of some item, but none of them is finite")
            if missing == "mean":
                mean = (total / known.sum()).astype(np.float32)
                for position in np.flatnonzero(~known):
                    _write_row(file.fileno(), start, int(position), mean)
    return width, known


def encoded(
    chunks: Path, contents: Sequence[str], positions: Int64[np.ndarray, " n"], encode: Encode, rows: int = CHUNK_ROWS
) -> Iterator[Block]:
    """Yields the rows of contents in chunks; each is kept in a file, and one that is there is not encoded again.

    Args:
        chunks: the folder of the files.
        contents: what is encoded, for each of `positions`.
        rows: contents in a chunk; the same in every run that shares the folder.
    """
    for start in range(0, len(positions), rows):
        file = chunks / f"{start:09d}.npy"
        if not file.is_file():
            block = _encoded_rows(contents[start : start + rows], encode)
            with replacing(file) as part, part.open("wb") as opened:
                np.save(opened, block)
        yield positions[start : start + rows], np.load(file, allow_pickle=False)


def _encoded_rows(contents: Sequence[str], encode: Encode) -> np.ndarray:
    block = np.asarray(encode(contents), dtype=np.float32)
    if block.ndim != 2 or len(block) != len(contents):
        raise DataError(
            f"an encoder must return one row for each of {len(contents)} contents, but returned {list(block.shape)}"
        )
    return block


def _chained(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


def _checked(target: Path, rows: np.ndarray, width: int) -> np.ndarray:
    if rows.shape[1] != width:
        raise DataError(f"{target.name} must have rows of one width, but has {width} and {rows.shape[1]}")
    return rows


def _write_block(file: int, start: int, positions: np.ndarray, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Writes the finite rows and returns their sum."""
    finite = np.isfinite(rows).all(axis=1)
    positions, rows = positions[finite], np.ascontiguousarray(rows[finite], dtype=np.float32)
    for position, row in zip(positions, rows, strict=True):
        _write_row(file, start, int(position), row)
    known[positions] = True
    total: np.ndarray = rows.sum(axis=0, dtype=np.float64)
    return total


def _write_row(file: int, start: int, position: int, row: np.ndarray) -> None:
    os.pwrite(file, row.tobytes(), start + position * row.nbytes)
