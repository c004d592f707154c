"""The Parquet parts of the result store's tables: which there are, what they hold, and which are damaged."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from search.errors import DamagedPart, StoreError
from search.schema import TEXT, VIEWS, NewerSchemaError, check_version, reading_schema
from trainables.places import Place

_PART = ".parquet"
_CODED = pa.dictionary(pa.int32(), TEXT)
_OPENED_AT_ONCE = 8

Result = TypeVar("Result")


@cache
def coded_schema(table: str) -> pa.Schema:
    """The schema that tables are read with inside: the texts that make a row itself as numbers into a dictionary."""
    schema = reading_schema(table)
    texts = {name for view in VIEWS.values() if view.table == table for name in view.identity} & _texts(schema)
    return pa.schema([each.with_type(_CODED) if each.name in texts else each for each in schema], schema.metadata)


def _texts(schema: pa.Schema) -> set[str]:
    return {each.name for each in schema if each.type == TEXT}


@cache
def _format(table: str) -> ds.ParquetFileFormat:
    return ds.ParquetFileFormat(
        read_options=ds.ParquetReadOptions(
            dictionary_columns={each.name for each in coded_schema(table) if each.type == _CODED}
        ),
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True),
    )


def listed_files(place: Place, folder: str) -> dict[str, int]:
    """The names of all complete files in a folder with their sizes in bytes."""
    found = place.listed(folder).items()
    return {name: info.size for name, info in found if info.is_file and not info.base_name.startswith(".")}


def listed_parts(place: Place, table: str) -> dict[str, int]:
    """The names of all complete parts of a table with their sizes in bytes, oldest first.

    A listing is not atomic: while a compaction runs, one pass can miss both the merged part and an old one. So the
    folder is listed until nothing that one pass saw is gone in the next.
    """
    seen = listed_files(place, table)
    while not seen.keys() <= (again := listed_files(place, table)).keys():
        seen = again
    return {name: again[name] for name in sorted(again) if name.endswith(_PART)}


class Snapshot:
    """The parts of the tables as they stood when each was first read, so that whoever reads twice sees the same.

    Attributes:
        damaged: the parts that are passed over, each with the reason.
        failure: what ended the last reading that failed, for those whom others call and who cannot raise it.
    """

    def __init__(self, place: Place, fixed: Mapping[str, Sequence[str]] | None = None) -> None:
        """A snapshot of the place; where `fixed` names parts by table, of these and no others."""
        self.damaged: dict[str, str] = {}
        self.failure: Exception | None = None
        self._place, self._fixed = place, fixed
        self._parts: dict[str, list[str]] = {}
        self._fragments: dict[str, list[ds.ParquetFileFragment]] = {}
        self._earlier: dict[str, list[str]] | None = None

    def pieces(self, table: str, wanted: pc.Expression | None) -> list[ds.ParquetFileFragment]:
        """The row groups of all parts, in order, that may hold wanted rows by the statistics in their parts' ends.

        Raises:
            StoreError: a part is of a newer schema.
            OSError, pa.ArrowException: a part is gone, or cannot be read; `renew` finds out.
        """
        if table not in self._fragments:
            with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
                self._fragments[table] = list(pool.map(lambda part: self._fragment(table, part), self._names(table)))
        schema = coded_schema(table)
        return [
            piece
            for fragment in self._fragments[table]
            for piece in fragment.split_by_row_group(filter=wanted, schema=schema)
        ]

    def rows(
        self,
        table: str,
        names: Sequence[str],
        wanted: pc.Expression | None,
        pieces: Sequence[ds.ParquetFileFragment],
    ) -> pa.Table:
        """The wanted rows of some pieces, in order, with the named columns of `coded_schema`. Raises as `pieces`."""
        schema = coded_schema(table)
        if not pieces:
            return pa.schema([schema.field(name) for name in names]).empty_table()
        files: fs.FileSystem = self._place.files
        return ds.FileSystemDataset(pieces, schema, _format(table), files).to_table(columns=list(names), filter=wanted)

    def renew(self, error: Exception) -> None:
        """Makes another reading worth a try after one ended with this error, or raises it.

        Damaged parts are passed over from now on; where a compaction took parts, the tables are listed anew.
        """
        try:
            damaged = {} if isinstance(error, FileNotFoundError) else self._damage()
        except FileNotFoundError as gone:
            damaged, error = {}, gone
        if damaged:
            self.damaged |= damaged
        elif not isinstance(error, FileNotFoundError) or self._fixed is not None or self._parts == self._earlier:
            # Where a part that is gone is listed again, a compaction is not the reason.
            raise error
        else:
            self._earlier, self._parts = self._parts, {}
        self._fragments, self.failure = {}, None

    def _names(self, table: str) -> list[str]:
        if table not in self._parts:
            fixed = self._fixed
            self._parts[table] = list(listed_parts(self._place, table) if fixed is None else fixed[table])
        return [part for part in self._parts[table] if self._place.path(part) not in self.damaged]

    def _fragment(self, table: str, part: str) -> ds.ParquetFileFragment:
        fragment = _format(table).make_fragment(self._place.path(part), self._place.files)
        _check_part(table, self._place.path(part), fragment.physical_schema.metadata)
        return fragment

    def _damage(self) -> dict[str, str]:
        """The paths of the parts that are damaged, each with the reason.

        Raises:
            OSError: a part's bytes cannot be had, which is no fault of the part.
        """
        found = {}
        for table in self._parts:
            for part in self._names(table):
                content = self._place.read(part)
                try:
                    rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
                    _check_part(table, self._place.path(part), rows.schema.metadata)
                except (OSError, pa.ArrowException) as error:
                    found[self._place.path(part)] = reason(error)
        return found


def consistently(snapshot: Snapshot, use: Callable[[Snapshot], Result]) -> Result:
    """What `use` makes of the snapshot; it is called again where parts went or proved to be damaged meanwhile.

    Raises:
        OSError, pa.ArrowException: the parts cannot be read, or what else `use` raises.
    """
    while True:
        try:
            return use(snapshot)
        except (OSError, pa.ArrowException) as error:
            snapshot.renew(error)


def warn_of(damaged: Mapping[str, str]) -> None:
    """One `DamagedPart` warning for each part."""
    for part, why in damaged.items():
        warnings.warn(DamagedPart(part, why), stacklevel=3)


def reason(error: Exception) -> str:
    """An error in words that fit into a sentence."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip().rstrip(".")


def _check_part(table: str, part: str, metadata: Mapping[bytes, bytes] | None) -> None:
    """Returns if a part is of this table and not of a newer schema.

    Raises:
        StoreError: it is of a newer schema.
        pa.ArrowInvalid: it is no part of the table.
    """
    try:
        check_version(table, metadata)
    except NewerSchemaError as error:
        raise StoreError(f"the part {part} of the result store cannot be read: {error}") from None
    except StoreError as error:
        raise pa.ArrowInvalid(str(error)) from None
