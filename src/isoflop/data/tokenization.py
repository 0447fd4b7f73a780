"""Text to token shards, the first arrow of the loop, as one function.

Two passes over the documents. The first counts, hashes and draws the sample the tokenizer learns from; the second
encodes and writes. Memory holds the sample and a few batches, whatever the size of the text.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from isoflop import stamp
from isoflop.data import contamination
from isoflop.data.contamination import IndexWriter
from isoflop.data.folder_lock import held
from isoflop.data.read import Document
from isoflop.data.shard_writer import Writer
from isoflop.data.shards import (
    HEADER,
    TOKENIZER,
    Header,
    Shards,
    ShardSplit,
    clear,
    dtype_for,
    open_shards,
    write_header,
)
from isoflop.data.split import SPLITS, Split, side
from isoflop.data.tokenizer import SMALLEST_VOCABULARY, Tokenizer
from isoflop.errors import InputError, UsageError

# rustbpe learns about 10 MB/s on one core and holds the sample in memory; 64 MiB fix the merges of 32k tokens well.
SAMPLE_BYTES = 64 << 20
SAMPLE_PIECE_CHARS = 1 << 18
BATCH_CHARS = 16 << 20

Stage: TypeAlias = Literal["read", "train tokenizer", "encode", "index"]
Progress: TypeAlias = Callable[[Stage, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first pass found: the text's hash and size, and what the tokenizer is to learn from."""

    text_sha256: str
    n_documents: int
    n_bytes: int
    sample: list[str]
    sample_bytes: int


