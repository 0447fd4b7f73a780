"""Evaluation items, and which of them a text holds: runs of words, looked up in memory.

The other way round, our text indexed on disk and items looked up in it, is `contamination`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from isoflop.data.read import COMPRESSED, LINES, Document, documents
from isoflop.data.shingles import Hashes, runs, words
from isoflop.data.unpack import DamagedError, blocks, lines
from isoflop.errors import InputError

_LONGEST_LINE = 100_000_000


class Found(Struct, frozen=True):
    """Runs that a text shares with items: the set and the item of the first, and how many there are."""

    name: str
    item: str
    n_runs: int


class Items:
    """The runs of `n` words of all items of several sets, 12 bytes each.

    Attributes:
        n_too_short: items that have no run, and so cannot be found.

    Raises:
        InputError: a set cannot be read, or none of its items is as long as a run.
    """

    def __init__(self, sets: Sequence[Path], *, n: int) -> None:
        self.n = n
        self.n_too_short = 0
        self._names: list[tuple[str, str]] = []
        hashes: list[Hashes] = []
        for path in sets:
            before = sum(map(len, hashes))
            for item in read_items(path):
                found = self._runs(item.text)
                self.n_too_short += not len(found)
                hashes.append(found)
                self._names.append((path.name.partition(".")[0], item.id))
            if sum(map(len, hashes)) == before:
                raise InputError(f"{path}: no item with {n} words or more; take a smaller n, or another file")
        owners = np.repeat(np.arange(len(hashes), dtype=np.uint32), [len(each) for each in hashes])
        self._hashes, first = np.unique(np.concatenate(hashes), return_index=True)
        self._owners = owners[first]

    def found(self, text: str) -> Found | None:
        """What a text shares with the items; None where that is nothing."""
        asked = self._runs(text)
        place = np.minimum(np.searchsorted(self._hashes, asked), len(self._hashes) - 1)
        hits = np.flatnonzero(self._hashes[place] == asked)
        if not len(hits):
            return None
        name, item = self._names[self._owners[place[hits[0]]]]
        return Found(name, item, len(hits))

    def _runs(self, text: str) -> Hashes:
        found = words([text])
        return runs(found.hashes, found.ends, n=self.n)[0]


def read_items(path: Path) -> Iterator[Document]:
    """Items of a file: of JSON Lines all texts of a row, wherever they stand, but for its id; else `read`'s documents.

    Raises:
        InputError: damaged, or not JSON; names the line.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    if not path.is_file() or not suffixes or suffixes[-1] not in LINES:
        yield from documents(path)
        return
    try:
        with path.open("rb") as file:
            for number, line, _ in lines(blocks(file, packing=packing), longest=_LONGEST_LINE):
                yield from _item(path, number, line)
    except (DamagedError, OSError) as error:
        raise InputError(f"{path}: {error}; copy or download it again") from error


def _item(path: Path, number: int, line: bytes | None) -> Iterator[Document]:
    if line is None:
        raise InputError(f"{path} line {number}: longer than {_LONGEST_LINE:,} bytes")
    if not line.strip():
        return
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} line {number}: not JSON ({error})") from error
    given = row.pop("id", None) if isinstance(row, dict) else None
    yield Document(str(given) if given is not None else f"line {number}", "\n".join(_texts(row)))


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
