"""A recipe's sources through its stages, shard by shard: resumable, bounded in memory, the same bytes on any machine.

OUT/00-read/       kept/*.parquet   what goes on          01-<stage>/, 02-<stage>/ ... have the same
                   dropped/*.parquet  what does not, with the reason
                   done/*.json      manifests: made from what, sha256 of each file, counts
OUT/text/          the last stage's shards, ready for `isoflop data tokenize`
OUT/run.json       recipe, counts, samples: what `isoflop data report` shows
OUT/stamp.json     who made it and when;  times.json: how long each stage took
OUT/phases/        while a job array works here: what passes between its members (`isoflop.data.phases`)
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from isoflop import files, stamp
from isoflop.data import engines, source_files, tally
from isoflop.data.shard_work import Manifest, NoteTask, ReadTask, Shard, Task, work
from isoflop.data.source_files import File
from isoflop.data.stage_tasks import READ, Stage, judge, note_tasks, read_tasks, ready, stage_tasks, standing_verdicts
from isoflop.data.stages import Corpus
from isoflop.errors import InputError, ResourceError, UsageError
from isoflop.locks import taken
from isoflop.specs.data_recipe import DataRecipe

PHASES = "phases"
_STAGE = re.compile(r"\d\d-[\w-]+")
_LOCKLESS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # Lustre mounted without flock, NFS without its lock daemon
Progress = Callable[[str, int, int], None]


class StageResult(Struct, frozen=True, kw_only=True):
    """What became of all documents in one stage; `shards` are those that went on."""

    name: str
    folder: str
    shards: list[Shard]
    tally: tally.Tally


class Run(Struct, frozen=True, kw_only=True):
    """A whole run, as `run.json` holds it.

    Attributes:
        key: sha256 of the recipe, of the sources' files and of all that the stages read.
    """

    schema: str = "isoflop/data.run@1"
    recipe: DataRecipe
    key: str
    stages: list[StageResult]
    warnings: list[str]


def run(
    recipe: DataRecipe, out: Path, *, workers: int = 1, engine: str = "local", on_progress: Progress | None = None
) -> Run:
    """Do what the recipe says, or go on where it was left.

    Args:
        out: a new folder, or that of an earlier run; stages whose options and input are the same are not done again.
        on_progress: told the stage, shards done and shards in all.

    Raises:
        UsageError: a stage or option that is none, or `out` holds other things.
        InputError: no file in a source, or no document is left.
        ResourceError: no room, another run writes there, or a worker was killed.
    """
    ready_stages = ready(recipe)
    reads = read_tasks(files_of(recipe), recipe.limits, out)
    with claimed(out), engines.crew(engine, workers=workers) as workforce:
        return through(recipe, ready_stages, reads, out, Crew(workforce, on_progress, []))


def files_of(recipe: DataRecipe) -> list[File]:
    """The files of all sources, in order.

    Raises:
        InputError: no file in a source.
    """
    return [file for source in recipe.sources for file in source_files.find(source, folder=recipe.folder)]


def through(
    recipe: DataRecipe, ready_stages: Sequence[Stage], reads: Sequence[ReadTask], out: Path, crew: "Crew"
) -> Run:
    """All stages one after the other, each shard worked on or found done by the crew, and the result published.

    Raises:
        InputError: no document is left.
    """
    results = [_result("read", out / READ, crew.do("read", reads), [task.name for task in reads])]
    for stage in ready_stages:
        results.append(_stage(stage, results[-1], out, crew))
    made = Run(
        recipe=recipe, key=files.sha256_value([each.shards for each in results]), stages=results,
        warnings=[*_warnings(results), *_said(ready_stages)],
    )  # fmt: skip
    _publish(made, out, crew.times)
    if not results[-1].tally.kept.documents:
        raise InputError(f"{out}: no document is left; {_most_dropped(results)}. `isoflop data report {out}` shows why")
    return made


def load(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        InputError: the folder holds none.
    """
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder}: no finished run here; `isoflop data run recipe.toml --out {folder}` makes one")
    return files.read_json(folder / "run.json", Run)


