"""Drops a document whose text has been seen before; the first in the order of the corpus stays."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.document import Document, Dropped
from isoflop.data.stages import Fate, Notes
from isoflop.specs.data_recipe import Limits

VERSION = 1
_DIGEST_BYTES = 16  # at 10^10 documents two different ones meet with a chance of 10^-19
_AT_ONCE = 4_000_000  # digests sorted together: about 250 MB


class Options(Struct, frozen=True, kw_only=True):
    """Whether texts that differ in white space and case only are the same."""

    loose: bool = False


class Exact:
    """Notes a digest of each text; digests are sorted bucket by bucket, so memory does not grow with the corpus but for
    8 bytes a document.
    """

    def __init__(self, options: Options) -> None:
        self.loose = options.loose

    def note(self, document: Document) -> bytes:
        """A digest of the text, or of the page where no text has been extracted yet."""
        text = " ".join(document.text.casefold().split()) if self.loose else document.text
        content = text.encode("utf-8", "surrogatepass") or document.page
        return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()

    def judge(self, notes: Notes) -> Iterator[bytes]:
        """Of each document the number of its first twin, as text; empty for one that is kept."""
        for twin in self._twins(notes):
            yield str(twin).encode() if twin >= 0 else b""

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """Drop what has a twin."""
        if not verdict:
            return document
        return Dropped(reason="exact duplicate", detail=f"same text as number {int(verdict):,} of this stage's input")

    def _twins(self, notes: Notes) -> npt.NDArray[np.int64]:
        twins = np.full(len(notes), -1, np.int64)
        buckets = 1 + len(notes) // _AT_ONCE
        for bucket in range(buckets):
            held, digests = [], []
            for number, digest in enumerate(notes):
                if int.from_bytes(digest[:4], "big") % buckets == bucket:
                    held.append(number)
                    digests.append(digest)
            numbers = np.array(held, np.int64)
            # (documents, 2): halves of each digest; `unique` names the first place of each.
            keys = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
            _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
            origin = numbers[first][which.reshape(-1)] if held else numbers
            repeated = origin != numbers
            twins[numbers[repeated]] = origin[repeated]
        return twins


def start(options: Options, limits: Limits) -> Exact:
    """Exact deduplication of documents."""
    return Exact(options)
