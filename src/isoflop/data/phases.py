"""A data recipe on many machines that share a file system: phases, each begun when the one before has ended.

No member of a phase waits for another one, so a scheduler may start few or many of them at a time, in any order, and
start any of them again. Phases take turns:

    many processes   read the sources; later, each shard through all stages that judge a document by itself, and notes
                     for the next stage that judges the whole corpus. Member i of N has every N-th shard.
    one process      sees that all shards are there, judges the notes, and leaves OUT/phases/<number>.json, which the
                     next members begin from; the last such phase publishes what `isoflop data run` publishes.

What is asked of the file system: a rename is whole, and who starts after another has ended sees what that one wrote.
Locks are not needed. A shard is written under a name of its own and renamed, by whoever: the bytes are the same.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from isoflop import files
from isoflop.data import engines, pipeline
from isoflop.data.pipeline import Crew, Progress, Run, Time
from isoflop.data.shard_work import Done, Manifest, NoteTask, ReadTask, Shard, StageTask, Task, standing
from isoflop.data.stage_tasks import READ, Stage, note_tasks, read_tasks, ready, stage_tasks
from isoflop.errors import InputError, UsageError
from isoflop.specs.data_recipe import DataRecipe

_SHOWN = 10  # shards that a message names
_Begun = TypeVar("_Begun", StageTask, NoteTask)


class Phase(Struct, frozen=True, kw_only=True):
    """What is done without waiting; `members` is False where one process does it."""

    name: str
    members: bool


class Part(Struct, frozen=True, kw_only=True):
    """A member's share of a phase, done.

    Attributes:
        number, n_phases: of the phase, from 1.
        n_shards: in this share.
        n_worked: of the shards' stages, done now; the others were found done.
    """

    number: int
    n_phases: int
    name: str
    part: int
    n_parts: int
    n_shards: int
    n_worked: int


class _Leg(Struct, frozen=True):
    """What a shard goes through without waiting for others: stages, of which the first may be one whose verdicts are
    there, then the notes of one that judges the whole corpus.
    """

    stages: tuple[Stage, ...]
    notes: Stage | None


class _Ledger(Struct, frozen=True, kw_only=True):
    """What one process leaves for the members that begin after it.

    Attributes:
        key: sha256 of the stages and of the ledger before.
        folder: of the stage whose shards these are.
        verdicts: one for each shard, for the first stage of the leg; empty where that judges each document by itself.
    """

    key: str
    folder: str
    shards: list[Shard]
    verdicts: list[Shard]


def phases(recipe: DataRecipe) -> list[Phase]:
    """The phases of a recipe, in order.

    Raises:
        UsageError, InputError: as `pipeline.run` for a recipe that cannot be run.
    """
    return _named(_legs(ready(recipe)))


def run(
    recipe: DataRecipe, out: Path, *, number: int, n_phases: int | None = None, part: int = 1, n_parts: int = 1,
    workers: int = 1, engine: str = "local", on_progress: Progress | None = None,
) -> Part | Run:  # fmt: skip
    """Do a member's part of a phase, or go on where it was left.

    Args:
        number: of the phase, from 1.
        n_phases: how many the caller takes the recipe to have.
        part: from 1.

    Returns:
        The whole run after the last phase.

    Raises:
        UsageError: no such phase or part, or the recipe has another number of phases.
        InputError: the phase before is not finished (the missing shards are named), or its shards are damaged; after
            the last one, no document is left.
        ResourceError: no room, or a worker was killed.
    """
    array = _Array(recipe, out)
    array.check(number, n_phases, part, n_parts)
    with pipeline.claimed(out, shared=True), engines.crew(engine, workers=workers) as workforce:
        if number == len(array.phases):
            return array.publish(on_progress)
        crew = Crew(workforce, on_progress, [])
        if array.phases[number - 1].members:
            n_shards = array.work(number, part - 1, n_parts, crew)
        else:
            n_shards = array.gather(number, crew)
        files.write_json(out / pipeline.PHASES / f"times-{number}-{part}-{n_parts}.json", crew.times)
    return Part(
        number=number, n_phases=len(array.phases), name=array.phases[number - 1].name, part=part, n_parts=n_parts,
        n_shards=n_shards, n_worked=sum(each.n_tasks for each in crew.times),
    )  # fmt: skip


def _legs(stages: Sequence[Stage]) -> list[_Leg]:
    legs = []
    own: list[Stage] = []
    for stage in stages:
        if stage.corpus:
            legs.append(_Leg(tuple(own), stage))
            own = []
        own.append(stage)
    return [*legs, _Leg(tuple(own), None)] if own else legs


def _named(legs: Sequence[_Leg]) -> list[Phase]:
    found = [Phase(name="read", members=True)]
    before = "list what was read"
    for leg in legs:
        found.append(Phase(name=before, members=False))
        notes = [f"notes for {leg.notes.name}"] if leg.notes else []
        found.append(Phase(name=", ".join([*(each.name for each in leg.stages), *notes]), members=True))
        before = f"judge for {leg.notes.name}" if leg.notes else ""
    return [*found, Phase(name="publish", members=False)]


class _Array:
    """A recipe's phases and the folder they work in. Phase 1 reads; leg i, from 0, is phase 2 i + 3, its ledger is
    made by the phase before.
    """

    def __init__(self, recipe: DataRecipe, out: Path) -> None:
        self.recipe = recipe
        self.out = out
        self.stages = ready(recipe)
        self.legs = _legs(self.stages)
        self.phases = _named(self.legs)

    def check(self, number: int, n_phases: int | None, part: int, n_parts: int) -> None:
        """Refuse what is no phase of the recipe or no part of the phase."""
        n = len(self.phases)
        if n_phases not in (None, n):
            raise UsageError(f"--phase {number}/{n_phases}: the recipe has {n} phases; it has changed since, emit anew")
        if not 1 <= number <= n:
            listed = ", ".join(f"{i} {each.name}" for i, each in enumerate(self.phases, 1))
            raise UsageError(f"--phase {number}: the phases are {listed}")
        if not 1 <= part <= n_parts:
            raise UsageError(f"--part {part}/{n_parts}: parts are 1/{n_parts} to {n_parts}/{n_parts}")
        if n_parts > 1 and not self.phases[number - 1].members:
            raise UsageError(
                f"--part {part}/{n_parts}: phase {number} ({self.phases[number - 1].name}) is one process's"
            )

    def work(self, number: int, part: int, n_parts: int, crew: Crew) -> int:
        """A member's shards of a phase; how many they are. `part` counts from 0."""
        if number == 1:
            tasks = self._read_tasks()[part::n_parts]
            crew.do("read", tasks)
            return len(tasks)
        leg = (number - 3) // 2
        whole = self._ledger(leg)
        own = replace(whole, shards=whole.shards[part::n_parts], verdicts=whole.verdicts[part::n_parts])
        self._walk(leg, own, crew)
        return len(own.shards)

    def gather(self, number: int, crew: Crew) -> int:
        """See that the phase before is done, judge, and leave the ledger of the next leg; how many shards it has."""
        leg = (number - 2) // 2
        found = self._found(leg)
        verdicts: list[Shard] = []
        if stage := self.legs[leg - 1].notes if leg else None:
            verdicts = pipeline.verdicts(stage, found.notes, found.noted, found.shards, crew)
        ledger = _Ledger(key=self._key(leg), folder=found.folder, shards=found.shards, verdicts=verdicts)
        files.write_json(self._path(leg), ledger)
        return len(found.shards)

    def publish(self, on_progress: Progress | None) -> Run:
        """What `data run` leaves, from shards that all stand."""
        tasks = self._read_tasks()
        self._sum_times()
        return pipeline.through(self.recipe, self.stages, tasks, self.out, Crew(_Standing(self), on_progress, []))

    def phase_of(self, task: Task) -> int:
        """Number of the phase that does it."""
        if isinstance(task, ReadTask):
            return 1
        for leg, each in enumerate(self.legs):
            doers = [each.notes] if isinstance(task, NoteTask) else each.stages
            if any(stage is not None and stage.folder == task.folder.name for stage in doers):
                return 2 * leg + 3
        raise AssertionError(f"no phase does {task.folder.name}")

    def said(self, number: int) -> str:
        """A phase in words."""
        return f"phase {number}/{len(self.phases)} ({self.phases[number - 1].name})"

    def _read_tasks(self) -> list[ReadTask]:
        return read_tasks(pipeline.files_of(self.recipe), self.recipe.limits, self.out)

    def _found(self, leg: int) -> "_Found":
        """All that stands when the leg begins, but for verdicts.

        Raises:
            InputError: some of it is missing.
        """
        crew = Crew(_Standing(self), None, [])
        if leg:
            return self._walk(leg - 1, self._ledger(leg - 1), crew)
        made = crew.do("read", self._read_tasks())
        return _Found(READ, [each for manifest in made for each in manifest.kept], [], [])

    def _walk(self, leg: int, ledger: _Ledger, crew: Crew) -> "_Found":
        """Shards through a leg; those that it begins with are checked before they are read."""
        folder, shards = ledger.folder, ledger.shards
        sha256 = [each.sha256 for each in shards]
        for stage in self.legs[leg].stages:
            tasks = stage_tasks(stage, self.out, folder, shards, ledger.verdicts)
            made = crew.do(stage.name, _checked(tasks, sha256))
            folder, shards, sha256 = stage.folder, [each for manifest in made for each in manifest.kept], []
        last = self.legs[leg].notes
        if last is None:
            return _Found(folder, shards, [], [])
        notes = note_tasks(last, self.out, folder, shards)
        return _Found(folder, shards, notes, crew.do(f"{last.name}: notes", _checked(notes, sha256)))

    def _ledger(self, leg: int) -> _Ledger:
        path, number = self._path(leg), 2 * leg + 2
        if not path.is_file():
            self._found(leg)  # names what is missing before that
            raise InputError(f"{self.out}: {self.said(number)} is not done; it comes first, as one process")
        found = files.read_json(path, _Ledger)
        if found.key != self._key(leg):
            raise InputError(
                f"{path}: made for another recipe, or a phase before it was done again; do {self.said(number)} again"
            )
        return found

    def _key(self, leg: int) -> str:
        before = self._path(leg - 1)
        made_of = files.sha256_file(before) if before.is_file() else ""
        return files.sha256_value([leg, [stage.key for stage in self.stages], made_of])

    def _path(self, leg: int) -> Path:
        return self.out / pipeline.PHASES / f"{2 * leg + 2}.json"

    def _sum_times(self) -> None:
        """The members' times, where the last phase finds them: the longest, and all their processors' seconds."""
        sums = {(each.folder, each.stage): each for each in pipeline.times(self.out)}
        own: dict[tuple[str, str], Time] = {}
        for path in sorted((self.out / pipeline.PHASES).glob("times-*.json")):
            for each in files.read_json(path, list[Time]):
                so_far = own.get((each.folder, each.stage), each)
                own[each.folder, each.stage] = each if so_far is each else _both(so_far, each)
        sums |= {key: each for key, each in own.items() if each.n_tasks}
        files.write_json(self.out / "times.json", list(sums.values()))


