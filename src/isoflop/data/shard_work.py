"""One shard through one stage: a pure function of its input that leaves files and a manifest, and is not done twice.

A shard is finished when its manifest stands: that is written last, names what the shard was made from (`key`) and holds
the sha256 of every file. Where the key is another one or a byte differs, the shard is made again.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from isoflop import files
from isoflop.data import table, tally
from isoflop.data.document import Document, Dropped, Refused, size
from isoflop.data.readers import Item, read
from isoflop.data.source_files import File
from isoflop.data.stages import Corpus, Fate, PerDocument, Step
from isoflop.errors import InputError, IsoflopError
from isoflop.specs.data_recipe import Limits


class Shard(Struct, frozen=True):
    """A finished file, by its path below the stage's folder; `n_rows` of Parquet, 0 of notes."""

    file: str
    sha256: str
    n_bytes: int
    n_rows: int


class Manifest(Struct, kw_only=True):
    """What one task made.

    Attributes:
        key: sha256 of all it was made from.
        kept: shards in order; one for each task but those that read sources.
        others: shards of what was dropped, or of notes.
    """

    key: str
    kept: list[Shard]
    others: list[Shard]
    tally: tally.Tally


class ReadTask(Struct, frozen=True, kw_only=True):
    """Read some files into shards."""

    folder: Path
    name: str
    key: str
    files: tuple[File, ...]
    limits: Limits


class StageTask(Struct, frozen=True, kw_only=True):
    """Take a shard through a stage.

    Attributes:
        stage_key: sha256 of all that the stage is, whatever the shard.
        shard: the stage before's.
        verdicts: of a stage that judges the whole corpus, second pass.
        sha256: of the shard, where another machine wrote it and it is to be checked before it is read.
    """

    folder: Path
    name: str
    key: str
    stage_key: str
    step: Step
    shard: Path
    verdicts: Path | None = None
    sha256: str = ""


class NoteTask(Struct, frozen=True, kw_only=True):
    """First pass of a stage that judges the whole corpus; `sha256` as in `StageTask`."""

    folder: Path
    name: str
    key: str
    stage_key: str
    step: Step
    shard: Path
    sha256: str = ""

    @property
    def notes(self) -> Path:
        """What the names of its files begin with."""
        return self.folder / "notes" / self.name


Task: TypeAlias = ReadTask | StageTask | NoteTask


class Done(Struct, frozen=True):
    """A finished task; `cpu_s` is what it took now, 0 where it was found done."""

    manifest: Manifest
    cpu_s: float


def work(task: Task) -> Done:
    """Do a task, or find it done.

    Raises:
        InputError: a shard of the stage before is damaged.
        ResourceError: no room to write.
    """
    done = _manifest(task)
    if found := finished(done, task.folder, task.key):
        return Done(found, 0.0)
    start = time.process_time()
    if not isinstance(task, ReadTask) and task.sha256:
        _check(task.shard, task.sha256)
    with files.disk(done):
        done.unlink(missing_ok=True)
    match task:
        case ReadTask():
            made = _read(task)
        case StageTask():
            made = _stage(task)
        case NoteTask():
            made = _note(task)
    files.write_json(done, made)
    return Done(made, time.process_time() - start)


def standing(task: Task) -> Manifest | None:
    """The manifest of a task that some machine has done, or None. Of texts the length is looked at, which costs no
    reading; notes are read in full, as the judgement of the whole corpus rests on each of them.
    """
    if isinstance(task, NoteTask):
        return finished(_manifest(task), task.folder, task.key)
    try:
        manifest = files.read_json(_manifest(task), Manifest)
        made = (*manifest.kept, *manifest.others)
        whole = manifest.key == task.key and all(
            (task.folder / each.file).stat().st_size == each.n_bytes for each in made
        )
    except (InputError, OSError):
        return None
    return manifest if whole else None


def _manifest(task: Task) -> Path:
    return task.folder / ("noted" if isinstance(task, NoteTask) else "done") / f"{task.name}.json"


def _check(path: Path, sha256: str) -> None:
    try:
        agrees = files.sha256_file(path) == sha256
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run the phases before this one again") from error
    if not agrees:
        raise InputError(f"{path}: damaged shard (its sha256 is another); run the phases before this one again")


def finished(done: Path, folder: Path, key: str) -> Manifest | None:
    """The manifest, where all that it names stands as it was written."""
    try:
        manifest = files.read_json(done, Manifest)
        whole = manifest.key == key and all(
            files.sha256_file(folder / shard.file) == shard.sha256 for shard in (*manifest.kept, *manifest.others)
        )
    except (InputError, OSError):
        return None
    return manifest if whole else None


