"""Was this evaluation item in the training text? Runs of 13 words, looked up in an index of what we train on.

    index.json         what was indexed: n, the split of tokens, files; written last
    runs-00000.bin     sorted hashes, 8 bytes a run, without doubles; several files, each made within the memory given

It lies in a folder of the shards it was made from, while they were written or afterwards, out of their tokens. Words
are compared without case and punctuation (`shingles`). 13 is the length of Brown et al. 2020 (arXiv:2005.14165,
appendix C). Two runs that differ share a hash with probability 2**-64: of a million looked up in 10**10, one is found
wrongly once in 1,800 times.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.folder_lock import held
from isoflop.data.read import Document
from isoflop.data.shards import Shards
from isoflop.data.shingles import Hashes, Places, Words, batches, runs, words
from isoflop.errors import InputError, UsageError
from isoflop.files import disk, read_json, sha256_file, write_json

FOLDER = "contamination"
HEADER = "index.json"
N = 13
MEMORY_BYTES = 1 << 28
_HASH = np.dtype("<u8")
# The buffer, its sorted copy and the mask of what is new.
_BYTES_A_RUN = 24
_ITEM_CHARS = 1 << 20  # of items looked up at once

Verdict: TypeAlias = Literal["clean", "contaminated", "too short"]


class IndexFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of sorted hashes."""

    name: str
    n_runs: int
    sha256: str


