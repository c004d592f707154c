"""A cache of graphs whose key is the content of every input, so that two different graphs can never share an entry.

Where it has a folder it also holds large arrays that are made of others: mapped files, in a node's memory once.
"""

import hashlib
import json
import os
import tempfile
import weakref
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trainables.errors import DataError
from trainables.layers.graphs import CsrArrays, read_only

_FORMAT = 1
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


class GraphCache:
    """Builds each graph once per process and, where it has a folder, once for all processes that share the folder.

    The key is a digest of the graph's name, the bytes of its input arrays and every parameter. A file appears under its
    final name whole or not at all, and one that cannot be read is built again. Pickling keeps the folder and the
    capacity and leaves the graphs behind.
    """

    def __init__(self, folder: Path | None = None, capacity: int = 16) -> None:
        """Makes an empty cache.

        Args:
            folder: where graphs are kept between processes; created when the first graph is written.
            capacity: how many graphs stay in memory; the one used longest ago goes first.
        """
        self.folder = folder
        self.capacity = capacity
        self._graphs: OrderedDict[str, CsrArrays] = OrderedDict()
        self._digests: dict[int, tuple[weakref.ref[np.ndarray], str]] = {}

    def __reduce__(self) -> tuple[type["GraphCache"], tuple[Path | None, int]]:
        return (GraphCache, (self.folder, self.capacity))

    def fetch(
        self,
        kind: str,
        inputs: Sequence[np.ndarray],
        parameters: Mapping[str, int | float | str],
        build: Callable[[], CsrArrays],
    ) -> CsrArrays:
        """Returns the graph of this kind, of these inputs and parameters; calls `build` only where none is kept.

        Raises:
            DataError: the folder cannot be written.
        """
        key = self._key(kind, inputs, parameters)
        graph = self._graphs.pop(key, None) or self._read(key)
        if graph is None:
            graph = build()
            self._write(key, graph)
        self._graphs[key] = graph
        while len(self._graphs) > self.capacity:
            self._graphs.popitem(last=False)
        return graph

    def joined(self, tables: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the tables [R, _], of one type, side by side, read-only.

        With a folder it is a file that all processes map; without one, and where it cannot be written, it is memory of
        this process.
        """
        if self.folder is None:
            return read_only(np.concatenate(tables, axis=1))
        path = self.folder / f"{self._key('joined', tables, {})}.npy"
        try:
            if not path.exists():
                self._write_joined(path, tables)
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError):
            return read_only(np.concatenate(tables, axis=1))

    def _write_joined(self, path: Path, tables: Sequence[np.ndarray]) -> None:
        shape = len(tables[0]), sum(table.shape[1] for table in tables)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="writing-") as scratch:
            part = Path(scratch) / "joined.npy"
            file = np.lib.format.open_memmap(part, mode="w+", dtype=tables[0].dtype, shape=shape)
            np.concatenate(tables, axis=1, out=file)
            file.flush()  # a file under its final name is on the disk: unlike a graph's its content is not checked
            os.replace(part, path)

    def _key(self, kind: str, inputs: Sequence[np.ndarray], parameters: Mapping[str, int | float | str]) -> str:
        content = [_FORMAT, kind, [self._digest(array) for array in inputs], sorted(parameters.items())]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def _digest(self, array: np.ndarray) -> str:
        known = self._digests.get(id(array))
        if known is not None and known[0]() is array and not array.flags.writeable:
            return known[1]
        digest = array_digest(array)
        self._digests[id(array)] = (weakref.ref(array), digest)
        return digest

    def _read(self, key: str) -> CsrArrays | None:
        if self.folder is None:
            return None
        try:
            # Opened here, because NumPy leaves a file open that turns out to be no archive.
            with (self.folder / f"{key}.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
                rows, columns = archive["shape"].tolist()
                graph = CsrArrays(archive["indptr"], archive["indices"], archive["values"], (rows, columns))
        except _UNREADABLE:
            return None
        return graph if _is_sound(graph) else None

    def _write(self, key: str, graph: CsrArrays) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="writing-") as scratch:
                part = Path(scratch) / "graph.npz"
                np.savez(part, indptr=graph.indptr, indices=graph.indices, values=graph.values, shape=graph.shape)
                os.replace(part, self.folder / f"{key}.npz")
        except OSError as error:
            raise DataError(f"the graph cache's folder {self.folder} must be writable, but: {error}") from error


def array_digest(array: np.ndarray) -> str:
    """Returns a digest of an array's type, shape and content."""
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _is_sound(graph: CsrArrays) -> bool:
    rows, columns = graph.shape
    return (
        graph.indptr.shape == (rows + 1,)
        and graph.indptr[0] == 0
        and graph.indptr[-1] == len(graph.indices) == len(graph.values)
        and bool(np.all(np.diff(graph.indptr) >= 0))
        and bool(np.all((graph.indices >= 0) & (graph.indices < columns)))
    )
