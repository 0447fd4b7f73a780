"""How far a text is compressed at several vocabularies: one training, because smaller vocabularies begin it.

Merges are learned one after the other, so the tokenizer of a smaller vocabulary is the first part of a larger one's.
What is measured is text that was not learned from, wherever there are documents to hold out.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from isoflop.data import byte_pairs, patterns
from isoflop.data.read import Document
from isoflop.data.split import side
from isoflop.data.tokenization import Sample
from isoflop.data.tokenizer import SMALLEST_VOCABULARY, Tokenizer
from isoflop.errors import InputError, UsageError

HELD_OUT = 0.1
TRAINING_BYTES = 32 << 20
MEASURED_BYTES = 8 << 20


class Point(Struct, frozen=True, kw_only=True):
    """One vocabulary and what it makes of the text measured."""

    vocabulary: int
    bytes_per_token: float


class Compression(Struct, frozen=True, kw_only=True):
    """Bytes per token by vocabulary.

    Attributes:
        points: by rising vocabulary.
        learned_bytes, measured_bytes: of text.
        held_out: whether the text measured was kept from learning.
        missing: vocabularies asked for of which the text has not so many tokens.
    """

    points: list[Point]
    learned_bytes: int
    measured_bytes: int
    held_out: bool
    missing: list[int]


def measure(
    documents: Iterable[Document],
    *,
    vocabularies: Sequence[int],
    pattern: str = patterns.DEFAULT.regex,
    training_bytes: int = TRAINING_BYTES,
    measured_bytes: int = MEASURED_BYTES,
) -> Compression:
    """Learn once and measure at each vocabulary; memory holds the two samples.

    Args:
        vocabularies: sizes, the end of text included.

    Raises:
        UsageError: none, or one below 257.
        InputError: no text, or too little for any of them.
    """
    wanted = sorted(set(vocabularies))
    if not wanted or wanted[0] < SMALLEST_VOCABULARY:
        raise UsageError(
            f"vocabularies {', '.join(map(str, wanted)) or 'none'}: give sizes from {SMALLEST_VOCABULARY} up"
        )
    learned, held = Sample(training_bytes), Sample(measured_bytes)
    for document in documents:
        (held if side(document.id, validation_fraction=HELD_OUT) == "validation" else learned).add(document)
    held_out = bool(held.n_bytes and learned.n_bytes)
    texts, measured = learned.texts() or held.texts(), held.texts() or learned.texts()
    if not texts:
        raise InputError("there is no text in the input")
    largest = _largest(texts, vocabulary=wanted[-1], pattern=pattern)
    there = [size for size in wanted if size <= largest.vocabulary]
    if not there:
        raise InputError(
            f"the text has only {largest.vocabulary} different tokens in it; {wanted[0]} is the smallest vocabulary "
            "asked for. Give more text, or smaller ones"
        )
    n_bytes = sum(len(text.encode()) for text in measured)
    counts = {size: _count(largest.smaller(size), measured) for size in there}
    return Compression(
        points=[Point(vocabulary=size, bytes_per_token=n_bytes / count) for size, count in counts.items()],
        learned_bytes=learned.n_bytes or held.n_bytes,
        measured_bytes=n_bytes,
        held_out=held_out,
        missing=wanted[len(there) :],
    )


def _largest(texts: list[str], *, vocabulary: int, pattern: str) -> Tokenizer:
    """Of this vocabulary, or of all the tokens that the texts have."""
    count = vocabulary - SMALLEST_VOCABULARY
    joined = byte_pairs.merged(texts, count=count, pattern=pattern) if count else []
    return Tokenizer(list(dict.fromkeys([*(bytes([byte]) for byte in range(256)), *joined])), pattern=pattern)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(texts)))
