"""A recipe's sources through its stages, shard by shard: resumable, bounded in memory, the same bytes on any machine.

OUT/00-read/       kept/*.parquet   what goes on          01-<stage>/, 02-<stage>/ ... have the same
                   dropped/*.parquet  what does not, with the reason
                   done/*.json      manifests: made from what, sha256 of each file, counts
OUT/text/          the last stage's shards, ready for `isoflop data tokenize`
OUT/run.json       recipe, counts, samples: what `isoflop data report` shows
OUT/stamp.json     who made it and when;  times.json: how long each stage took
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from isoflop import files, stamp
from isoflop.data import engines, source_files, stages, table, tally
from isoflop.data.shard_work import Manifest, NoteTask, ReadTask, Shard, StageTask, Task, finished, shard, work
from isoflop.data.source_files import File
from isoflop.data.stages import Corpus, PerDocument, Step
from isoflop.errors import InputError, ResourceError, UsageError
from isoflop.specs.data_recipe import DataRecipe

READER_VERSION = 1
_STAGE = re.compile(r"\d\d-[\w-]+")
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
    steps = [stages.step(each, limits=recipe.limits, folder=recipe.folder) for each in recipe.stages]
    keys = [stages.key(step) for step in steps]
    # Started here once, so that a wrong option or a missing package is told before hours of work, not after.
    started = [step.start() for step in steps]
    found = [file for source in recipe.sources for file in source_files.find(source, folder=recipe.folder)]
    with _claimed(out), engines.crew(engine, workers=workers) as workforce:
        crew = _Crew(workforce, on_progress, [])
        results = [_read(found, recipe, out, crew)]
        for number, (step, stage, key) in enumerate(zip(steps, started, keys, strict=True), 1):
            results.append(_stage(step, stage, key, results[-1], out / f"{number:02d}-{step.name}", crew))
        made = Run(
            recipe=recipe, key=files.sha256_value([each.shards for each in results]), stages=results,
            warnings=[*_warnings(results), *_said(steps, started)],
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


class _Crew(Struct, frozen=True):
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
def _claimed(out: Path) -> Iterator[None]:
    """The folder is ours alone, while this process lives."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / ".lock").exists():
        raise UsageError(f"{out}: holds files that no run of a data recipe wrote; name a new folder")
    with files.disk(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = (out / ".lock").open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(f"{out}: another run is writing here; wait for it, or name another folder") from None
        yield


def _read(found: Sequence[File], recipe: DataRecipe, out: Path, crew: _Crew) -> StageResult:
    folder = out / "00-read"
    tasks = []
    for number, group in enumerate(_groups(found, recipe.limits.shard_bytes)):
        key = files.sha256_value(["read", READER_VERSION, recipe.limits, group])
        name = f"{number:05d}"
        tasks.append(ReadTask(folder=folder, name=name, key=key, files=tuple(group), limits=recipe.limits))
    return _result("read", folder, crew.do("read", tasks), [task.name for task in tasks])


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


def _stage(
    step: Step, started: PerDocument | Corpus, key: dict[str, Any], before: StageResult, folder: Path, crew: _Crew
) -> StageResult:
    came = folder.parent / before.folder
    names = [Path(each.file).stem for each in before.shards]
    stage_key = files.sha256_value(key)
    keys = [files.sha256_value([stage_key, each.sha256]) for each in before.shards]
    verdicts: list[Path | None] = [None] * len(names)
    noted: list[Manifest] = []
    if isinstance(started, Corpus):
        notes = [
            NoteTask(folder=folder, name=name, key=made_of, stage_key=stage_key, step=step, shard=came / each.file)
            for name, made_of, each in zip(names, keys, before.shards, strict=True)
        ]
        noted = crew.do(f"{step.name}: notes", notes)
        with crew.leading(folder.name, f"{step.name}: judged"):
            judged = _judged(started, notes, noted, [each.n_rows for each in before.shards])
        verdicts = [folder / each.file for each in judged]
        keys = [files.sha256_value([made_of, each.sha256]) for made_of, each in zip(keys, judged, strict=True)]
    tasks = [
        StageTask(
            folder=folder,
            name=name,
            key=made_of,
            stage_key=stage_key,
            step=step,
            shard=came / each.file,
            verdicts=verdict,
        )
        for name, made_of, each, verdict in zip(names, keys, before.shards, verdicts, strict=True)
    ]
    return _result(step.name, folder, crew.do(step.name, tasks), names, noted)


def _judged(stage: Corpus, notes: Sequence[NoteTask], noted: Sequence[Manifest], n_rows: Sequence[int]) -> list[Shard]:
    """Verdicts beside the notes, a file for each shard; judged once for the same notes."""
    if not notes:
        return []
    folder = notes[0].folder
    key = files.sha256_value([each.key for each in noted])
    done = folder / "judged.json"
    if found := finished(done, folder, key):
        return found.others
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
    files.write_json(done, Manifest(key=key, kept=[], others=made, tally=tally.empty()))
    return made


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder while it is needed."""
    with files.disk(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(
    name: str, folder: Path, made: Sequence[Manifest], names: Sequence[str], noted: Sequence[Manifest] = ()
) -> StageResult:
    """The stage's sum; shards of an earlier recipe are taken away."""
    mine = {each.file for manifest in (*made, *noted) for each in (*manifest.kept, *manifest.others)}
    mine |= {f"{place}/{each}.json" for place in ("done", "noted") for each in names}
    mine |= {f"verdicts/{each}.parquet" for each in names}
    for path in folder.glob("*/*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in mine:
            path.unlink()
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


def _said(steps: Sequence[Step], started: Sequence[PerDocument | Corpus]) -> Iterator[str]:
    """What stages themselves have to say."""
    for step, stage in zip(steps, started, strict=True):
        for warning in getattr(stage, "warnings", ()):
            yield f"{step.name}: {warning}"


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
