"""Text to a tokenizer and a record of how it was trained, as one function.

tokenizer.json   the vocabulary, in Hugging Face's format: the same bytes for the same text and settings
training.json    what it was trained from and with; written last
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from isoflop import stamp
from isoflop.data import patterns, tokenization
from isoflop.data.byte_pairs import ENGINES, Engine
from isoflop.data.folder_lock import held
from isoflop.data.read import Document
from isoflop.data.shards import HEADER, TOKENIZER, open_shards
from isoflop.data.tokenizer import Tokenizer, check_special, check_vocabulary
from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.files import read_json, sha256_file, write_json
from isoflop.stamp import Stamp

RECORD = "training.json"


class Training(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `training.json` holds.

    Attributes:
        pattern: name of the split; `pattern_regex` is the regular expression itself.
        text_sha256: hash over every document's id and text, in order, as in the header of shards.
        n_bytes: of the text; it was learned from `sample_bytes` of them, at most `sample_limit_bytes`.
        validation_fraction: share of documents that were not learned from; a hash of the id decides.
        file_sha256: of `tokenizer.json`.
    """

    vocabulary: int
    pattern: str
    pattern_regex: str
    special: list[str]
    engine: Engine
    engine_version: str
    source: str
    text_sha256: str
    n_documents: int
    n_bytes: int
    sample_bytes: int
    sample_limit_bytes: int
    validation_fraction: float
    tokenizer_sha256: str
    file_sha256: str
    stamp: Stamp
    schema: Literal["isoflop/tokenizer@1"] = "isoflop/tokenizer@1"


class Trained(NamedTuple):
    """A tokenizer and how it came about."""

    tokenizer: Tokenizer
    training: Training


def train(
    documents: Callable[[], Iterable[Document]],
    *,
    folder: Path,
    vocabulary: int,
    source: str,
    pattern: str = "ours",
    special: Sequence[str] = (),
    engine: Engine = "rustbpe",
    validation_fraction: float = 0.08,
    sample_bytes: int = tokenization.SAMPLE_BYTES,
    force: bool = False,
    on_progress: tokenization.Progress | None = None,
) -> Trained:
    """Learn a tokenizer from the training documents and write it; one that is there already is left as it is.

    `data tokenize` learns the same one from the same text, fraction and vocabulary. Memory holds the sample, whatever
    the size of the text, and what a tokenizer learns does not hang on the order of documents or the number of threads.

    Args:
        documents: gives an iterator over all documents.
        folder: where to write; made if missing.
        source: what the text is, for people.
        pattern: a name of `patterns`.
        validation_fraction: share of documents not learned from, by a hash of their ids; 0 learns from all.
        sample_bytes: most bytes learned from; beyond it, pieces of text are chosen by the hash of their document's id.
        force: write over another tokenizer.
        on_progress: called with the stage, bytes done and bytes to do (None while unknown).

    Raises:
        UsageError: a setting out of range, a special token that cannot be one, or another tokenizer in the folder.
        InputError: no text, or too little of it for the vocabulary.
        ResourceError: the disk is full or not writable, or another process is writing here.
    """
    chosen = patterns.find(pattern)
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES, every=True)
    check_vocabulary(vocabulary, special)
    check_special(special)
    if not 0 <= validation_fraction < 1:
        raise UsageError(f"validation {validation_fraction}: must lie in 0 to below 1, for example 0.08")
    if sample_bytes < 1:
        raise UsageError(f"sample of {sample_bytes} bytes: there is nothing to learn from")
    report = on_progress or (lambda stage, done, total: None)
    with held(folder):
        survey = tokenization.read_through(
            documents(), validation_fraction=validation_fraction, sample_bytes=sample_bytes, report=report
        )
        settings: dict[str, object] = {
            "vocabulary": vocabulary,
            "pattern_regex": chosen.regex,
            "special": list(special),
            "engine": engine,
            "engine_version": version(engine),
            "text_sha256": survey.text_sha256,
            "sample_bytes": survey.sample_bytes,
            "sample_limit_bytes": sample_bytes,
            "validation_fraction": validation_fraction,
        }
        if (there := _there(folder, settings, force=force)) is not None:
            return there
        report("train tokenizer", survey.sample_bytes, survey.sample_bytes)
        made = Tokenizer.train(
            survey.sample, vocabulary=vocabulary, pattern=chosen.regex, special=special, engine=engine
        )
        (folder / RECORD).unlink(missing_ok=True)
        made.save(folder / TOKENIZER)
        training = Training(
            **settings,  # type: ignore[arg-type]
            pattern=chosen.name,
            source=source,
            n_documents=survey.n_documents,
            n_bytes=survey.n_bytes,
            tokenizer_sha256=made.sha256,
            file_sha256=sha256_file(folder / TOKENIZER),
            stamp=stamp.make({"text": survey.text_sha256}),
        )
        write_json(folder / RECORD, training)
        return Trained(made, training)


def _there(folder: Path, settings: dict[str, object], *, force: bool) -> Trained | None:
    """The tokenizer in the folder, if it is the one wanted and whole.

    Raises:
        UsageError: there is another one, and `force` was not given.
    """
    if (folder / HEADER).exists():
        raise UsageError(
            f"{folder}: holds shards, which need the tokenizer they were written with. Choose another --out"
        )
    if not (folder / TOKENIZER).exists():
        return None
    with suppress(InputError):
        training = read_json(folder / RECORD, Training)
        differing = [name for name, wanted in settings.items() if getattr(training, name) != wanted]
        if not differing and sha256_file(folder / TOKENIZER) == training.file_sha256:
            return Trained(Tokenizer.load(folder), training)
        if force or not differing:  # damaged copies of what is wanted are written anew
            return None
        raise UsageError(
            f"{folder}: holds another tokenizer ({training.source}; different {', '.join(differing)}). "
            "Choose another --out, or write over it with --force"
        )
    if force:
        return None
    raise UsageError(
        f"{folder}: holds a {TOKENIZER} without a {RECORD} that can be read, so not one that `isoflop tokenizer train` "
        "finished. Choose another --out, or write over it with --force"
    )


def tokenizer_at(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, of a folder that holds one, or of shards.

    Raises:
        InputError: there is none, or not the one that the folder's own record or header tells of.
    """
    if (path / HEADER).exists():
        return open_shards(path).tokenizer
    found = Tokenizer.load(path)
    if (path / RECORD).exists() and read_json(path / RECORD, Training).tokenizer_sha256 != found.sha256:
        raise InputError(f"{path / TOKENIZER}: not the tokenizer that {RECORD} beside it tells of. Train it again")
    return found