class IndexHeader(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `index.json` holds.

    Attributes:
        n: words of a run.
        split_sha256: the shards' training split that it was made from.
    """

    n: int
    split_sha256: str
    files: list[IndexFile]
    schema: Literal["isoflop/contamination-index@2"] = "isoflop/contamination-index@2"


class Item(Struct, frozen=True, kw_only=True):
    """One evaluation item.

    Attributes:
        n_words: words it has.
        n_runs, n_found: its runs, and those of them that an index holds.
        covered: share of its words that lie under a run found.
        longest: words of the longest stretch found without a gap.
        passage: that stretch, as the item spells it.
        verdict: "too short" has no run at all and cannot be judged; it is not called clean.
    """

    id: str
    n_words: int
    n_runs: int
    n_found: int
    covered: float
    longest: int
    passage: str
    verdict: Verdict


class IndexWriter:
    """Takes texts in any order and amount; sorts and writes as many runs as fit into `memory_bytes` at a time.

    Nothing counts before `close`, which writes the header: a folder without one is unfinished.

    Raises:
        UsageError: a run shorter than 2.
        ResourceError: no room, or no permission to write.
    """

    def __init__(self, folder: Path, *, n: int = N, memory_bytes: int = MEMORY_BYTES) -> None:
        check_length(n)
        self.folder, self.n = folder, n
        self._room = max(memory_bytes // _BYTES_A_RUN, 1)
        self._waiting: list[Hashes] = []
        self._n_waiting = 0
        self._files: list[IndexFile] = []
        clear(folder)
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, texts: Iterable[str]) -> None:
        """Add the runs of words of each text."""
        for batch in batches(texts, len):
            found = words(batch)
            self._add(runs(found.hashes, found.ends, n=self.n)[0])

    def close(self, *, split_sha256: str) -> None:
        """Write what waits and the header."""
        self._flush()
        write_json(self.folder / HEADER, IndexHeader(n=self.n, split_sha256=split_sha256, files=self._files))

    def _add(self, hashes: Hashes) -> None:
        for start in range(0, len(hashes), self._room):
            part = hashes[start : start + self._room]
            if self._n_waiting + len(part) > self._room:
                self._flush()
            self._waiting.append(part)
            self._n_waiting += len(part)

    def _flush(self) -> None:
        if not self._n_waiting:
            return
        found = np.concatenate(self._waiting)
        found.sort()  # np.unique counts by hashing first, six times as slow
        found = found[np.append(True, found[1:] != found[:-1])].astype(_HASH, copy=False)
        file = self.folder / f"runs-{len(self._files):05}.bin"
        with disk(file):
            found.tofile(file)
        self._files.append(IndexFile(name=file.name, n_runs=len(found), sha256=sha256_file(file)))
        self._waiting, self._n_waiting = [], 0


class Index:
    """A finished index, mapped from disk.

    Raises:
        InputError: no header, or a file has another size than it says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = read_json(folder / HEADER, IndexHeader)
        self._arrays: list[Hashes] = []
        for file in self.header.files:
            path = folder / file.name
            size = path.stat().st_size if path.is_file() else 0
            if size != file.n_runs * _HASH.itemsize:
                raise InputError(f"{path}: {size} bytes where {file.n_runs * _HASH.itemsize} are due; index again")
            self._arrays.append(np.memmap(path, _HASH, mode="r"))

    @property
    def n_runs(self) -> int:
        """Runs it holds; one that stands in two of its files counts twice."""
        return sum(file.n_runs for file in self.header.files)

    def verify(self) -> None:
        """Read every file against its checksum.

        Raises:
            InputError: names the first that differs.
        """
        for file in self.header.files:
            if sha256_file(self.folder / file.name) != file.sha256:
                raise InputError(f"{self.folder / file.name}: not the bytes that were written; index again")

    def holds(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the hashes are in the index."""
        asked, back = np.unique(hashes, return_inverse=True)
        found = np.zeros(len(asked), bool)
        for array in self._arrays:
            place = np.minimum(np.searchsorted(array, asked), len(array) - 1)
            found |= array[place] == asked
        each: npt.NDArray[np.bool_] = found[back]
        return each


def check_length(n: int) -> None:
    """Whether runs may be so long.

    Raises:
        UsageError: they may not.
    """
    if n < 2:
        raise UsageError(f"runs of {n} words: at least 2, for example {N}")


def clear(folder: Path) -> None:
    """Take an index away, the header first; other files stay."""
    with disk(folder):
        (folder / HEADER).unlink(missing_ok=True)
        for old in folder.glob("runs-*.bin"):
            old.unlink()


def index_of(shards: Shards) -> Index | None:
    """The index that lies in a folder of shards; None where none was finished.

    Raises:
        InputError: it is damaged, or that of other shards.
    """
    folder = shards.folder / FOLDER
    if not (folder / HEADER).exists():
        return None
    index = Index(folder)
    if index.header.split_sha256 != shards.header.splits["train"].sha256:
        raise InputError(f"{folder}: not an index of these shards; index again")
    return index


def index_shards(shards: Shards, *, n: int = N, memory_bytes: int = MEMORY_BYTES) -> Index:
    """Index the training split of shards that are there, from the text that their tokens spell.

    Raises:
        UsageError: a run shorter than 2.
        InputError: the tokens are not their tokenizer's.
        ResourceError: the disk is full or not writable, or another process is indexing.
    """
    folder = shards.folder / FOLDER
    with held(folder):
        writer = IndexWriter(folder, n=n, memory_bytes=memory_bytes)
        writer.add(shards.texts("train"))
        writer.close(split_sha256=shards.header.splits["train"].sha256)
    return Index(folder)


def ensure_index(shards: Shards, *, n: int | None = None, on_begin: Callable[[], None] = lambda: None) -> Index:
    """The index in a folder of shards, made where there is none, none that can be used, or one of other runs than `n`.

    Args:
        on_begin: called where it is to be made; it takes as long as reading all text does.

    Raises:
        what `index_shards` does.
    """
    with suppress(InputError):
        index = index_of(shards)
        if index is not None and n in {None, index.header.n}:
            return index
    on_begin()
    return index_shards(shards, n=n or N)


def check(items: Iterable[Document], indices: Sequence[Index], *, threshold: float = 0.0) -> Iterator[Item]:
    """Look every run of every item up; one that any of the indices holds is found.

    Args:
        indices: of the shards that a model is trained on, all of runs of one length.
        threshold: an item is contaminated when more than this share of it is covered; 0 calls one run enough.

    Raises:
        UsageError: a threshold out of [0, 1), no index, or indices of different runs.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold {threshold}: must be at least 0 and below 1, for example 0.5")
    lengths = sorted({index.header.n for index in indices})
    if len(lengths) != 1:
        told = ", ".join(map(str, lengths)) or "none"
        raise UsageError(f"indices of runs of {told} words: give one or more, all of runs of one length")
    return _checked(items, indices, n=lengths[0], threshold=threshold)


def _checked(items: Iterable[Document], indices: Sequence[Index], *, n: int, threshold: float) -> Iterator[Item]:
    for batch in batches(items, lambda item: len(item.text), most=_ITEM_CHARS):
        cut = words([item.text for item in batch])
        hashes, run_ends = runs(cut.hashes, cut.ends, n=n)
        found = np.zeros(len(hashes), bool)
        for index in indices:
            found |= index.holds(hashes)
        for number, item in enumerate(batch):
            first, last = _span(run_ends, number)
            yield _item(item, cut, number, found[first:last], n=n, threshold=threshold)


def _span(ends: Places, number: int) -> tuple[int, int]:
    """Where the part of this number begins and ends."""
    return int(ends[number - 1]) if number else 0, int(ends[number])


def _item(item: Document, cut: Words, number: int, found: npt.NDArray[np.bool_], *, n: int, threshold: float) -> Item:
    first, last = _span(cut.ends, number)
    steps = np.zeros(last - first + 1, np.int64)
    np.add.at(steps, np.flatnonzero(found), 1)
    np.add.at(steps, np.flatnonzero(found) + n, -1)
    under = steps[:-1].cumsum() > 0
    covered = float(under.mean()) if len(under) else 0.0
    edges = np.flatnonzero(np.diff(found, prepend=False, append=False)).reshape(-1, 2)
    longest, passage = 0, ""
    if len(edges):
        begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])].tolist()
        longest = end - begin + n - 1
        passage = item.text[cut.starts[first + begin] : cut.stops[first + begin + longest - 1]]
    return Item(
        id=item.id, n_words=last - first, n_runs=len(found), n_found=int(found.sum()), covered=covered,
        longest=longest, passage=passage,
        verdict="too short" if not len(found) else "contaminated" if covered > threshold else "clean",
    )  # fmt: skip
