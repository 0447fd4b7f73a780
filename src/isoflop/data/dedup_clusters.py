"""Which documents and which units are repeats, from tables of keys: sorted slice by slice, joined by union-find.

`clusters` joins documents that share a key in any column (MinHash bands, or one digest of the whole text); the first of
a cluster stays. `repeats` looks at one column and marks every unit (line, paragraph, window of words) but the first.

First is what comes first in the tables: a corpus has an order, that of its sources, and who writes the recipe puts the
best source first. The answer hangs on that order alone, not on how many tables it was cut into or on the memory given.
Memory: 24 bytes a document, and `memory_bytes` for the slice of keys that is being sorted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isoflop.data.dedup_tables import Table, check_alike
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
        tables: what was compared.
    """

    keepers: Places
    firsts: Places
    tables: Sequence[Table]

    @property
    def n_dropped(self) -> int:
        """Documents that another one stands for."""
        return int((self.keepers != np.arange(len(self.keepers))).sum())

    def id(self, number: int) -> str:
        """Name of a document by its number."""
        table = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return self.tables[table].id(number - int(self.firsts[table]))


def clusters(tables: Sequence[Table], *, memory_bytes: int = MEMORY_BYTES) -> Clusters:
    """Join the documents that share a key in any column, and whoever they share one with.

    Raises:
        InputError: tables of different kinds.
    """
    check_alike(tables)
    firsts = np.cumsum([0, *(table.n_documents for table in tables)])
    # The smaller root wins: so the root of a cluster is its first document.
    parent = np.arange(firsts[-1])
    for column in range(tables[0].header.columns if tables else 0):
        for keys, units in _slices(tables, column, memory_bytes):
            documents = _documents(tables, firsts, units)
            order = np.argsort(keys, kind="stable")
            same = keys[order][1:] == keys[order][:-1]
            _join(parent, documents[order[:-1][same]], documents[order[1:][same]])
    return Clusters(_roots(parent, np.arange(len(parent))), firsts, tables)


def repeats(
    tables: Sequence[Table], *, memory_bytes: int = MEMORY_BYTES, scratch: Path | None = None
) -> list[npt.NDArray[np.uint8]]:
    """Mark each unit of each table: UNIQUE, FIRST of several, or a REPEAT of a first one before it.

    Args:
        scratch: a file to keep the answer in, one byte a unit; in memory where None.

    Raises:
        InputError: tables of different kinds.
    """
    check_alike(tables)
    ends = np.cumsum([table.header.n_units for table in tables])
    n_units = int(ends[-1]) if tables else 0
    marks = np.zeros(n_units, np.uint8) if not (scratch and n_units) else np.memmap(scratch, np.uint8, "w+", 0, n_units)
    for keys, units in _slices(tables, 0, memory_bytes):
        # Units of a slice are in their order, and a stable sort leaves equal ones in it.
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        after, before = np.append(False, same), np.append(same, False)
        marks[units[order[after]]] = REPEAT
        marks[units[order[before & ~after]]] = FIRST
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
