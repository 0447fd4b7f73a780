"""What deduplication compares, on disk: 64-bit keys of the units of each document, one table a shard.

    <name>.keys.bin     (units, columns) uint64, units in the order of the documents
    <name>.ends.bin     (documents,) uint64: where each document's units end
    <name>.ids.jsonl    [id, digest of the text, row], sorted: who is first
    <name>.table.json   the header, written last: a table without one is unfinished

Workers write tables of their shards alone; whatever compares them afterwards reads memory maps. Keys are hashes, so two
units that differ share one with probability 2**-64: among 10**9 units, .03 pairs.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.read import Document
from isoflop.data.shingles import Hashes, Places, batches
from isoflop.errors import InputError
from isoflop.files import disk, read_json, write_json

BATCH_CHARS = 1 << 22
NOTES_A_TABLE = 1 << 18
_KEY = np.dtype("<u8")


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
        self.header = read_json(_beside(path, "table.json"), TableHeader)
        for part, numbers in (("keys.bin", self.header.n_units * self.header.columns), ("ends.bin", self.n_documents)):
            file = _beside(path, part)
            size = file.stat().st_size if file.exists() else 0
            if size != numbers * _KEY.itemsize:
                raise InputError(f"{file}: {size} bytes where {numbers * _KEY.itemsize} are due; write the table again")

    @property
    def n_documents(self) -> int:
        """Documents, those without a unit included."""
        return self.header.n_documents

    @cached_property
    def keys(self) -> Hashes:
        """(units, columns), mapped."""
        return _mapped(_beside(self.path, "keys.bin")).reshape(-1, self.header.columns)

    @cached_property
    def ends(self) -> Places:
        """(documents,) where each document's units end."""
        return _mapped(_beside(self.path, "ends.bin")).astype(np.int64)

    def in_order(self) -> Iterator[tuple[str, str, int]]:
        """(id, digest, row) of every document, sorted."""
        decoder = msgspec.json.Decoder(tuple[str, str, int])
        with _beside(self.path, "ids.jsonl").open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)


class TableWriter:
    """Writes one table, document by document; as a context it is finished when the block ends without an error.

    Of the documents only the ids stay in memory.

    Raises:
        ResourceError: no room, or no permission to write.
    """

    def __init__(self, path: Path, *, kind: str, columns: int) -> None:
        self.path, self.kind, self.columns = path, kind, columns
        self._ids: list[tuple[str, str, int]] = []
        self._n_units = 0
        self._open = ExitStack()

    def __enter__(self) -> "TableWriter":
        with disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _beside(self.path, "table.json").unlink(missing_ok=True)
            self._keys = self._open.enter_context(_beside(self.path, "keys.bin").open("wb"))
            self._ends = self._open.enter_context(_beside(self.path, "ends.bin").open("wb"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with disk(self.path):
            self._open.close()
        if error is None:
            self._finish()

    def add(self, names: Iterable[tuple[str, str]], keys: Hashes, ends: Places) -> None:
        """Add documents: (id, digest) of each, (units, columns) keys, and (documents,) where each one's units end."""
        self._ids += [(name, digest, row) for row, (name, digest) in enumerate(names, start=len(self._ids))]
        with disk(self.path):
            self._keys.write(np.ascontiguousarray(keys, _KEY).tobytes())
            self._ends.write((ends + self._n_units).astype(_KEY).tobytes())
        self._n_units += len(keys)

    def _finish(self) -> None:
        with disk(self.path), _beside(self.path, "ids.jsonl").open("wb") as lines:
            for entry in sorted(self._ids):
                lines.write(msgspec.json.encode(entry) + b"\n")
        header = TableHeader(
            kind=self.kind, columns=self.columns, n_documents=len(self._ids), n_units=self._n_units
        )  # fmt: skip
        write_json(_beside(self.path, "table.json"), header)


def write_table(path: Path, documents: Iterable[Document], keys: Keys) -> Table:
    """Write the table of one shard, in batches of about BATCH_CHARS.

    Args:
        path: the table's files are this path with suffixes.

    Raises:
        ResourceError: no room, or no permission to write.
    """
    with TableWriter(path, kind=keys.kind, columns=keys.columns) as writer:
        for batch in batches(documents, lambda document: len(document.text), most=BATCH_CHARS):
            writer.add(map(_named, batch), *keys.keys([document.text for document in batch]))
    return Table(path)


def note(document: Document, keys: Keys) -> bytes:
    """What `tables` must know of one document, for engines that pass over documents one by one."""
    return msgspec.msgpack.encode((*_named(document), keys.keys([document.text])[0].astype(_KEY).tobytes()))


def noted_id(noted: bytes) -> str:
    """The id in a note."""
    return msgspec.msgpack.decode(noted, type=tuple[str, str, bytes])[0]


def tables(notes: Iterable[bytes], keys: Keys, *, folder: Path) -> list[Table]:
    """Tables of all notes, in their order, of NOTES_A_TABLE documents each; memory holds the ids of one of them.

    Raises:
        ResourceError: no room, or no permission to write.
    """
    decoder = msgspec.msgpack.Decoder(tuple[str, str, bytes])
    found = []
    for number, batch in enumerate(batches(notes, lambda noted: 1, most=NOTES_A_TABLE)):
        with TableWriter(folder / f"{number:05}", kind=keys.kind, columns=keys.columns) as writer:
            for noted in batch:
                name, digest, packed = decoder.decode(noted)
                own = np.frombuffer(packed, _KEY).reshape(-1, keys.columns)
                writer.add([(name, digest)], own, np.array([len(own)]))
        found.append(Table(folder / f"{number:05}"))
    return found


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


def ranks(tables: Sequence[Table]) -> Places:
    """(documents of all tables,) place of each in the order of (id, digest of the text): the first of equals stays.

    The tables are merged from disk; memory holds one number a document. Documents equal in both are the same document,
    so it does not matter which of them comes first.
    """
    firsts = np.cumsum([0, *(table.n_documents for table in tables)])
    merged = heapq.merge(*(_numbered(table, int(first)) for table, first in zip(tables, firsts, strict=False)))
    order = np.fromiter((number for _, _, number in merged), np.int64, count=int(firsts[-1]))
    found = np.empty_like(order)
    found[order] = np.arange(len(order))
    return found


def _numbered(table: Table, first: int) -> Iterator[tuple[str, str, int]]:
    return ((name, digest, first + row) for name, digest, row in table.in_order())


def _named(document: Document) -> tuple[str, str]:
    """Id and digest: by these two the first of equals is told."""
    return _clean(document.id), _digest(document.text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _clean(name: str) -> str:
    """An id that JSON can carry: lone surrogates become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _mapped(file: Path) -> npt.NDArray[np.uint64]:
    """A file of numbers, mapped; an empty one cannot be."""
    return np.memmap(file, _KEY, mode="r") if file.stat().st_size else np.empty(0, _KEY)


def _beside(path: Path, part: str) -> Path:
    return path.with_name(f"{path.name}.{part}")
