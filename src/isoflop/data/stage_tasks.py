"""What there is to do for a stage, shard by shard, and the judgement of the whole corpus between two passes."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from msgspec import Struct

from isoflop import files
from isoflop.data import stages, table, tally
from isoflop.data.shard_work import Manifest, NoteTask, ReadTask, Shard, StageTask, finished, shard
from isoflop.data.source_files import File
from isoflop.data.stages import Corpus, PerDocument, Step
from isoflop.errors import InputError
from isoflop.specs.data_recipe import DataRecipe, Limits

READER_VERSION = 1
READ = "00-read"
_JUDGED = "judged.json"


class Stage(Struct, frozen=True, kw_only=True):
    """A stage of a recipe, ready to work.

    Attributes:
        key: sha256 of all that its output hangs on besides its documents.
        folder: its name below the output folder.
    """

    step: Step
    started: PerDocument | Corpus
    key: str
    folder: str

    @property
    def name(self) -> str:
        """As the recipe calls it."""
        return self.step.name

    @property
    def corpus(self) -> bool:
        """Whether it judges the whole corpus."""
        return isinstance(self.started, Corpus)


def ready(recipe: DataRecipe) -> list[Stage]:
    """All stages, each started once: a wrong option or a missing package is told before hours of work, not after.

    Raises:
        UnknownNameError: no such stage or option.
        UsageError: an option is missing or wrong.
        InputError: a file that a stage reads is missing.
    """
    steps = [stages.step(each, limits=recipe.limits, folder=recipe.folder) for each in recipe.stages]
    keys = [files.sha256_value(stages.key(step)) for step in steps]
    return [
        Stage(step=step, started=step.start(), key=key, folder=f"{number:02d}-{step.name}")
        for number, (step, key) in enumerate(zip(steps, keys, strict=True), 1)
    ]


def read_tasks(found: Sequence[File], limits: Limits, out: Path) -> list[ReadTask]:
    """Read the sources, some files a task."""
    tasks = []
    for number, group in enumerate(_groups(found, limits.shard_bytes)):
        key = files.sha256_value(["read", READER_VERSION, limits, group])
        tasks.append(ReadTask(folder=out / READ, name=f"{number:05d}", key=key, files=tuple(group), limits=limits))
    return tasks


def _groups(found: Sequence[File], most_bytes: int) -> Iterator[list[File]]:
    """Files that are read together: many small ones, or a large one alone. Hangs on the files only."""
    group: list[File] = []
    held = 0
    for file in found:
        if group and held + file.n_bytes > most_bytes:
            yield group
            group, held = [], 0
        group.append(file)
        held += file.n_bytes
    yield group


def note_tasks(stage: Stage, out: Path, before: str, shards: Sequence[Shard]) -> list[NoteTask]:
    """First pass of a stage that judges the whole corpus.

    Args:
        before: folder of the stage whose shards these are, below `out`.
    """
    return [
        NoteTask(
            folder=out / stage.folder, name=_name(each), key=_made_of(stage, each), stage_key=stage.key,
            step=stage.step, shard=out / before / each.file,
        )
        for each in shards
    ]  # fmt: skip


def stage_tasks(
    stage: Stage, out: Path, before: str, shards: Sequence[Shard], verdicts: Sequence[Shard]
) -> list[StageTask]:
    """Each shard through the stage.

    Args:
        verdicts: one for each shard where the stage judges the whole corpus, else empty.
    """
    folder = out / stage.folder
    keys = [_made_of(stage, each) for each in shards]
    if stage.corpus:
        keys = [files.sha256_value([key, each.sha256]) for key, each in zip(keys, verdicts, strict=True)]
    said = [folder / each.file for each in verdicts] if stage.corpus else [None] * len(shards)
    return [
        StageTask(
            folder=folder, name=_name(each), key=key, stage_key=stage.key, step=stage.step,
            shard=out / before / each.file, verdicts=verdict,
        )
        for each, key, verdict in zip(shards, keys, said, strict=True)
    ]  # fmt: skip


def _name(each: Shard) -> str:
    return Path(each.file).stem


def _made_of(stage: Stage, each: Shard) -> str:
    return files.sha256_value([stage.key, each.sha256])


def standing_verdicts(notes: Sequence[NoteTask], noted: Sequence[Manifest]) -> list[Shard] | None:
    """A file of verdicts for each shard, where these same notes have been judged."""
    if not notes:
        return []
    folder = notes[0].folder
    found = finished(folder / _JUDGED, folder, _judged_of(noted))
    return None if found is None else found.others


def judge(stage: Corpus, notes: Sequence[NoteTask], noted: Sequence[Manifest], n_rows: Sequence[int]) -> list[Shard]:
    """Verdicts beside the notes, a file for each shard.

    Args:
        n_rows: documents of each shard.

    Raises:
        InputError: the notes speak of more or fewer documents.
    """
    folder = notes[0].folder
    with _scratch(folder / "scratch") as scratch:
        verdicts = iter(stage.judge([each.notes for each in notes], scratch))
        made = []
        for each, n in zip(notes, n_rows, strict=True):
            path = folder / "verdicts" / f"{each.name}.parquet"
            with table.Writer(path, table.VERDICTS) as writer:
                for verdict in islice(verdicts, n):
                    writer.add({"verdict": verdict}, n_bytes=len(verdict))
            if writer.n_rows != n:
                raise InputError(f"{each.notes}: notes of {writer.n_rows} documents where {n} are due; delete {folder}")
            made.append(shard(path, folder, n_rows=n))
    files.write_json(folder / _JUDGED, Manifest(key=_judged_of(noted), kept=[], others=made, tally=tally.empty()))
    return made


def _judged_of(noted: Sequence[Manifest]) -> str:
    return files.sha256_value([each.key for each in noted])


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder while it is needed, shared with no other process: a scheduler may start a judgement again whose
    first try lives on, on a machine that it lost sight of.
    """
    with files.disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
