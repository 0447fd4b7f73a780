"""Near duplicates: MinHash over runs of words, banded so that documents alike share a band's key.

With signatures of b bands of r rows, two documents of Jaccard similarity s share at least one band with probability
1 - (1 - s**r)**b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2). With 14 bands of 8 rows and runs of
5 words (FineWeb's: arXiv:2406.17557) that is .56 at s = .7, .92 at .8 and .9996 at .9.

Signatures come from rensa; what is stored of one is its bands' keys, 112 bytes a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from isoflop.data.draw import mixed
from isoflop.data.shingles import Hashes, Places, Words, runs, words
from isoflop.errors import UsageError

BANDS, ROWS, RUN_WORDS = 14, 8, 5
_BAND_KEY = np.uint64(0xA0761D6478BD642F)


def recall(jaccard: npt.ArrayLike, *, bands: int = BANDS, rows: int = ROWS) -> npt.NDArray[np.float64]:
    """Chance that two documents of this similarity become neighbours: 1 - (1 - s**rows)**bands."""
    s = np.asarray(jaccard, np.float64)
    found: npt.NDArray[np.float64] = -np.expm1(bands * np.log1p(-(np.minimum(s, 1 - 1e-16) ** rows)))
    return found


@dataclass(frozen=True, kw_only=True)
class MinHash:
    """One unit a document, a column a band. A document without a word has no unit: it is like none.

    Attributes:
        bands, rows: of the signature; their product is its length.
        run_words: words of a run; a shorter document is one run of all its words.
        seed: of rensa's permutations.

    Raises:
        UsageError: a number below 1.
        ModuleNotFoundError: rensa is not installed (the extra `web`).
    """

    bands: int = BANDS
    rows: int = ROWS
    run_words: int = RUN_WORDS
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.bands, self.rows, self.run_words) < 1:
            raise UsageError(
                f"MinHash of {self.bands} bands x {self.rows} rows over runs of {self.run_words} words: "
                "each must be at least 1, for example 14 x 8 over 5"
            )
        _rensa()

    @property
    def kind(self) -> str:
        """Settings, and the version of rensa's algorithm: signatures of two versions cannot be compared."""
        version = _rensa().ALGORITHM_VERSION
        return f"minhash {self.bands}x{self.rows} runs {self.run_words} seed {self.seed} rensa-algorithm {version}"

    @property
    def columns(self) -> int:
        """One a band."""
        return self.bands

    def keys(self, texts: Sequence[str]) -> tuple[Hashes, Places]:
        """(documents with a word, bands) keys, and where each text's one unit ends."""
        hashes, ends = shingles(words(texts), n=self.run_words)
        counts = np.diff(ends, prepend=0)
        signed = self.signatures(hashes, ends)[counts > 0]
        return self.band_keys(signed), (counts > 0).cumsum()

    def signatures(self, hashes: Hashes, ends: Places) -> npt.NDArray[np.uint32]:
        """(sets, bands * rows) signature of each set of hashes; set i ends at `ends[i]`."""
        offsets = np.concatenate([[0], ends]).astype(np.uint64)
        length = self.bands * self.rows
        if len(ends) == 0:
            return np.empty((0, length), np.uint32)
        found = _rensa().digest_matrix_from_flat_token_hashes(hashes, offsets, length, self.seed)
        return np.array(found.to_rows(), np.uint32).reshape(len(ends), length)

    def band_keys(self, signatures: npt.NDArray[np.uint32]) -> Hashes:
        """(sets, bands) hash of the rows of each band."""
        banded = signatures.reshape(-1, self.bands, self.rows).astype(np.uint64)
        found = np.zeros(banded.shape[:2], np.uint64)
        for row in range(self.rows):
            found = mixed(found ^ banded[:, :, row], _BAND_KEY)
        return found


def shingles(found: Words, *, n: int) -> tuple[Hashes, Places]:
    """Runs of `n` words of each text; of a text with fewer words, the one run of all of them."""
    hashes, ends = runs(found.hashes, found.ends, n=n)
    counts, lengths = np.diff(ends, prepend=0), np.diff(found.ends, prepend=0)
    short = np.flatnonzero((counts == 0) & (lengths > 0))
    if not len(short):
        return hashes, ends
    whole = np.zeros(len(short), np.uint64)
    firsts = found.ends[short] - lengths[short]
    for word in range(n - 1):
        here = lengths[short] > word
        whole[here] = mixed(whole[here] ^ found.hashes[firsts[here] + word], np.uint64(n + word))
    counts[short] = 1
    return np.insert(hashes, ends[short], whole), counts.cumsum()


def _rensa() -> Any:
    from rensa import RMinHash

    return RMinHash
