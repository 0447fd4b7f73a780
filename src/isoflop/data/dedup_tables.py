"""What deduplication compares, on disk: 64-bit keys of the units of each document, one table a shard.

    <name>.keys.bin     (units, columns) uint64, units in the order of the documents
    <name>.ends.bin     (documents,) uint64: where each document's units end
    <name>.ids.bin      the documents' ids in UTF-8, one after the other
    <name>.id-ends.bin  (documents,) uint64: where each id ends
    <name>.table.json   the header, written last: a table without one is unfinished

Workers write tables of their shards alone; whatever compares them afterwards reads memory maps. Keys are hashes, so two
units that differ share one with probability 2**-64: among 10**9 units, .03 pairs.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.read import Document
from isoflop.data.shingles import Hashes, Places, batches
from isoflop.errors import InputError
from isoflop.files import disk, read_json, write_json

_PARTS = ("keys.bin", "ends.bin", "ids.bin", "id-ends.bin")
_HEADER = "table.json"
_NUMBER = np.dtype("<u8")


class Keys(Protocol):
    """A way to cut documents into units and to hash them.

    Attributes:
        kind: name and settings; only tables of one kind are compared.
        columns: keys of one unit.
    """

    @property
    def kind(self) -> str: ...
    @property
    def columns(self) -> int: ...
    def keys(self, texts: Sequence[str]) -> tuple[Hashes, Places]:
        """(units, columns) keys, and (texts,) where each text's units end."""
        ...


class TableHeader(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `<name>.table.json` holds."""

    kind: str
    columns: int
    n_documents: int
    n_units: int
    schema: str = "isoflop/dedup-table@1"


class Table:
    """A finished table.

    Raises:
        InputError: the header is missing or a file has another size than it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_json(_beside(path, _HEADER), TableHeader)
        n_keys, n_documents = self.header.n_units * self.header.columns, self.n_documents
        for part, numbers in (("keys.bin", n_keys), ("ends.bin", n_documents), ("id-ends.bin", n_documents)):
            file = _beside(path, part)
            size = file.stat().st_size if file.exists() else 0
            if size != numbers * _NUMBER.itemsize:
                due = numbers * _NUMBER.itemsize
                raise InputError(f"{file}: {size} bytes where {due} are due; write the table again")

    @property
    def n_documents(self) -> int:
        """Documents, those without a unit included."""
        return self.header.n_documents

    @property
    def files(self) -> list[Path]:
        """All that the table is made of."""
        return [_beside(self.path, part) for part in (*_PARTS, _HEADER)]

    @cached_property
    def keys(self) -> Hashes:
        """(units, columns), mapped."""
        return _mapped(_beside(self.path, "keys.bin")).reshape(-1, self.header.columns)

    @cached_property
    def ends(self) -> Places:
        """(documents,) where each document's units end."""
        return _mapped(_beside(self.path, "ends.bin")).astype(np.int64)

    def id(self, row: int) -> str:
        """Name of the document of that row."""
        first, last = int(self._id_ends[row - 1]) if row else 0, int(self._id_ends[row])
        return self._ids[first:last].tobytes().decode()

    @cached_property
    def _id_ends(self) -> npt.NDArray[np.uint64]:
        return _mapped(_beside(self.path, "id-ends.bin"))

    @cached_property
    def _ids(self) -> npt.NDArray[np.uint8]:
        return np.memmap(_beside(self.path, "ids.bin"), np.uint8, mode="r")


def write_table(path: Path, documents: Iterable[Document], keys: Keys) -> Table:
    """Write the table of one shard, a batch at a time.

    Args:
        path: the table's files are this path with suffixes.

    Raises:
        ResourceError: no room, or no permission to write.
    """
    n_units = n_documents = n_id_bytes = 0
    with disk(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        _beside(path, _HEADER).unlink(missing_ok=True)
        out = {part: stack.enter_context(_beside(path, part).open("wb")) for part in _PARTS}
        for batch in batches(documents, lambda document: len(document.text)):
            found, ends = keys.keys([document.text for document in batch])
            ids = [document.id.encode("utf-8", "backslashreplace") for document in batch]
            id_ends = np.cumsum([len(each) for each in ids])
            out["keys.bin"].write(np.ascontiguousarray(found, _NUMBER).tobytes())
            out["ends.bin"].write((ends + n_units).astype(_NUMBER).tobytes())
            out["ids.bin"].write(b"".join(ids))
            out["id-ends.bin"].write((id_ends + n_id_bytes).astype(_NUMBER).tobytes())
            n_units, n_documents, n_id_bytes = n_units + len(found), n_documents + len(ids), n_id_bytes + id_ends[-1]
    header = TableHeader(kind=keys.kind, columns=keys.columns, n_documents=n_documents, n_units=n_units)
    write_json(_beside(path, _HEADER), header)
    return Table(path)


def check_alike(tables: Sequence[Table]) -> None:
    """Refuse tables of several kinds.

    Raises:
        InputError: names the first two that differ.
    """
    for table in tables[1:]:
        if table.header.kind != tables[0].header.kind:
            raise InputError(
                f"{table.path} holds {table.header.kind} and {tables[0].path} holds {tables[0].header.kind}; "
                "write all tables with the same settings"
            )


def _mapped(file: Path) -> npt.NDArray[np.uint64]:
    """A file of numbers, mapped; an empty one cannot be."""
    return np.memmap(file, _NUMBER, mode="r") if file.stat().st_size else np.empty(0, _NUMBER)


def _beside(path: Path, part: str) -> Path:
    return path.with_name(f"{path.name}.{part}")