class _Found(Struct, frozen=True):
    """Shards that stand, the folder of the stage that wrote them, and the notes for the stage after it."""

    folder: str
    shards: list[Shard]
    notes: list[NoteTask]
    noted: list[Manifest]


class _Standing:
    """An engine that works on nothing and finds what members have done."""

    def __init__(self, array: _Array) -> None:
        self.array = array

    def do(self, work: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Done]]:
        """Manifests of all tasks.

        Raises:
            InputError: names those that are missing.
        """
        missing = []
        for number, task in enumerate(tasks):
            if found := standing(task):
                yield number, Done(found, 0.0)
            else:
                missing.append(task)
        if missing:
            more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
            names = ", ".join(each.name for each in missing[:_SHOWN])
            phase = self.array.said(self.array.phase_of(missing[0]))
            raise InputError(
                f"{missing[0].folder}: {len(missing):,} of {len(tasks):,} shards are missing, or made from something "
                f"else: {names}{more}. Do {phase} again, every part: what is done is not done twice"
            )


def _checked(tasks: list[_Begun], sha256: Sequence[str]) -> list[_Begun]:
    """With the sha256 of the shard that each begins with; as they are where this process wrote those itself."""
    return [replace(task, sha256=each) for task, each in zip(tasks, sha256, strict=True)] if sha256 else tasks


def _both(one: Time, other: Time) -> Time:
    """The times of two members of one phase."""
    return replace(
        one, n_tasks=one.n_tasks + other.n_tasks, wall_s=max(one.wall_s, other.wall_s), cpu_s=one.cpu_s + other.cpu_s
    )
