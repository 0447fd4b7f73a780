"""Domains: folders of text, or of shards written with one tokenizer, each with a name of its own."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from isoflop.data.read import Text
from isoflop.data.shards import HEADER, TOKENIZER, Shards, open_shards
from isoflop.data.split import side
from isoflop.data.tokenization import SAMPLE_BYTES, Sample, tokenize
from isoflop.data.tokenizer import Tokenizer
from isoflop.errors import InputError, UsageError
from isoflop.files import disk


class DomainFolder(Struct, frozen=True, kw_only=True):
    """One domain as it lies there, text or shards."""

    name: str
    path: Path

    @property
    def in_tokens(self) -> bool:
        """Whether it is a folder of shards."""
        return (self.path / HEADER).is_file()


def find(paths: Sequence[Path]) -> list[DomainFolder]:
    """Each path is a domain; a single folder stands for the domains in it, a subfolder or a file each.

    Raises:
        InputError: nothing there, or a single domain, or two of one name.
        UsageError: some are text and some are shards.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    inside = list(paths)
    if len(paths) == 1 and paths[0].is_dir() and not (paths[0] / HEADER).is_file():
        inside = sorted(entry for entry in paths[0].iterdir() if not entry.name.startswith("."))
    found = [DomainFolder(name=_name(path), path=path) for path in inside]
    if len(found) < 2:
        where = ", ".join(str(path) for path in paths)
        raise InputError(f"{where}: {len(found)} domain; a mixture has two at least. Give each as a folder or file")
    names = [domain.name for domain in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two domains are called {twice[0]!r}; rename one of them")
    if len({domain.in_tokens for domain in found}) > 1:
        text = next(domain.path for domain in found if not domain.in_tokens)
        raise UsageError(f"{text}: is text, and others are shards. Give all as text, or all as shards")
    return found


def _name(path: Path) -> str:
    """The name without what follows its first dot; recipes name sources without dots."""
    return path.resolve().name.partition(".")[0] or "text"


def open_all(domains: Iterable[DomainFolder], *, context: int) -> dict[str, Shards]:
    """Shards of each domain by name.

    Raises:
        InputError: damaged, written with different tokenizers, or a split of one is shorter than a window.
    """
    found = {domain.name: open_shards(domain.path) for domain in domains}
    first, *others = found.items()
    for name, shards in others:
        if shards.header.tokenizer_sha256 != first[1].header.tokenizer_sha256:
            raise InputError(
                f"{first[1].folder} and {shards.folder} are written with different tokenizers, so losses per token "
                f"cannot be compared. Write {name} again with `isoflop data tokenize --tokenizer {first[1].folder}`"
            )
    for name, shards in found.items():
        for split, what in shards.header.splits.items():
            if what.n_tokens <= context:
                raise InputError(
                    f"domain {name}: its {split} split has {what.n_tokens} tokens, and a window takes {context + 1}. "
                    "Give it more text, hold more of it out, or leave it out"
                )
    return found


def write_all(
    domains: Sequence[DomainFolder],
    *,
    folder: Path,
    vocabulary: int,
    validation_fraction: float,
    tokenizer: Tokenizer | None = None,
    on_domain: Callable[[str], None] = lambda name: None,
) -> list[DomainFolder]:
    """Write each text's shards into a folder of its name, all with one tokenizer.

    Where none is given it is learned from as many bytes of each domain, as far as they go, so that no domain's words
    are cut finer than they need for being rare among the others; it is kept in `folder`.

    Raises:
        InputError: no text, or too little of it.
        UsageError: other shards lie there.
        ResourceError: the disk is full or not writable.
    """
    texts = {domain.name: Text(domain.path) for domain in domains}
    kept = folder / TOKENIZER
    if tokenizer is None and kept.exists() and (there := Tokenizer.load(kept)).vocabulary == vocabulary:
        tokenizer = there
    if tokenizer is None:
        tokenizer = Tokenizer.train(
            (
                text
                for each in texts.values()
                for text in _sample(each, SAMPLE_BYTES // len(texts), validation_fraction=validation_fraction)
            ),
            vocabulary=vocabulary,
        )
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(kept)
    written = []
    for name, text in texts.items():
        on_domain(name)
        try:
            shards = tokenize(
                text.documents,
                folder=folder / name,
                vocabulary=tokenizer.vocabulary,
                validation_fraction=validation_fraction,
                source=text.description,
                tokenizer=tokenizer,
            )
        except InputError as error:
            raise InputError(f"domain {name}: {error}") from error
        written.append(DomainFolder(name=name, path=shards.folder))
    return written


def _sample(text: Text, limit: int, *, validation_fraction: float) -> list[str]:
    """Pieces of the training documents."""
    sample = Sample(limit)
    for document in text.documents():
        if document.text and side(document.id, validation_fraction=validation_fraction) == "train":
            sample.add(document)
    return sample.texts()
