"""Text as 64-bit hashes of its words and of runs of n words: what deduplication, quality and contamination count.

A word is a run of letters, digits and combining marks, folded to lower case; everything else separates. Scripts that
write without spaces (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan) give one word a character. The hash of a word is a
polynomial over its characters modulo 2**64, read off one running sum over the text, so that numpy does the work and
not a loop over words; a finaliser then spreads it over all bits.

A hash depends on the word alone: not on the batch it was computed in, nor on the machine.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from isoflop.data.draw import mixed

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
T = TypeVar("T")

# Arrays of 2 MB stay in the cache of one core. A word longer than a piece is cut there.
PIECE_CHARS = 1 << 18
BATCH_CHARS = 1 << 21  # of texts hashed at once: some 100 MB of arrays
_POINTS = 0x110000
_NAMED_POINTS = 0x20000  # Above lie Han ideographs, then nothing that a text is made of.
_HAN_END = 0x40000
_UNSPACED = (
    (0x0E00, 0x0F00), (0x0F00, 0x10A0), (0x1780, 0x1800), (0x2E80, 0x3000), (0x3005, 0x3008), (0x3040, 0x3100),
    (0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1B000, 0x1B170),
)  # fmt: skip
_SEPARATOR, _LETTER, _ALONE = np.uint8(0), np.uint8(1), np.uint8(2)
# An odd base has an inverse modulo 2**64, which brings every word to the same power of it.
_BASE = 0x9E3779B97F4A7C15
_WORD_KEY = np.uint64(0xD1B54A32D192ED03)
_RUN_KEY = np.uint64(0x8CB92BA72F3D8DD7)
_RUN_BASE = np.uint64(0xDA942042E4DD58B5)


@dataclass(frozen=True)
class Words:
    """The words of several texts, one after the other.

    Attributes:
        hashes: (words,) hash of each.
        ends: (texts,) where each text's words end in `hashes`.
        starts, stops: (words,) the characters of each word, counted from the beginning of its own text.
    """

    hashes: Hashes
    ends: Places
    starts: Places
    stops: Places


def words(texts: Sequence[str]) -> Words:
    """Hash every word of every text."""
    found = [_hashed(batch) for batch in _grouped(texts)]
    ends = np.zeros(len(texts), np.int64)
    for piece in found:
        np.add.at(ends, piece[3], 1)
    hashes, starts, stops = (
        np.concatenate([piece[part] for piece in found]) if found else np.empty(0, kind)
        for part, kind in enumerate((np.uint64, np.int64, np.int64))
    )
    return Words(hashes, ends.cumsum(), starts, stops)


def runs(hashes: Hashes, ends: Places, *, n: int) -> tuple[Hashes, Places]:
    """Hash of every run of `n` words that lies within one text: run i begins at word i of its text.

    A text of fewer than `n` words gives none.

    Returns:
        (runs,) hashes, and (texts,) where each text's runs end.
    """
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
    counts = np.maximum(ends - starts - (n - 1), 0)
    total = max(len(hashes) - n + 1, 0)
    rolled = np.zeros(total, np.uint64)
    for step in range(n):
        rolled *= _RUN_BASE
        rolled += hashes[step : step + total]
    # Runs that begin less than n words before the end of their text reach into the next one.
    within = np.ones(len(hashes), bool)
    for back in range(1, n):
        cut = ends[ends - back >= starts] - back
        within[cut] = False
    run_ends: Places = counts.cumsum()
    return mixed(rolled[within[:total]], _RUN_KEY + np.uint64(n)), run_ends


def batches(items: Iterable[T], size: Callable[[T], int], *, most: int = BATCH_CHARS) -> Iterator[list[T]]:
    """Groups of items that end as soon as their sizes reach `most`: what is hashed at once."""
    batch: list[T] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= most:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _grouped(texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
    """Pieces (text number, first character, characters) in groups of about PIECE_CHARS.

    Where a long text is cut depends on that text alone, so its hashes do not hang on its neighbours.
    """
    group: list[tuple[int, int, str]] = []
    size = 0
    for number, text in enumerate(texts):
        for first, piece in _pieces(text):
            if size + len(piece) > PIECE_CHARS and group:
                yield group
                group, size = [], 0
            group.append((number, first, piece))
            size += len(piece) + 1
    if group:
        yield group


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text longer than a piece behind the last separator that fits, else hard."""
    first = 0
    while len(text) - first > PIECE_CHARS:
        piece = text[first : first + PIECE_CHARS]
        kinds = _tables()[0][_points(piece)]
        outside = np.flatnonzero(kinds != _LETTER)
        cut = int(outside[-1]) + 1 if len(outside) else PIECE_CHARS
        yield first, piece[:cut]
        first += cut
    yield first, text[first:]


def _hashed(group: list[tuple[int, int, str]]) -> tuple[Hashes, Places, Places, Places]:
    """Hash, first and last character and text number of each word of a group of pieces."""
    kind_of, value_of = _tables()
    power, inverse = _powers()
    points = _points("\n".join(piece for _, _, piece in group))
    kinds = kind_of[points]
    inside = kinds != _SEPARATOR
    joined = np.zeros(len(points), bool)  # Does the word go on from the character before?
    np.equal(kinds[1:] & kinds[:-1], _LETTER, out=joined[1:])
    starts = np.flatnonzero(inside & ~joined)
    stops = np.flatnonzero(inside & ~np.append(joined[1:], False)) + 1
    sums = np.zeros(len(points) + 1, np.uint64)
    np.cumsum(value_of[points] * power[: len(points)], out=sums[1:])
    hashes = mixed((sums[stops] - sums[starts]) * inverse[starts], _WORD_KEY)
    # The base of each piece in the joined characters, less where it begins in its own text.
    bases = np.cumsum([0, *(len(piece) + 1 for _, _, piece in group[:-1])])
    owner = np.searchsorted(bases, starts, side="right") - 1
    shift = (np.array([first for _, first, _ in group]) - bases)[owner]
    numbers = np.array([number for number, _, _ in group])[owner]
    return hashes, starts + shift, stops + shift, numbers


def _points(text: str) -> npt.NDArray[np.uint32]:
    """Code points; a lone surrogate, which a broken JSON escape can leave, is one as well."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], Hashes]:
    """Kind and value of every code point. Upper and lower case share a value; a separator's is 0."""
    kinds = np.zeros(_POINTS, np.uint8)
    folded = np.arange(_POINTS, dtype=np.uint64)
    for point in range(_NAMED_POINTS):
        letter = chr(point)
        if letter.isalnum() or unicodedata.category(letter)[0] == "M":
            kinds[point] = _LETTER
            lower = letter.lower()
            folded[point] = ord(lower) if len(lower) == 1 else point
    for first, end in (*_UNSPACED, (_NAMED_POINTS, _HAN_END)):
        inside = kinds[first:end]
        inside[(inside == _LETTER) | (first == _NAMED_POINTS)] = _ALONE
    values = mixed(folded, np.uint64(_BASE)) | np.uint64(1)
    values[kinds == _SEPARATOR] = 0
    return kinds, values


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2**64, for every place in a group of pieces."""
    length = 2 * PIECE_CHARS + 2
    factors = np.full(length, _BASE, np.uint64)
    factors[0] = 1
    inverses = np.full(length, pow(_BASE, -1, 1 << 64), np.uint64)
    inverses[0] = 1
    return np.cumprod(factors), np.cumprod(inverses)
