"""The way from published files to a folder in MMRec's format, in steps that survive a kill."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from trainables.data.config import DataConfig
from trainables.data.features import SUFFIX, file_digest
from trainables.data.interactions import ITEM, USER, write_interactions
from trainables.data.preparation.choosing import choose, labelled
from trainables.data.preparation.feature_rows import Block, Encode, Encoder, encoded, write_rows
from trainables.data.preparation.images import BinaryImages, PictureFolder
from trainables.data.preparation.settings import Settings
from trainables.data.preparation.source import PublishedFiles
from trainables.data.preparation.work_folder import WorkFolder, check_target, opened, replacing
from trainables.data.sources import EMBEDDED
from trainables.errors import DataError

_FORMAT = 1
_NAMED_ITEMS = 5
TEXTS, USERS, ITEMS = "item_texts.parquet", "u_id_mapping.csv", "i_id_mapping.csv"


@dataclass(frozen=True)
class Prepared:
    """What became of a request: the account as in `prepare.json`, and whether the folder was there before."""

    account: Mapping[str, object]
    was_there: bool


def prepare(
    files: PublishedFiles,
    out: Path,
    settings: Settings,
    *,
    text_encoder: Encoder | None = None,
    images: BinaryImages | PictureFolder | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Prepared:
    """Makes the folder `out`: `<name>.inter`, features, original ids, item texts and `prepare.json`.

    The folder appears whole, by one rename. A run that was killed goes on where its last whole step or chunk ended, if
    it is asked for the same again; a folder that is already what is asked for stays as it is.

    Args:
        text_encoder: encodes the items' texts; None keeps them as text only.
        force: make the folder anew where it was prepared from other files or settings.
        say: is told what is being done.

    Raises:
        DataError: a file breaks a rule, a model is not to be had, or `out` holds something else.
        OSError: the folder cannot be written.
    """
    _check_name(out)
    request = _request(files, settings, text_encoder, images)
    account = check_target(out, request, force=force)
    if account is not None:
        return Prepared(account, was_there=True)
    encode_text, encode_image = (each.load() if each else None for each in (text_encoder, images and images.encoder))
    with opened(out, request) as work:
        say("interactions")
        done = {"interactions": work.stage("interactions", partial(_table, work, out.name, files, settings))}
        say("texts")
        done["texts"] = work.stage("texts", partial(_texts, work, files))
        if encode_text is not None and done["texts"]:
            say("features of texts")
            done["text"] = work.stage("text", partial(_text_features, work, settings, encode_text))
        if images is not None:
            say("features of images")
            done["image"] = work.stage("image", partial(_image_features, work, settings, images, encode_image))
        account = work.publish({"request": request, **done})
    return Prepared(account, was_there=False)


def _check_name(out: Path) -> None:
    try:
        DataConfig(name=out.name)
    except ValueError:
        raise DataError(
            f"the folder's name is the data set's and must consist of letters, digits, '.', '_' and '-', "
            f"but is {out.name!r}"
        ) from None
    if out.name == EMBEDDED:
        raise DataError(f"the folder's name must not be {EMBEDDED!r}, which is the embedded data set")


def _request(
    files: PublishedFiles, settings: Settings, text: Encoder | None, images: BinaryImages | PictureFolder | None
) -> dict[str, object]:
    inputs = dict(files.inputs()) | ({"images": images.path} if images else {})
    return {
        "format": _FORMAT,
        "kind": files.kind,
        "inputs": {role: _described(path) for role, path in inputs.items()},
        "files": dict(files.settings()),
        "settings": settings.model_dump(),
        "text_encoder": text.name if text else None,
        "image_encoder": images.encoder.name if images and images.encoder else None,
    }


def _described(path: Path) -> dict[str, object]:
    """Name, bytes and digest of a file; of a folder, of its files' names and sizes."""
    if path.is_dir():
        names = sorted((file.name, file.stat().st_size) for file in path.iterdir() if file.is_file())
        digest = hashlib.blake2b(repr(names).encode(), digest_size=16).hexdigest()
        return {"name": path.name, "bytes": sum(size for _, size in names), "digest": digest}
    if not path.is_file():
        raise DataError(f"{path} must be a file or a folder, but does not exist")
    return {"name": path.name, "bytes": path.stat().st_size, "digest": file_digest(path)}


def _table(work: WorkFolder, name: str, files: PublishedFiles, settings: Settings) -> Mapping[str, object]:
    source = " and ".join(path.name for path in files.inputs().values())
    raw = files.interactions()
    chosen = choose(raw, settings, source)
    skipped = raw.skipped
    del raw
    with replacing(work.folder / f"{name}.inter") as part:
        write_interactions(part, labelled(chosen, settings, source))
    _write_ids(work.folder / USERS, "user_id", USER, chosen.user_ids)
    _write_ids(work.folder / ITEMS, files.item_column, ITEM, chosen.item_ids)
    return {"counts": dict(chosen.counts), "skipped": dict(skipped)}


def _write_ids(path: Path, original: str, number: str, ids: Sequence[str]) -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{original}\t{number}\n")
        file.writelines(f"{each}\t{position}\n" for position, each in enumerate(ids))


def _item_ids(work: WorkFolder) -> list[str]:
    with (work.folder / ITEMS).open(encoding="utf-8", newline="\n") as file:
        return [line.partition("\t")[0] for line in file][1:]


def _texts(work: WorkFolder, files: PublishedFiles) -> Mapping[str, object]:
    ids = _item_ids(work)
    found = files.texts({each: position for position, each in enumerate(ids)})
    if found is None:
        return {}
    with replacing(work.folder / TEXTS) as part:
        parquet.write_table(pa.table({ITEM: np.arange(len(ids)), "id": ids, "text": list(found.texts)}), part)
    without = [each for each, text in zip(ids, found.texts, strict=True) if not text]
    return {"rows": found.rows, "skipped": dict(found.skipped), **_without(without)}


def _text_features(work: WorkFolder, settings: Settings, encode: Encode) -> Mapping[str, object]:
    texts: list[str] = parquet.read_table(work.folder / TEXTS, columns=["text"])["text"].to_pylist()
    positions = np.array([position for position, text in enumerate(texts) if text], dtype=np.int64)
    blocks = encoded(work.chunks("text"), [texts[position] for position in positions.tolist()], positions, encode)
    return _features(work, "text", blocks, settings)


def _image_features(
    work: WorkFolder, settings: Settings, images: BinaryImages | PictureFolder, encode: Encode | None
) -> Mapping[str, object]:
    positions = {each: position for position, each in enumerate(_item_ids(work))}
    blocks = images.blocks(positions, work.chunks("image"), encode)
    return {**_features(work, "image", blocks, settings), "skipped": images.skipped.plain()}


def _features(work: WorkFolder, modality: str, blocks: Iterator[Block], settings: Settings) -> Mapping[str, object]:
    ids = _item_ids(work)
    width, known = write_rows(work.folder / f"{modality}{SUFFIX}", len(ids), blocks, settings.missing)
    return {"width": width, **_without([ids[position] for position in np.flatnonzero(~known)])}


def _without(ids: Sequence[str]) -> dict[str, object]:
    return {"items_without": len(ids), "first_without": list(ids[:_NAMED_ITEMS])}
