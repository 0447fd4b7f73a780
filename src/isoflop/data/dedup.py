"""Exact repeats: whole documents, paragraphs, lines, and windows of words, each a way to cut text into hashed units.

Write a table a shard (`dedup_tables.write_table`), find the repeats (`dedup_clusters`), and take them out of each text
with `without`. A document, or a unit, stays where it comes first; later ones go.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from isoflop.data.dedup_clusters import FIRST, REPEAT
from isoflop.data.shingles import Hashes, Places, runs, words
from isoflop.errors import UsageError

_BREAKS = {"line": re.compile(r"\n"), "paragraph": re.compile(r"\n\s*\n")}


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The whole text as one unit. An empty one is a unit too: one empty document is enough.

    Attributes:
        loose: compare without case, and with white space of any kind and length as one space.
    """

    loose: bool = False
    columns = 1

    @property
    def kind(self) -> str:
        """How they are compared."""
        return "document without case and white space" if self.loose else "document"

    def keys(self, texts: Sequence[str]) -> tuple[Hashes, Places]:
        """(texts, 1) digests."""
        compared = (" ".join(text.casefold().split()) for text in texts) if self.loose else texts
        return _digests(compared), np.arange(1, len(texts) + 1)


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Lines, or paragraphs between blank lines, compared without the white space around them.

    Attributes:
        unit: which.
        min_chars: shorter ones are never repeats: a brace, a heading, "Yes." may stand in any number of texts.
    """

    unit: Literal["line", "paragraph"]
    min_chars: int = 20

    def __post_init__(self) -> None:
        if self.min_chars < 1:
            raise UsageError(f"{self.unit}s of at least {self.min_chars} characters: at least 1, for example 20")

    @property
    def kind(self) -> str:
        """Unit and threshold."""
        return f"{self.unit} of {self.min_chars} characters or more"

    @property
    def columns(self) -> int:
        """One digest."""
        return 1

    def keys(self, texts: Sequence[str]) -> tuple[Hashes, Places]:
        """(units, 1) digests of what is long enough."""
        units = [[text[a:b].strip() for a, b in self.spans(text)] for text in texts]
        counts = np.array([len(found) for found in units], np.int64)
        return _digests(unit for found in units for unit in found), counts.cumsum()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """First and last character of each unit long enough, line end or blank lines behind it included."""
        breaks = [0, *(match.end() for match in _BREAKS[self.unit].finditer(text)), len(text)]
        found = pairwise(breaks)
        return [(a, b) for a, b in found if b - a >= self.min_chars and len(text[a:b].strip()) >= self.min_chars]

    def without(self, text: str, marks: npt.NDArray[np.uint8]) -> str:
        """The text with its repeats taken out; `marks` are those of its units."""
        spans = self.spans(text)
        _check(len(spans), marks)
        return _cut(text, [span for span, mark in zip(spans, marks, strict=True) if mark == REPEAT])


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Every run of `n` words, so that a passage is found wherever it stands in a document (Lee et al. 2021,
    arXiv:2107.06499, who take 50 tokens). Case and punctuation do not count.

    A table holds 8 bytes a word: somewhat more than the text.
    """

    n: int = 50

    def __post_init__(self) -> None:
        if self.n < 2:
            raise UsageError(f"windows of {self.n} words: at least 2, for example 50")

    @property
    def kind(self) -> str:
        """Length."""
        return f"window of {self.n} words"

    @property
    def columns(self) -> int:
        """One hash."""
        return 1

    def keys(self, texts: Sequence[str]) -> tuple[Hashes, Places]:
        """(windows, 1) hashes."""
        found = words(texts)
        hashes, ends = runs(found.hashes, found.ends, n=self.n)
        return hashes[:, None], ends

    def without(self, text: str, marks: npt.NDArray[np.uint8]) -> str:
        """The text without the words that only repeated windows cover.

        Words under a first window stay: where a passage repeats and overlaps itself, one copy of it is left.
        """
        found = words([text])
        _check(max(len(found.hashes) - self.n + 1, 0), marks)
        gone = self._covered(marks == REPEAT, len(found.hashes)) & ~self._covered(marks == FIRST, len(found.hashes))
        edges = np.flatnonzero(np.diff(gone, prepend=False, append=False)).reshape(-1, 2)
        return _cut(text, [(int(found.starts[a]), int(found.stops[b - 1])) for a, b in edges])

    def _covered(self, windows: npt.NDArray[np.bool_], n_words: int) -> npt.NDArray[np.bool_]:
        """Which words lie under a window."""
        steps = np.zeros(n_words + 1, np.int64)
        places = np.flatnonzero(windows)
        steps[places] += 1
        steps[places + self.n] -= 1
        covered: npt.NDArray[np.bool_] = steps[:-1].cumsum() > 0
        return covered


def _digests(units: Iterable[str]) -> Hashes:
    """(units, 1) first 64 bits of blake2b of each."""
    joined = b"".join(hashlib.blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8).digest() for unit in units)
    return np.frombuffer(joined, "<u8")[:, None]


def _check(n_units: int, marks: npt.NDArray[np.uint8]) -> None:
    if n_units != len(marks):
        raise UsageError(f"a text of {n_units} units was given {len(marks)} marks; was the text changed meanwhile?")


def _cut(text: str, spans: Iterable[tuple[int, int]]) -> str:
    kept, at = [], 0
    for first, last in spans:
        kept.append(text[at:first])
        at = last
    return "".join([*kept, text[at:]])
