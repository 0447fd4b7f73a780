"""Cuts lines, paragraphs or passages out of texts where they have been seen before, in any document of the corpus; a
text of which nothing is left is dropped.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.dedup import Spans, Windows
from isoflop.data.dedup_clusters import REPEAT, repeats
from isoflop.data.dedup_tables import Table, write_table
from isoflop.data.document import Document, Dropped
from isoflop.data.read import Document as Text
from isoflop.data.stages import Fate
from isoflop.specs.data_recipe import Limits

VERSION = 1


class Options(Struct, frozen=True, kw_only=True):
    """What is cut: a "line", a "paragraph" of `min_chars` or more, or a "passage" of `words` or more, which may begin
    and end anywhere and whose notes take 8 bytes a word.
    """

    unit: Literal["line", "paragraph", "passage"] = "paragraph"
    min_chars: int = 20
    words: int = 50

    def __post_init__(self) -> None:
        if self.min_chars < 1 or self.words < 2:
            raise ValueError(f"min_chars is {self.min_chars}, words {self.words}; at least 1 and 2")


class WithoutRepeats(Struct, frozen=True):
    """A table of keys a shard; a verdict is the marks of a document's units, empty where none repeats."""

    units: Spans | Windows
    name: str

    def note(self, documents: Iterable[Document], path: Path) -> Sequence[Path]:
        """The table of a shard."""
        texts = (Text(document.id, document.text) for document in documents)
        return write_table(path, texts, self.units).files

    def judge(self, notes: Sequence[Path], scratch: Path) -> Iterator[bytes]:
        """Marks of each document."""
        tables = [Table(path) for path in notes]
        for table, marks in zip(tables, repeats(tables, scratch=scratch / "marks"), strict=True):
            first = 0
            for end in table.ends.tolist():
                own = marks[first:end]
                yield own.tobytes() if (own == REPEAT).any() else b""
                first = end

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """Cut what is marked."""
        if not verdict:
            return document
        text = self.units.without(document.text, np.frombuffer(verdict, np.uint8))
        if text.strip():
            return replace(document, text=text)
        return Dropped(reason=f"nothing but repeated {self.name}s")


def start(options: Options, limits: Limits) -> WithoutRepeats:
    """Exact deduplication inside documents."""
    if options.unit == "passage":
        return WithoutRepeats(Windows(n=options.words), options.unit)
    return WithoutRepeats(Spans(unit=options.unit, min_chars=options.min_chars), options.unit)
