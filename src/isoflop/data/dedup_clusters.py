"""Which documents and which units are repeats, from tables of keys: sorted slice by slice, joined by union-find.

`clusters` joins documents that share a key in any column (MinHash bands, or one digest of the whole text); the first of
a cluster by id stays. `repeats` looks at one column and marks every unit (line, paragraph, window of words) but the
first by (id, place in the document).

The answer depends on the documents alone: not on the number of tables, their order, or the memory given. Memory: 24
bytes a document, and `memory_bytes` for the slice of keys that is being sorted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isoflop.data.dedup_tables import Table, check_alike, ranks
from isoflop.data.shingles import Hashes, Places

MEMORY_BYTES = 1 << 29
UNIQUE, FIRST, REPEAT = np.uint8(0), np.uint8(1), np.uint8(2)
# Key, number, order of the sort and the sorted copies of the three.
_BYTES_A_KEY = 64
_SCAN = 1 << 20


@dataclass(frozen=True)
class Clusters:
    """Which document stays for each document.

    Attributes:
        keepers: (documents of all tables,) number of the document that stays in its stead: its own where it stays.
        firsts: (tables + 1,) number of each table's first document.
    """

    keepers: Places
    firsts: Places

    @property
    def n_dropped(self) -> int:
        """Documents that another one stands for."""
        return int((self.keepers != np.arange(len(self.keepers))).sum())

    def of_table(self, table: int) -> Places:
        """(documents,) keepers of the documents of one table."""
        return self.keepers[self.firsts[table] : self.firsts[table + 1]]

    def where(self, number: int) -> tuple[int, int]:
        """Table and row of a document's number."""
        table = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return table, number - int(self.firsts[table])


def clusters(tables: Sequence[Table], *, memory_bytes: int = MEMORY_BYTES) -> Clusters:
    """Join the documents that share a key in any column, and whoever they share one with.

    Raises:
        InputError: tables of different kinds.
    """
    check_alike(tables)
    firsts = np.cumsum([0, *(table.n_documents for table in tables)])
    rank = ranks(tables)
    # A node is a document's rank, and the smaller root wins: so the root of a cluster is its first document by id.
    parent = np.arange(len(rank))
    for column in range(tables[0].header.columns if tables else 0):
        for keys, units in _slices(tables, column, memory_bytes):
            nodes = rank[_documents(tables, firsts, units)]
            order = np.lexsort((nodes, keys))
            same = keys[order][1:] == keys[order][:-1]
            _join(parent, nodes[order[:-1][same]], nodes[order[1:][same]])
    document = np.empty_like(rank)
    document[rank] = np.arange(len(rank))
    return Clusters(document[_roots(parent, rank)], firsts)


def repeats(tables: Sequence[Table], *, memory_bytes: int = MEMORY_BYTES) -> list[npt.NDArray[np.uint8]]:
    """Mark each unit of each table: UNIQUE, FIRST of several, or a REPEAT of a first one elsewhere.

    One byte a unit is held for the answer.

    Raises:
        InputError: tables of different kinds.
    """
    check_alike(tables)
    firsts = np.cumsum([0, *(table.n_documents for table in tables)])
    rank = ranks(tables)
    marks = np.zeros(sum(table.header.n_units for table in tables), np.uint8)
    for keys, units in _slices(tables, 0, memory_bytes):
        order = np.lexsort((units, rank[_documents(tables, firsts, units)], keys))
        same = keys[order][1:] == keys[order][:-1]
        after, before = np.append(False, same), np.append(same, False)
        marks[units[order[after]]] = REPEAT
        marks[units[order[before & ~after]]] = FIRST
    ends = np.cumsum([table.header.n_units for table in tables])
    return np.split(marks, ends[:-1]) if tables else []


def _slices(tables: Sequence[Table], column: int, memory_bytes: int) -> Iterator[tuple[Hashes, Places]]:
    """(keys, units) of one range of keys after the other, so many that one fits into memory. Keys are hashes: uniform.

    Equal keys lie in one slice, so a key that most units share is held at once.
    """
    n_units = sum(table.header.n_units for table in tables)
    parts = max(1, -(-n_units * _BYTES_A_KEY // max(memory_bytes, 1)))
    width = -(-(1 << 64) // parts)
    for part in range(parts):
        low, high = part * width, min((part + 1) * width, 1 << 64) - 1
        found = list(_within(tables, column, np.uint64(low), np.uint64(high)))
        if found:
            yield np.concatenate([keys for keys, _ in found]), np.concatenate([units for _, units in found])


def _within(tables: Sequence[Table], column: int, low: np.uint64, high: np.uint64) -> Iterator[tuple[Hashes, Places]]:
    first = 0
    for table in tables:
        for start in range(0, table.header.n_units, _SCAN):
            keys = np.asarray(table.keys[start : start + _SCAN, column])
            inside = np.flatnonzero((keys >= low) & (keys <= high))
            if len(inside):
                yield keys[inside], inside + (first + start)
        first += table.header.n_units


def _documents(tables: Sequence[Table], firsts: Places, units: Places) -> Places:
    """Number of the document each unit belongs to; `units` are sorted."""
    first_units = np.cumsum([0, *(table.header.n_units for table in tables)])
    cuts = np.searchsorted(units, first_units)
    found = np.empty(len(units), np.int64)
    for number, table in enumerate(tables):
        inside = slice(cuts[number], cuts[number + 1])
        own = np.searchsorted(table.ends, units[inside] - first_units[number], side="right")
        found[inside] = own + firsts[number]
    return found


def _roots(parent: Places, nodes: Places) -> Places:
    """Root of each node; the way there is shortened for the next time."""
    found = parent[nodes]
    while not np.array_equal(above := parent[found], found):
        found = above
    parent[nodes] = found
    return found


def _join(parent: Places, left: Places, right: Places) -> None:
    """Union-find, all edges at once: each root hangs itself below the smallest root it is tied to, till none is."""
    while True:
        a, b = _roots(parent, left), _roots(parent, right)
        apart = a != b
        if not apart.any():
            return
        np.minimum.at(parent, np.maximum(a[apart], b[apart]), np.minimum(a[apart], b[apart]))