class Time(Struct, frozen=True, kw_only=True):
    """What a stage took when it was last worked on.

    Attributes:
        folder: of the stage; one that judges the whole corpus has several passes in it.
        wall_s: from its first task to its last, of which there were `n_tasks` to do.
        cpu_s: of all workers.
    """

    folder: str
    stage: str
    n_tasks: int
    wall_s: float
    cpu_s: float


def times(folder: Path) -> list[Time]:
    """How long the stages of a finished run took; shards that were found done took nothing."""
    path = folder / "times.json"
    return files.read_json(path, list[Time]) if path.is_file() else []


class Crew(Struct, frozen=True):
    """Who does the tasks, who hears of it, and how long it took."""

    engine: Any
    on_progress: Progress | None
    times: list[Time]

    def do(self, stage: str, tasks: Sequence[Task]) -> list[Manifest]:
        """All of them, in the tasks' order."""
        made: dict[int, Manifest] = {}
        start, cpu_s, n_tasks = time.perf_counter(), 0.0, 0
        for number, done in self.engine.do(work, tasks):
            made[number] = done.manifest
            cpu_s, n_tasks = cpu_s + done.cpu_s, n_tasks + (done.cpu_s > 0)
            if self.on_progress:
                self.on_progress(stage, len(made), len(tasks))
        self.took(
            tasks[0].folder.name if tasks else "",
            stage,
            n_tasks=n_tasks,
            wall_s=time.perf_counter() - start,
            cpu_s=cpu_s,
        )
        return [made[number] for number in range(len(tasks))]

    def took(self, folder: str, stage: str, *, n_tasks: int, wall_s: float, cpu_s: float) -> None:
        """Note the time of one pass of a stage."""
        self.times.append(Time(folder=folder, stage=stage, n_tasks=n_tasks, wall_s=wall_s, cpu_s=cpu_s))

    @contextmanager
    def leading(self, folder: str, stage: str) -> Iterator[None]:
        """Time what the leading process does by itself."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.took(folder, stage, n_tasks=1, wall_s=time.perf_counter() - start, cpu_s=time.process_time() - cpu)


@contextmanager
def claimed(out: Path, *, shared: bool = False) -> Iterator[None]:
    """The folder is ours while this process lives: alone, or shared with other members of an array.

    Members rest nothing on the lock, which not every file system carries from machine to machine; it keeps a run of
    `data run` and an array apart where it does.

    Raises:
        UsageError: `out` is a file, or holds other things.
        ResourceError: no room, or another run writes there.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / ".lock").exists():
        raise UsageError(f"{out}: holds files that no run of a data recipe wrote; name a new folder")
    with files.disk(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = (out / ".lock").open("a")
    with handle:
        try:
            ours = taken(handle.fileno(), shared=shared)
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise
            ours = True
        if not ours:
            raise ResourceError(f"{out}: another run is writing here; wait for it, or name another folder")
        yield


def _stage(stage: Stage, before: StageResult, out: Path, crew: Crew) -> StageResult:
    folder = out / stage.folder
    noted: list[Manifest] = []
    said: list[Shard] = []
    if stage.corpus:
        notes = note_tasks(stage, out, before.folder, before.shards)
        noted = crew.do(f"{stage.name}: notes", notes)
        shutil.rmtree(folder / "scratch", ignore_errors=True)  # of a run that was killed: it may fill the disk
        said = verdicts(stage, notes, noted, before.shards, crew)
    tasks = stage_tasks(stage, out, before.folder, before.shards, said)
    return _result(stage.name, folder, crew.do(stage.name, tasks), [task.name for task in tasks], noted)


def verdicts(
    stage: Stage, notes: Sequence[NoteTask], noted: Sequence[Manifest], shards: Sequence[Shard], crew: Crew
) -> list[Shard]:
    """Judge the notes of all shards, or find them judged: a file of verdicts for each."""
    label = f"{stage.name}: judged"
    if (found := standing_verdicts(notes, noted)) is not None:
        crew.took(stage.folder, label, n_tasks=0, wall_s=0.0, cpu_s=0.0)
        return found
    if not isinstance(stage.started, Corpus):
        raise TypeError(f"stage {stage.name} judges each document for itself: it has no verdicts")
    with crew.leading(stage.folder, label):
        return judge(stage.started, notes, noted, [each.n_rows for each in shards])


def _result(
    name: str, folder: Path, made: Sequence[Manifest], names: Sequence[str], noted: Sequence[Manifest] = ()
) -> StageResult:
    """The stage's sum; shards of an earlier recipe are taken away."""
    mine = {each.file for manifest in (*made, *noted) for each in (*manifest.kept, *manifest.others)}
    mine |= {f"{place}/{each}.json" for place in ("done", "noted") for each in names}
    mine |= {f"verdicts/{each}.parquet" for each in names}
    for path in folder.glob("*/*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in mine:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    return StageResult(
        name=name,
        folder=folder.name,
        shards=[each for manifest in made for each in manifest.kept],
        tally=tally.total(manifest.tally for manifest in made),
    )


def _warnings(results: Sequence[StageResult]) -> Iterator[str]:
    """What a reader must hear although the run went on."""
    for reason, count in sorted(results[0].tally.dropped.items()):
        yield f"read: {count.documents:,} x {reason}{_example(results[0], reason)}"
    for each in results[1:]:
        for reason, count in sorted(each.tally.dropped.items()):
            if reason.startswith("error in "):
                yield f"{each.name}: {count.documents:,} x {reason}{_example(each, reason)}"
    if pages := results[-1].tally.pages:
        yield f"{pages:,} web pages have no text yet: give the recipe a stage that extracts it, such as visible"


def _said(ready_stages: Sequence[Stage]) -> Iterator[str]:
    """What stages themselves have to say."""
    for stage in ready_stages:
        for warning in getattr(stage.started, "warnings", ()):
            yield f"{stage.name}: {warning}"


def _example(result: StageResult, reason: str) -> str:
    shown = result.tally.samples[reason][0]
    return f", e.g. {shown.id}{f' ({shown.detail})' if shown.detail else ''}"


def _most_dropped(results: Sequence[StageResult]) -> str:
    """The commonest reasons of all stages in words."""
    counts = [(count.documents, each.name, reason) for each in results for reason, count in each.tally.dropped.items()]
    most = sorted(counts, key=lambda count: (-count[0], count[1:]))[:5]
    return "dropped: " + ", ".join(f"{n:,} x {reason} ({name})" for n, name, reason in most) if most else "none came in"


def _publish(made: Run, out: Path, took: Sequence[Time]) -> None:
    """The last stage's shards under `text/`, no byte of them twice, and what became of all."""
    folders = {each.folder for each in made.stages}
    for old in out.iterdir():
        if old.is_dir() and _STAGE.fullmatch(old.name) and old.name not in folders:
            shutil.rmtree(old)
    shutil.rmtree(out / PHASES, ignore_errors=True)
    text = out / "text"
    last = made.stages[-1]
    with files.disk(text):
        text.mkdir(exist_ok=True)
        wanted = {Path(each.file).name: each for each in last.shards if each.n_rows}
        for name, each in wanted.items():
            _linked(out / last.folder / each.file, text / name)
        for old in text.iterdir():
            if old.name not in wanted:
                old.unlink()
    before = {(each.folder, each.stage): each for each in times(out)}
    last_s = [each if each.n_tasks else before.get((each.folder, each.stage), each) for each in took]
    files.write_json(out / "times.json", last_s)
    files.write_json(out / "stamp.json", stamp.make({"run": made.key}))
    files.write_json(out / "run.json", msgspec.to_builtins(made, str_keys=True))


def _linked(shard_path: Path, name: Path) -> None:
    """One file under two names; a copy where the disk knows no links."""
    beside = name.with_name(f".{name.name}.tmp")
    beside.unlink(missing_ok=True)
    try:
        os.link(shard_path, beside)
    except OSError:
        shutil.copyfile(shard_path, beside)
    beside.replace(name)
    beside.unlink(missing_ok=True)  # a rename over the same file does nothing and leaves both names
