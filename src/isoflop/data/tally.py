"""What a shard's stage did, in numbers and samples: added up over shards, this is what the report shows."""

import hashlib
from collections.abc import Hashable, Iterable
from typing import TypeVar

from msgspec import Struct

from isoflop.data.document import COPIES, Document, Refused, size

K = TypeVar("K", bound=Hashable)

SAMPLES = 4  # of kept documents and of each reason, per shard and in all
SAMPLE_CHARS = 600
MOST_VALUES = 200  # of one mark
LARGEST = 8  # documents shown that stand for the most others


class Count(Struct):
    """Documents and their bytes."""

    documents: int = 0
    bytes: int = 0

    def add(self, documents: int, n_bytes: int) -> None:
        """So many more."""
        self.documents += documents
        self.bytes += n_bytes


class Passed(Struct):
    """What came of one source, and what went on."""

    came: Count
    kept: Count


class Copies(Struct, frozen=True):
    """A document that stands for `documents` like it, itself counted in."""

    documents: int
    id: str
    text: str


class Sample(Struct, frozen=True, order=True):
    """One document to be shown; `rank` is a hash of its id, by which the fewest are chosen, the same ones each time."""

    rank: str
    id: str
    source: str
    text: str
    detail: str = ""


class Tally(Struct, kw_only=True):
    """Counts of one stage over some documents.

    Attributes:
        came, kept: documents in and out.
        pages: kept ones of which no text has been extracted yet.
        dropped: by reason.
        kept_lengths, dropped_lengths: documents by the power of two that their bytes reach.
        sources: by name of the source.
        marks: mark -> value -> documents kept.
        copies: mark that counts duplicates -> the kept documents that stand for the most.
        samples: reason -> a few dropped; under "" a few kept.
    """

    came: Count
    kept: Count
    pages: int
    dropped: dict[str, Count]
    kept_lengths: dict[int, int]
    dropped_lengths: dict[int, int]
    sources: dict[str, Passed]
    marks: dict[str, dict[str, int]]
    copies: dict[str, list[Copies]]
    samples: dict[str, list[Sample]]

    def keep(self, document: Document, *, came_bytes: int) -> None:
        """One document went on, of so many bytes before."""
        n_bytes = size(document)
        self.came.add(1, came_bytes)
        passed = self._source(document)
        passed.came.add(1, came_bytes)
        passed.kept.add(1, n_bytes)
        self.pages += bool(document.page and not document.text)
        self.kept.add(1, n_bytes)
        _count(self.kept_lengths, n_bytes.bit_length())
        for name, value in document.marks.items():
            values = self.marks.setdefault(name, {})
            _count(values, value if value in values or len(values) < MOST_VALUES else "others")
            if name in COPIES:
                like = Copies(int(value), document.id, document.text[:SAMPLE_CHARS])
                self.copies[name] = _largest([*self.copies.get(name, []), like])
        self._show("", document, "")

    def drop(self, refused: Refused) -> None:
        """One did not."""
        reason = refused.why.reason
        self.came.add(1, refused.n_bytes)
        self._source(refused.document).came.add(1, refused.n_bytes)
        self.dropped.setdefault(reason, Count()).add(1, refused.n_bytes)
        _count(self.dropped_lengths, refused.n_bytes.bit_length())
        self._show(reason, refused.document, refused.why.detail)

    def _source(self, document: Document) -> Passed:
        return self.sources.setdefault(document.source, Passed(Count(), Count()))

    def _show(self, reason: str, document: Document, detail: str) -> None:
        rank = hashlib.sha256(f"{document.source}\0{document.id}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        shown = self.samples.setdefault(reason, [])
        if len(shown) == SAMPLES and rank >= shown[-1].rank:
            return
        text = document.text or document.page[: 4 * SAMPLE_CHARS].decode("utf-8", "replace")
        shown.append(Sample(rank, document.id, document.source, text[:SAMPLE_CHARS], detail))
        shown.sort()
        del shown[SAMPLES:]


def empty() -> Tally:
    """Nothing counted yet."""
    return Tally(
        came=Count(), kept=Count(), pages=0, dropped={}, kept_lengths={}, dropped_lengths={}, sources={}, marks={},
        copies={}, samples={},
    )  # fmt: skip


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them as one, the same for any order of equal sets of shards."""
    found = empty()
    for each in tallies:
        found.came.add(each.came.documents, each.came.bytes)
        found.kept.add(each.kept.documents, each.kept.bytes)
        found.pages += each.pages
        for reason, count in each.dropped.items():
            found.dropped.setdefault(reason, Count()).add(count.documents, count.bytes)
        for sums, lengths in ((found.kept_lengths, each.kept_lengths), (found.dropped_lengths, each.dropped_lengths)):
            for bits, n in lengths.items():
                _count(sums, bits, n)
        for name, values in each.marks.items():
            for value, n in values.items():
                _count(found.marks.setdefault(name, {}), value, n)
        for name, passed in each.sources.items():
            mine = found.sources.setdefault(name, Passed(Count(), Count()))
            mine.came.add(passed.came.documents, passed.came.bytes)
            mine.kept.add(passed.kept.documents, passed.kept.bytes)
        for name, like in each.copies.items():
            found.copies[name] = _largest([*found.copies.get(name, []), *like])
        for reason, shown in each.samples.items():
            found.samples[reason] = sorted(found.samples.get(reason, []) + shown)[:SAMPLES]
    return found


def _largest(copies: list[Copies]) -> list[Copies]:
    return sorted(copies, key=lambda each: (-each.documents, each.id))[:LARGEST]


def _count(counts: dict[K, int], key: K, n: int = 1) -> None:
    counts[key] = counts.get(key, 0) + n
