"""What `exact` and `near` share: of documents that share a key the first stays."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.data.dedup_clusters import clusters
from isoflop.data.dedup_tables import Keys, Table, write_table
from isoflop.data.document import Document, Dropped
from isoflop.data.read import Document as Text
from isoflop.data.stages import Fate

_KEPT, _DROPPED = b"+", b"-"


class FirstOfEach(Struct, frozen=True):
    """A table of keys a shard; the judgement joins all tables.

    Attributes:
        keys: what two documents must share.
        reason: of those that go.
        mark: one of `COPIES`, under which the one that stays says how many came.
    """

    keys: Keys
    reason: str
    mark: str

    def note(self, documents: Iterable[Document], path: Path) -> Sequence[Path]:
        """The table of a shard."""
        return write_table(path, map(_text, documents), self.keys).files

    def judge(self, notes: Sequence[Path], scratch: Path) -> Iterator[bytes]:
        """How many a document stands for, or the id of the one that stands for it; nothing for one like no other."""
        found = clusters([Table(path) for path in notes])
        sizes = np.bincount(found.keepers, minlength=len(found.keepers))
        for number, keeper in enumerate(found.keepers.tolist()):
            if keeper != number:
                yield _DROPPED + found.id(keeper).encode()
            else:
                yield _KEPT + str(sizes[number]).encode() if sizes[number] > 1 else b""

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """Drop what another one stands for."""
        said = verdict[1:].decode()
        if verdict.startswith(_DROPPED):
            return Dropped(reason=self.reason, detail=f"of {said}")
        return replace(document, marks={**document.marks, self.mark: said}) if verdict else document


def _text(document: Document) -> Text:
    """The text; the page, a letter a byte, where no text has been extracted yet."""
    return Text(document.id, document.text or document.page.decode("latin-1"))