def tokenize(
    documents: Callable[[], Iterable[Document]],
    *,
    folder: Path,
    vocabulary: int,
    validation_fraction: float,
    source: str,
    sample_bytes: int = SAMPLE_BYTES,
    tokenizer: Tokenizer | None = None,
    index_words: int | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Shards:
    """Learn a tokenizer from the training documents, or take one, and write both splits as shards.

    The same documents and settings give the same bytes. A folder that holds them already is left as it is.

    Args:
        documents: gives an iterator over all documents, the same ones each time; it is called twice.
        folder: where to write; made if missing.
        vocabulary: number of tokens, the end of text included.
        validation_fraction: share of documents held out, by a hash of their ids (see `split`).
        source: what the text is, for people.
        sample_bytes: most bytes the tokenizer learns from; beyond it, pieces of text are chosen by their hash.
        tokenizer: one that is there already, for a model that knows its tokens; `vocabulary` must be its own.
        index_words: on the way index the training text's runs of so many words too, for `contamination`.
        force: write over a folder that holds other shards.
        on_progress: called with the stage, bytes done and bytes to do (None while unknown).

    Raises:
        UsageError: a vocabulary, fraction or run out of range, or other shards in the folder.
        InputError: no text, too little of it for the vocabulary, an empty split, or text that changed meanwhile.
        ResourceError: the disk is full or not writable, or another process is writing here.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise UsageError(f"vocabulary {vocabulary}: at least {SMALLEST_VOCABULARY}, the 256 bytes and the end of text")
    if not 0 < validation_fraction < 1:
        raise UsageError(f"validation {validation_fraction}: must lie between 0 and 1, for example 0.08")
    if tokenizer is not None and tokenizer.vocabulary != vocabulary:
        raise UsageError(f"vocabulary {vocabulary}: the tokenizer given has {tokenizer.vocabulary} tokens")
    if index_words is not None:
        contamination.check_length(index_words)
    report = on_progress or (lambda stage, done, total: None)
    sample_bytes = sample_bytes if tokenizer is None else 0
    with held(folder):
        survey = read_through(
            documents(), validation_fraction=validation_fraction, sample_bytes=sample_bytes, report=report
        )
        settings = {
            "text_sha256": survey.text_sha256,
            "vocabulary": vocabulary,
            "validation_fraction": validation_fraction,
            "tokenizer_sample_bytes": survey.sample_bytes,
            **({"tokenizer_sha256": tokenizer.sha256} if tokenizer else {}),
        }
        if (finished := _finished(folder, settings, force=force)) is not None:
            if index_words is not None:
                contamination.ensure_index(finished, n=index_words, on_begin=lambda: report("index", 0, None))
            return finished
        if tokenizer is None:
            report("train tokenizer", survey.sample_bytes, survey.sample_bytes)
            tokenizer = Tokenizer.train(survey.sample, vocabulary=vocabulary)
        clear(folder)
        contamination.clear(folder / contamination.FOLDER)
        index = IndexWriter(folder / contamination.FOLDER, n=index_words) if index_words is not None else None
        tokenizer.save(folder / TOKENIZER)
        splits = _encode(
            documents(), folder, tokenizer, survey, index, validation_fraction=validation_fraction, report=report
        )
        if index is not None:
            index.close(split_sha256=splits["train"].sha256)
        header = Header(
            dtype=dtype_for(vocabulary),
            vocabulary=vocabulary,
            tokenizer_sha256=tokenizer.sha256,
            splits=splits,
            text_sha256=survey.text_sha256,
            validation_fraction=validation_fraction,
            tokenizer_sample_bytes=survey.sample_bytes,
            source=source,
            stamp=stamp.make({"text": survey.text_sha256}),
        )
        write_header(folder, header)
        return open_shards(folder)


def _finished(folder: Path, settings: dict[str, object], *, force: bool) -> Shards | None:
    """The shards in the folder if they are the ones wanted and whole.

    Raises:
        UsageError: they are others, and `force` was not given.
    """
    if not (folder / HEADER).exists():
        return None
    try:
        shards = open_shards(folder)
    except InputError:
        if force:
            return None
        raise UsageError(f"{folder}: holds shards that cannot be read. --force writes over them") from None
    differing = [name for name, wanted in settings.items() if getattr(shards.header, name) != wanted]
    if not differing:
        with suppress(InputError):
            shards.verify()
            return shards
        return None  # damaged copies of what is wanted: written anew
    if not force:
        raise UsageError(
            f"{folder}: holds other shards ({shards.header.source}; different {', '.join(differing)}). "
            "Choose another --out, or write over them with --force"
        )
    return None


def _texts(documents: Iterable[Document]) -> Iterator[tuple[Document, bytes]]:
    """Documents that hold text, with their UTF-8; an empty one would add nothing but an end of text."""
    for document in documents:
        try:
            content = document.text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"document {document.id!r}: character {error.start} is a lone surrogate, which no UTF-8 can hold"
            ) from error
        if content:
            yield document, content


def read_through(
    documents: Iterable[Document], *, validation_fraction: float, sample_bytes: int, report: Progress
) -> Survey:
    """The first pass; with a fraction of 0 no document is held out.

    Raises:
        InputError: no text, or a split that is to hold some and holds none.
    """
    digest, sample = hashlib.sha256(), Sample(sample_bytes)
    n_documents = n_bytes = validation = 0
    for document, content in _texts(documents):
        _fold(digest, document.id, content)
        n_documents += 1
        n_bytes += len(content)
        if side(document.id, validation_fraction=validation_fraction) == "validation":
            validation += 1
        else:
            sample.add(document)
        report("read", n_bytes, None)
    if n_documents == 0:
        raise InputError("there is no text in the input")
    if validation_fraction and validation in {0, n_documents}:
        empty, full = ("validation", "train") if validation == 0 else ("train", "validation")
        raise InputError(
            f"all {n_documents} documents fall into the split {full} and none into {empty}: a hash of each document's "
            f"id decides, for a share of {validation_fraction}. Give more documents, or another --validation"
        )
    return Survey(
        text_sha256=digest.hexdigest(),
        n_documents=n_documents,
        n_bytes=n_bytes,
        sample=sample.texts(),
        sample_bytes=sample.n_bytes,
    )


def _fold(digest: "hashlib._Hash", document_id: str, content: bytes) -> None:
    """Take a document into a hash, lengths first, so that no two sequences of documents look alike."""
    name = document_id.encode()
    digest.update(len(name).to_bytes(8, "little") + len(content).to_bytes(8, "little") + name)
    digest.update(content)


class Sample:
    """The pieces of text with the smallest hashes that fit into `limit` bytes.

    Which pieces those are depends on their ids alone, not on the order in which they come; only they are held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._heap: list[tuple[int, str, int]] = []  # (-hash, text, bytes), the largest hash on top
        self._bound = 1 << 64

    def add(self, document: Document) -> None:
        """Offer a document, piece by piece."""
        for start in range(0, len(document.text), SAMPLE_PIECE_CHARS):
            key = hashlib.sha256(f"{start}:{document.id}".encode()).digest()
            rank = int.from_bytes(key[:8], "big")
            if rank >= self._bound:
                continue
            text = document.text[start : start + SAMPLE_PIECE_CHARS]
            size = len(text.encode())
            heapq.heappush(self._heap, (-rank, text, size))
            self.n_bytes += size
            while self.n_bytes > self.limit:
                lost = heapq.heappop(self._heap)
                self.n_bytes -= lost[2]
                self._bound = -lost[0]

    def texts(self) -> list[str]:
        """The pieces, by hash."""
        return [text for _, text, _ in sorted(self._heap, reverse=True)]


def _encode(
    documents: Iterable[Document],
    folder: Path,
    tokenizer: Tokenizer,
    survey: Survey,
    index: IndexWriter | None,
    *,
    validation_fraction: float,
    report: Progress,
) -> dict[Split, ShardSplit]:
    """The second pass: encode, write and index, and see that the text is still the one surveyed."""
    digest = hashlib.sha256()
    writers = {split: Writer(folder, split, vocabulary=tokenizer.vocabulary) for split in SPLITS}
    done = 0
    try:
        for batch in _batches(_texts(documents)):
            encoded = tokenizer.encode_batch([document.text for document, _ in batch])
            trained: list[str] = []
            for (document, content), tokens in zip(batch, encoded, strict=True):
                _fold(digest, document.id, content)
                split = side(document.id, validation_fraction=validation_fraction)
                writers[split].add(tokens, n_bytes=len(content))
                done += len(content)
                if split == "train":
                    trained.append(document.text)
            if index is not None:
                index.add(trained)
            report("encode", done, survey.n_bytes)
        if digest.hexdigest() != survey.text_sha256:
            raise InputError("the text changed between the first and the second reading. Run the same command again")
        return {split: writer.close() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.abandon()


def _batches(texts: Iterator[tuple[Document, bytes]]) -> Iterator[list[tuple[Document, bytes]]]:
    batch: list[tuple[Document, bytes]] = []
    size = 0
    for document, content in texts:
        batch.append((document, content))
        size += len(document.text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
