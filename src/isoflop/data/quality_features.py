"""What the classifier sees of a text: hashed words and pairs of words, passage by passage.

A text is cut into passages of PASSAGE_WORDS words, so that a novel and a page are judged on the same scale. A passage
is a sparse vector over 2**BITS buckets: 1 + log(count) for each word or pair in it, scaled to length 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isoflop.data.shingles import Hashes, Places, runs, words

BITS = 18
PASSAGE_WORDS = 200
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sparse:
    """Passages as rows of a sparse matrix.

    Attributes:
        rows, buckets, values: (entries,) row, column and value of each entry, by rows.
        n_rows: passages, those without a word included.
    """

    rows: Places
    buckets: Places
    values: Array
    n_rows: int

    def scores(self, weights: npt.NDArray[np.floating]) -> Array:
        """(rows, labels) product with (labels, buckets) weights, summed entry by entry: the same in any batch."""
        each = (np.bincount(self.rows, self.values * row[self.buckets], self.n_rows) for row in weights)
        return np.stack(list(each), axis=1)

    def back(self, errors: Array, *, n_buckets: int) -> Array:
        """(labels, buckets) product of the transposed (rows, labels) errors with the matrix."""
        each = (np.bincount(self.buckets, self.values * column[self.rows], n_buckets) for column in errors.T)
        return np.stack(list(each))


def stacked(parts: Sequence[Sparse]) -> Sparse:
    """The rows of several, one after the other."""
    first = np.cumsum([0, *(part.n_rows for part in parts)])
    return Sparse(
        np.concatenate([part.rows + start for part, start in zip(parts, first, strict=False)]),
        np.concatenate([part.buckets for part in parts]),
        np.concatenate([part.values for part in parts]),
        int(first[-1]),
    )


def passages(texts: Sequence[str], *, bits: int = BITS, most: int | None = None) -> tuple[Sparse, Places]:
    """Features of each passage of each text.

    Args:
        bits: log2 of the number of buckets.
        most: passages taken of one text, spread evenly over it; all where None.

    Returns:
        The passages, and (passages,) number of the text each belongs to. A text without words has one, empty.
    """
    found = words(texts)
    lengths = np.diff(found.ends, prepend=0)
    # A last piece shorter than a passage is spread over the others, so that no verdict hangs on ten words.
    counts = np.maximum(lengths // PASSAGE_WORDS, 1)
    first = counts.cumsum() - counts
    text_of_word = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(found.hashes)) - (found.ends - lengths)[text_of_word]
    within = place * counts[text_of_word] // np.maximum(lengths[text_of_word], 1)
    row_of_word = first[text_of_word] + within
    owner = np.repeat(np.arange(len(texts)), counts)
    chosen = _spread(owner, first, counts, most)
    return _sparse(found.hashes, found.ends, row_of_word, chosen, bits), owner[chosen]


def _spread(owner: Places, first: Places, counts: Places, most: int | None) -> Places:
    """Rows that are taken: all, or `most` of each text at even distances."""
    if most is None:
        return np.arange(len(owner))
    place = np.arange(len(owner)) - first[owner]
    taken = np.minimum(most, counts)[owner]
    # Row p of c is taken where p * taken / c passes a whole number.
    now, before = place * taken // counts[owner], (place - 1) * taken // counts[owner]
    found: Places = np.flatnonzero(now > before)
    return found


def _sparse(hashes: Hashes, ends: Places, row_of_word: Places, chosen: Places, bits: int) -> Sparse:
    """Count the words and pairs of each chosen passage; a pair belongs to the passage of its first word."""
    number = np.full(int(row_of_word[-1]) + 1 if len(row_of_word) else 0, -1)
    inside = chosen[chosen < len(number)]
    number[inside] = np.arange(len(inside))
    pairs, pair_ends = runs(hashes, ends, n=2)
    counts, words_of = np.diff(pair_ends, prepend=0), np.diff(ends, prepend=0)
    shift = np.repeat((ends - words_of) - (pair_ends - counts), counts)
    pair_rows = row_of_word[np.arange(len(pairs)) + shift]
    rows = number[np.concatenate([row_of_word, pair_rows])]
    buckets = (np.concatenate([hashes, pairs]) >> np.uint64(64 - bits)).astype(np.int64)
    kept = rows >= 0
    entries, n_times = np.unique((rows[kept] << bits) | buckets[kept], return_counts=True)
    entry_rows = entries >> bits
    values = 1 + np.log(n_times)
    norms = np.sqrt(np.bincount(entry_rows, values**2, len(chosen)))
    return Sparse(entry_rows, entries & ((1 << bits) - 1), values / norms[entry_rows], len(chosen))
