"""Was this evaluation item in the training text? Runs of 13 words, or tokens, looked up in an index of ours.

    index.json         what was indexed: kind, n, tokenizer, files; written last
    runs-00000.bin     sorted hashes, 8 bytes a run, without doubles; several files, each made within the memory given

Words are compared without case and punctuation (`shingles`); tokens as they are, which misses an item whose spelling
or surroundings changed. 13 is the length of Brown et al. 2020 (arXiv:2005.14165, appendix C). Two runs that differ
share a hash with probability 2**-64: of a million looked up in 10**10, one is found wrongly once in 1,800 times.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.draw import mixed
from isoflop.data.read import Document
from isoflop.data.shards import Shards
from isoflop.data.shingles import Hashes, Places, batches, runs, words
from isoflop.data.split import Split
from isoflop.errors import InputError, UsageError
from isoflop.files import disk, read_json, sha256_file, write_json

HEADER = "index.json"
N = 13
MEMORY_BYTES = 1 << 28
_HASH = np.dtype("<u8")
# The buffer, its sorted copy and the mask of what is new.
_BYTES_A_RUN = 24
_TOKEN_KEY = np.uint64(0x2545F4914F6CDD1D)
_CHUNK_TOKENS = 1 << 22

Kind: TypeAlias = Literal["words", "tokens"]
Verdict: TypeAlias = Literal["clean", "contaminated", "too short"]


class IndexFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of sorted hashes."""

    name: str
    n_runs: int
    sha256: str


