"""What tokenizers make of a text: bytes a token by domain, fertility by script, tokens used, long tokens, numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.domains import Domain
from isoflop.data.encoders import Encoder, Ids
from isoflop.data.spelling import shown

LONGEST = 20
NUMBERS = ("7", "42", "365", "2024", "31337", "1000000", "3.14159", "12:30", "1,234.5")
SELDOM = 10
# Scripts of Unicode (UAX 24) with most readers; letters of all others are counted as one.
SCRIPTS = (
    "Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Devanagari", "Bengali", "Gurmukhi", "Gujarati",
    "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Myanmar", "Khmer", "Georgian", "Ethiopic",
    "Hangul", "Hiragana", "Katakana", "Han",
)  # fmt: skip
# Written without blanks between words: a run of letters is no word there.
UNSPACED = frozenset({"Thai", "Lao", "Myanmar", "Khmer", "Hiragana", "Katakana", "Han"})
OTHER = "other"


class InDomain(Struct, frozen=True, kw_only=True):
    """One tokenizer on one domain's sample."""

    domain: str
    n_bytes: int
    n_tokens: int
    n_words: int

    @property
    def bytes_per_token(self) -> float:
        """Compression."""
        return self.n_bytes / self.n_tokens

    @property
    def tokens_per_word(self) -> float | None:
        """Of what stands between blanks."""
        return self.n_tokens / self.n_words if self.n_words else None


class InScript(Struct, frozen=True, kw_only=True):
    """One tokenizer on the words of one script, each with a blank before it where the script writes blanks.

    Attributes:
        n_words, n_characters, n_tokens: occurrences in the text.
    """

    script: str
    n_words: int
    n_characters: int
    n_bytes: int
    n_tokens: int

    @property
    def tokens_per_word(self) -> float | None:
        """Fertility; None where a run of letters is no word."""
        return None if self.script in UNSPACED else self.n_tokens / self.n_words

    @property
    def tokens_per_character(self) -> float:
        """The same for scripts without words."""
        return self.n_tokens / self.n_characters


class Used(Struct, frozen=True, kw_only=True):
    """How much of the vocabulary the text uses.

    Attributes:
        never, seldom: ids that occur not once, and fewer than `SELDOM` times (never among them).
        examples: the longest tokens that never occur.
        by_rank: (rank from 1, occurrences) of the tokens that occur, thinned evenly in log rank.
    """

    vocabulary: int
    n_tokens: int
    never: int
    seldom: int
    examples: list[bytes]
    by_rank: list[tuple[int, int]]


class LongToken(Struct, frozen=True, kw_only=True):
    """One of the longest tokens and how often it occurs."""

    id: int
    token: bytes
    occurrences: int


class Digits(Struct, frozen=True, kw_only=True):
    """How numbers are cut.

    Attributes:
        numbers: number -> its pieces.
        tokens: digits -> how many tokens are so many ASCII digits and nothing else.
    """

    numbers: dict[str, list[str]]
    tokens: dict[int, int]


class Report(Struct, frozen=True, kw_only=True):
    """One tokenizer on one text; lists in the order of the domains and of the scripts' frequency."""

    name: str
    vocabulary: int
    domains: list[InDomain]
    total: InDomain
    scripts: list[InScript]
    used: Used
    longest: list[LongToken]
    digits: Digits


def report(encoder: Encoder, domains: Sequence[Domain]) -> Report:
    """Measure one tokenizer on samples of all domains."""
    rows, counts = [], np.zeros(encoder.vocabulary, dtype=np.int64)
    for domain in domains:
        found = np.concatenate(encoder.encode_batch(domain.texts))
        counts += np.bincount(found, minlength=encoder.vocabulary)[: encoder.vocabulary]
        n_words = sum(len(text.split()) for text in domain.texts)
        rows.append(InDomain(domain=domain.name, n_bytes=domain.sample_bytes, n_tokens=len(found), n_words=n_words))
    total = InDomain(
        domain="all",
        n_bytes=sum(row.n_bytes for row in rows),
        n_tokens=sum(row.n_tokens for row in rows),
        n_words=sum(row.n_words for row in rows),
    )
    tokens = {number: token for number in range(encoder.vocabulary) if (token := encoder.token(number)) is not None}
    return Report(
        name=encoder.name,
        vocabulary=encoder.vocabulary,
        domains=rows,
        total=total,
        scripts=list(_scripts(encoder, (text for domain in domains for text in domain.texts))),
        used=_used(counts, tokens),
        longest=_longest(counts, tokens),
        digits=Digits(numbers={n: _pieces(encoder, n) for n in NUMBERS}, tokens=_numbers(tokens.values())),
    )


def _scripts(encoder: Encoder, texts: Iterable[str]) -> Iterator[InScript]:
    """Most frequent script first; a word is a run of one script's letters and marks."""
    words: dict[str, Counter[str]] = {}
    for text in texts:
        for match in _words().finditer(text):
            words.setdefault(match.lastgroup or OTHER, Counter())[match[0]] += 1
    for script, counted in sorted(words.items(), key=lambda item: (-item[1].total(), item[0])):
        blank = "" if script in UNSPACED else " "
        lengths = map(len, encoder.encode_batch([blank + word for word in counted]))
        yield InScript(
            script=script,
            n_words=counted.total(),
            n_characters=sum(len(word) * count for word, count in counted.items()),
            n_bytes=sum(len(word.encode()) * count for word, count in counted.items()),
            n_tokens=sum(length * count for length, count in zip(lengths, counted.values(), strict=True)),
        )


@cache
def _words() -> Any:
    import regex  # Unicode's scripts; what tiktoken splits with

    known = "|".join(rf"(?P<{script}>(?:\p{{sc={script}}}\p{{M}}*)+)" for script in SCRIPTS)
    return regex.compile(rf"{known}|(?P<{OTHER}>(?:\p{{L}}\p{{M}}*)+)")


def _used(counts: npt.NDArray[np.int64], tokens: dict[int, bytes]) -> Used:
    ids = np.array(sorted(tokens), dtype=np.int64)
    own = counts[ids]
    never = [tokens[int(number)] for number in ids[own == 0]]
    ranked = np.sort(own[own > 0])[::-1]
    ranks = np.unique(np.geomspace(1, max(len(ranked), 1), 200).round().astype(np.int64))[: len(ranked)]
    return Used(
        vocabulary=len(counts),
        n_tokens=int(counts.sum()),
        never=len(never),
        seldom=int((own < SELDOM).sum()),
        examples=sorted(never, key=lambda token: (-len(token), token))[:LONGEST],
        by_rank=[(int(rank), int(ranked[rank - 1])) for rank in ranks],
    )


def _longest(counts: npt.NDArray[np.int64], tokens: dict[int, bytes]) -> list[LongToken]:
    first = sorted(tokens, key=lambda number: (-len(tokens[number]), number))[:LONGEST]
    return [LongToken(id=number, token=tokens[number], occurrences=int(counts[number])) for number in first]


def _pieces(encoder: Encoder, text: str) -> list[str]:
    ids: Ids = encoder.encode_batch([text])[0]
    return [shown(encoder.token(int(number)) or b"") for number in ids]


def _numbers(tokens: Iterable[bytes]) -> dict[int, int]:
    """Up to four digits by length, longer ones with those of five."""
    lengths = Counter(min(len(token), 5) for token in tokens if token.isdigit())
    return {length: lengths[length] for length in range(1, 6)}
