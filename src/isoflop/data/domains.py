"""Parts of a text that are looked at one by one: the folders and files in which it lies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoflop.data.read import LINES, PARQUET, Document, Text
from isoflop.data.tokenization import Sample
from isoflop.errors import InputError

_MANY = LINES | PARQUET


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One part and a sample of its text.

    Attributes:
        texts: pieces of at most `data.tokenization.SAMPLE_PIECE_CHARS` characters, chosen by hash.
        n_bytes: of the whole part; `sample_bytes` of the sample.
        skipped: file -> why it was left out.
    """

    name: str
    texts: list[str]
    n_documents: int
    n_bytes: int
    sample_bytes: int
    skipped: dict[str, str] = field(default_factory=dict)


def domains(
    paths: Sequence[Path], *, sample_bytes: int, on_progress: Callable[[str], None] = lambda name: None
) -> list[Domain]:
    """Read every domain under these paths; memory holds `sample_bytes` of each.

    A folder's subfolders are domains, and so is each of its files that holds many documents (.jsonl, Parquet); its
    other files are one domain together. A file is a domain.

    Raises:
        InputError: nothing to read, two domains of one name, or a lone surrogate in a text.
    """
    found: dict[str, Domain] = {}
    for name, sources in _parted(paths):
        if name in found:
            raise InputError(f"two domains are called {name!r}; rename one of the folders or files")
        on_progress(name)
        found[name] = _read(name, sources, sample_bytes=sample_bytes)
    if not any(domain.texts for domain in found.values()):
        raise InputError("there is no text in the input")
    return [domain for domain in found.values() if domain.texts]


def _parted(paths: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    for path in paths:
        if not path.is_dir():
            yield _stem(path), [path]
            continue
        files = Text(path).files  # refuses a folder without any text
        plain = [file for file in files if file.parent == path and not _holds_many(file)]
        for name in sorted({file.relative_to(path).parts[0] for file in files if file not in set(plain)}):
            yield _stem(path / name), [path / name]
        if plain:
            yield path.resolve().name, plain


def _holds_many(file: Path) -> bool:
    return any(suffix.lower() in _MANY for suffix in file.suffixes[-2:])


def _stem(path: Path) -> str:
    """A file's name without the suffixes that say how to read it, a folder's as it is."""
    return path.resolve().name if path.is_dir() else path.name.removesuffix("".join(path.suffixes[-2:])) or path.name


def _read(name: str, sources: Iterable[Path], *, sample_bytes: int) -> Domain:
    sample, n_documents, n_bytes = Sample(sample_bytes), 0, 0
    skipped: dict[str, str] = {}
    for path in sources:
        text = Text(path)
        for document in text.documents():
            n_documents += 1
            n_bytes += _size(document)
            sample.add(document)
        skipped |= text.skipped
    return Domain(
        name=name,
        texts=sample.texts(),
        n_documents=n_documents,
        n_bytes=n_bytes,
        sample_bytes=sample.n_bytes,
        skipped=skipped,
    )


def _size(document: Document) -> int:
    try:
        return len(document.text.encode())
    except UnicodeEncodeError as error:
        raise InputError(
            f"document {document.id!r}: character {error.start} is a lone surrogate, which no UTF-8 can hold"
        ) from error