class IndexHeader(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `index.json` holds.

    Attributes:
        n: words or tokens of a run.
        tokenizer_sha256: whose tokens they are; None for words.
        source: what was indexed, for people.
    """

    kind: Kind
    n: int
    tokenizer_sha256: str | None
    source: str
    files: list[IndexFile]
    schema: str = "isoflop/contamination-index@1"


class Item(Struct, frozen=True, kw_only=True):
    """One evaluation item.

    Attributes:
        n_units: words or tokens it has.
        n_runs, n_found: its runs, and those of them that the index holds.
        covered: share of its words or tokens that lie under a run found.
        longest: words or tokens of the longest stretch found without a gap.
        verdict: "too short" has no run at all and cannot be judged; it is not called clean.
    """

    id: str
    n_units: int
    n_runs: int
    n_found: int
    covered: float
    longest: int
    verdict: Verdict


class IndexWriter:
    """Takes hashes of runs in any order and amount; sorts and writes as many as fit into `memory_bytes` at a time.

    As a context, it writes the header when the block ends without an error; a folder without a header is unfinished.

    Raises:
        UsageError: a run shorter than 2, or tokens without the hash of their tokenizer.
        ResourceError: no room, or no permission to write.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: Kind,
        n: int = N,
        source: str,
        tokenizer_sha256: str | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if n < 2:
            raise UsageError(f"runs of {n} {kind}: at least 2, for example {N}")
        if (kind == "tokens") != (tokenizer_sha256 is not None):
            raise UsageError(f"an index of {kind} {'needs' if kind == 'tokens' else 'has no'} hash of a tokenizer")
        self.folder, self.kind, self.n, self.source = folder, kind, n, source
        self.tokenizer_sha256 = tokenizer_sha256
        self._room = max(memory_bytes // _BYTES_A_RUN, 1)
        self._waiting: list[Hashes] = []
        self._n_waiting = 0
        self._files: list[IndexFile] = []
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / HEADER).unlink(missing_ok=True)
            for old in folder.glob("runs-*.bin"):
                old.unlink()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._flush()
            header = IndexHeader(
                kind=self.kind, n=self.n, tokenizer_sha256=self.tokenizer_sha256, source=self.source, files=self._files
            )
            write_json(self.folder / HEADER, header)

    def add_texts(self, texts: list[str]) -> None:
        """Add the runs of words of each text."""
        found = words(texts)
        self._add(runs(found.hashes, found.ends, n=self.n)[0])

    def add_tokens(self, tokens: npt.NDArray[np.unsignedinteger], ends: Places) -> None:
        """Add the runs of tokens that lie within one document; document i ends at `ends[i]`."""
        # Runs that begin in the last n - 1 tokens of a chunk are those of the next one.
        for start in range(0, max(len(tokens) - self.n + 1, 0), _CHUNK_TOKENS):
            stop = min(start + _CHUNK_TOKENS + self.n - 1, len(tokens))
            low, high = np.searchsorted(ends, start, side="right"), np.searchsorted(ends, stop)
            inside = np.append(ends[low:high], stop)
            self._add(token_runs(tokens[start:stop], inside - start, n=self.n))

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
        found = np.unique(np.concatenate(self._waiting)).astype(_HASH)
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


def index_text(
    folder: Path, documents: Iterable[Document], *, n: int = N, source: str, memory_bytes: int = MEMORY_BYTES
) -> Index:
    """Index the runs of words of a text, in one pass."""
    with IndexWriter(folder, kind="words", n=n, source=source, memory_bytes=memory_bytes) as writer:
        for batch in batches((document.text for document in documents), len):
            writer.add_texts(batch)
    return Index(folder)


def index_shards(
    folder: Path, shards: Shards, *, split: Split = "train", n: int = N, memory_bytes: int = MEMORY_BYTES
) -> Index:
    """Index the runs of tokens of shards, a file at a time."""
    header, tokens, ends = shards.header, shards.tokens(split), shards.ends(split)
    with IndexWriter(
        folder,
        kind="tokens",
        n=n,
        source=str(shards.folder),
        tokenizer_sha256=header.tokenizer_sha256,
        memory_bytes=memory_bytes,
    ) as writer:
        # A file holds whole documents, so none is cut.
        for array, first in zip(tokens.arrays, tokens.offsets, strict=False):
            low, high = np.searchsorted(ends, [first, first + len(array)], side="right")
            writer.add_tokens(array, ends[low:high] - first)
    return Index(folder)


def token_runs(tokens: npt.NDArray[np.unsignedinteger], ends: Places, *, n: int) -> Hashes:
    """Hash of every run of `n` tokens within a document."""
    return runs(mixed(tokens.astype(np.uint64), _TOKEN_KEY), ends, n=n)[0]


def check(
    items: Iterable[Document],
    index: Index,
    *,
    encode: Callable[[str], npt.NDArray[np.unsignedinteger]] | None = None,
    threshold: float = 0.0,
) -> Iterator[Item]:
    """Look every run of every item up.

    Args:
        encode: text to tokens, with the tokenizer of the index; for an index of tokens only.
        threshold: an item is contaminated when more than this share of it is covered; 0 calls one run enough.

    Raises:
        UsageError: a threshold out of [0, 1), or tokens without an encoder, or words with one.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold {threshold}: must be at least 0 and below 1, for example 0.5")
    if (index.header.kind == "tokens") != (encode is not None):
        raise UsageError(
            f"{index.folder} is an index of {index.header.kind}; give an encoder for tokens, none for words"
        )
    return (_item(item, index, encode, threshold) for item in items)


def _item(
    item: Document, index: Index, encode: Callable[[str], npt.NDArray[np.unsignedinteger]] | None, threshold: float
) -> Item:
    n = index.header.n
    units = words([item.text]).hashes if encode is None else mixed(encode(item.text).astype(np.uint64), _TOKEN_KEY)
    found = index.holds(runs(units, np.array([len(units)]), n=n)[0])
    steps = np.zeros(len(units) + 1, np.int64)
    np.add.at(steps, np.flatnonzero(found), 1)
    np.add.at(steps, np.flatnonzero(found) + n, -1)
    under = steps[:-1].cumsum() > 0
    edges = np.flatnonzero(np.diff(found, prepend=False, append=False)).reshape(-1, 2)
    covered = float(under.mean()) if len(units) else 0.0
    return Item(
        id=item.id, n_units=len(units), n_runs=len(found), n_found=int(found.sum()), covered=covered,
        longest=int((edges[:, 1] - edges[:, 0]).max()) + n - 1 if len(edges) else 0,
        verdict="too short" if not len(found) else "contaminated" if covered > threshold else "clean",
    )  # fmt: skip