def shard(path: Path, folder: Path, *, n_rows: int) -> Shard:
    """A file that has just been written."""
    return Shard(path.relative_to(folder).as_posix(), files.sha256_file(path), path.stat().st_size, n_rows)


def _read(task: ReadTask) -> Manifest:
    """Documents of the task's files in shards of about `shard_bytes`, cut by content alone."""
    counted = tally.empty()
    kept: list[Shard] = []
    dropped = table.Writer(task.folder / "dropped" / f"{task.name}.parquet", table.DROPPED)
    items = (item for file in task.files for item in read(file, task.limits))
    with dropped:
        while (first := next(items, None)) is not None:
            path = task.folder / "kept" / f"{task.name}-{len(kept):04d}.parquet"
            with table.Writer(path, table.KEPT) as writer:
                _fill(writer, dropped, counted, first, items, task.limits.shard_bytes)
            if writer.n_rows:
                kept.append(shard(path, task.folder, n_rows=writer.n_rows))
            else:
                path.unlink()
    return Manifest(
        key=task.key, kept=kept, others=[shard(dropped.path, task.folder, n_rows=dropped.n_rows)], tally=counted
    )


def _fill(
    writer: table.Writer, dropped: table.Writer, counted: tally.Tally, item: Item | None, items: Iterator[Item],
    shard_bytes: int,
) -> None:  # fmt: skip
    """Documents into one shard until it is full or none is left."""
    held = 0
    while item is not None:
        if isinstance(item, Refused):
            counted.drop(item)
            table.add_refused(dropped, item)
        else:
            counted.keep(item, came_bytes=size(item))
            table.add(writer, item)
            held += size(item)
            if held >= shard_bytes:
                return
        item = next(items, None)


def _stage(task: StageTask) -> Manifest:
    counted = tally.empty()
    name = f"{task.name}.parquet"
    with ExitStack() as stack:
        kept = stack.enter_context(table.Writer(task.folder / "kept" / name, table.KEPT))
        dropped = stack.enter_context(table.Writer(task.folder / "dropped" / name, table.DROPPED))
        for document, fate in _fates(task):
            if isinstance(fate, Dropped):
                refused = Refused(document=document, why=fate, n_bytes=size(document))
                counted.drop(refused)
                table.add_refused(dropped, refused)
            else:
                counted.keep(fate, came_bytes=size(document))
                table.add(kept, fate)
    made = [shard(writer.path, task.folder, n_rows=writer.n_rows) for writer in (kept, dropped)]
    return Manifest(key=task.key, kept=made[:1], others=made[1:], tally=counted)


def _fates(task: StageTask) -> Iterable[tuple[Document, Fate]]:
    started = _started(task)
    if not isinstance(started, Corpus):
        for document in table.documents(task.shard):
            yield document, _guarded(task.step, started, document)
        return
    if task.verdicts is None:
        raise TypeError(f"stage {task.step.name} judges the whole corpus: its verdicts come first")
    verdicts = table.rows(task.verdicts)
    for document, row in zip(table.documents(task.shard), verdicts, strict=True):
        yield document, _guarded(task.step, started.apply, document, row["verdict"])


_READY: dict[str, PerDocument | Corpus] = {}
"""The stage this process last worked on: its models are read once, not once a shard."""


def _started(task: StageTask | NoteTask) -> PerDocument | Corpus:
    if task.stage_key not in _READY:
        _READY.clear()
        _READY[task.stage_key] = task.step.start()
    return _READY[task.stage_key]


def _guarded(step: Step, judge: Any, document: Document, *more: bytes) -> Fate:
    """What the stage says; where it fails on one document, that one is dropped and counted, and the run goes on."""
    if not step.concerns(document):
        return document
    try:
        fate: Fate = judge(document, *more)
    except (IsoflopError, MemoryError, OSError):
        raise
    except Exception as error:
        return Dropped(reason=f"error in {step.name}", detail=f"{type(error).__name__}: {error}"[:300])
    if isinstance(fate, Dropped) or not _torn(fate.text):
        return fate
    return replace(fate, text=fate.text.encode("utf-8", "replace").decode())


def _torn(text: str) -> bool:
    """Holds halves of surrogate pairs, which no file of UTF-8 can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _note(task: NoteTask) -> Manifest:
    started = _started(task)
    if not isinstance(started, Corpus):
        raise TypeError(f"stage {task.step.name} judges each document for itself: it has no notes")
    written = started.note(table.documents(task.shard), task.notes)
    made = [shard(path, task.folder, n_rows=0) for path in written]
    return Manifest(key=task.key, kept=[], others=made, tally=tally.empty())
