"""Many runs at once: the longest chain of work first, one worker per place, nothing lost when the plug is pulled.

The state is what lies in the run folders. A sweep started again looks there: runs that ended are skipped by key,
a run in the middle goes on from its checkpoint, and the answer is the same list.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import IsoflopError, ResourceError
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import executors, store
from isoflop.train.branch import Rung
from isoflop.train.crew import Crew
from isoflop.train.events import Event
from isoflop.train.executors import Asked, Hand
from isoflop.train.interrupt import listening
from isoflop.train.lock import locked
from isoflop.train.pace import Pace
from isoflop.train.packing import Packing, needs_bytes
from isoflop.train.places import Place, Places, check_threads
from isoflop.train.protocol import Ended, Message, Taken, Told, Train
from isoflop.train.team import alone

Kind: TypeAlias = Literal[
    "skipped", "started", "step", "evaluation", "note", "retry", "finished", "diverged", "failed", "tick"
]
_TICK_S = 0.25
_DEATHS = 2  # a second death is the run's own doing


class SweepEvent(Struct, frozen=True, kw_only=True):
    """Something happened to one run, and where the whole sweep stands.

    Attributes:
        run_id: the run's folder.
        step, steps: of its recipe, which counts a branch's from the beginning of its trunk.
        kind: what happened; "retry" after its worker died, "note" for people (see `reason`), "tick" for nothing.
        loss_nats: of the batch in a "step", of the validation text in an "evaluation" and when "finished".
        tokens_per_s, mfu: of this run.
        reason: one sentence, where it did not go as planned.
        done, total: runs.
        fraction: share of the sweep's FLOP done, skipped runs included.
        flop_per_s: of all workers together in this sweep.
        eta_s: seconds left at that rate; None while there is none.
    """

    run_id: str
    kind: Kind
    step: int
    steps: int
    loss_nats: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    reason: str = ""
    done: int
    total: int
    fraction: float
    flop_per_s: float | None = None
    eta_s: float | None = None


def sweep(
    rungs: Sequence[Rung],
    *,
    runs_dir: Path,
    workers: int,
    threads: int,
    peak_flop_per_s: float | None,
    on_event: Callable[[SweepEvent], None],
    executor: str = executors.USUAL,
    settings: Mapping[str, str] | None = None,
    per_gpu: int = 1,
) -> list[Run]:
    """Train every rung; what ended before is skipped, what was interrupted goes on.

    A branch begins when its trunk has saved the checkpoint it branches off, while the trunk trains on. A worker that
    dies takes its run with it once: the run goes on from its checkpoint on a fresh worker, and if that one dies too the
    run is `failed` and the others go on. A worker lost before it took its run costs the run nothing. So has a branch
    failed whose trunk ended before its step. Diverged and failed runs are returned like the others; the status tells.

    Args:
        rungs: recipes and branches, in any order; what the longest chain of work hangs on is started first.
        runs_dir: one folder `<name>-<key>` per run is written here, and `runs.jsonl` after each end of a run.
        workers: processes at once.
        threads: of each; it must be every recipe's own, as it decides the last digits.
        peak_flop_per_s: of one worker while all are busy (`meter.Machine.peak`), for MFU.
        executor: where the workers are; a name in `train.executors`.
        settings: of that executor, by name.
        per_gpu: workers that share a GPU; runs that are predicted not to fit beside each other wait.

    Returns:
        The run of each rung, in the order given.

    Raises:
        StoppedError: Ctrl-C; every worker has saved and ended.
        PreemptedError: SIGTERM, likewise.
        ResourceError: no room on the disk, or another sweep is at work in this folder.
        UsageError: `threads` is not what a recipe says, or the executor cannot be had, or torchrun started several.
    """
    alone("a sweep")
    executors.check(executor)
    check_threads(rungs, threads=threads)
    with locked(runs_dir) as lock:
        places = Places(rungs, runs_dir=runs_dir)
        work = _Sweep(places, runs_dir=runs_dir, on_event=on_event)
        work.announce_skipped()
        work.give_up_orphans()
        if ahead := work.ahead():
            if find_spec("torch") is None:
                raise ModuleNotFoundError("training needs torch", name="torch")
            gpu = any(place.recipe.device != "cpu" for place in ahead)
            asked = Asked(
                workers=min(workers, len(ahead)),
                threads=threads,
                runs_dir=runs_dir,
                gpu=gpu,
                per_gpu=per_gpu,
                needs_bytes=max(needs_bytes(place.recipe, kind="cuda" if gpu else "cpu") for place in ahead),
                keep=lock,
                settings=settings or {},
            )
            with listening() as wish:
                with Crew(executors.start(executor, asked), seats=asked.workers) as crew:
                    work.run(crew, peak_flop_per_s=peak_flop_per_s, should_stop=lambda: bool(wish))
                if wish:
                    raise wish.error(f"with all runs saved in {runs_dir}")
        work.write()
        return [place.run for place in places.asked if place.run is not None]


class _Sweep:
    """The loop between the crew and the places."""

    def __init__(self, places: Places, *, runs_dir: Path, on_event: Callable[[SweepEvent], None]) -> None:
        self.places, self.runs_dir, self.on_event = places, runs_dir, on_event
        self.at: dict[Hand, Place] = {}
        self.pace = Pace()
        self.lost = 0  # workers since the last that took a run
        self.earlier = store.read_sweep(runs_dir)

    def announce_skipped(self) -> None:
        """Say which runs had ended before."""
        for place in self.places.all:
            if place.run is not None and place.skipped:
                self.tell(place, "skipped", loss_nats=place.run.loss_nats)

    def ahead(self) -> list[Place]:
        """What is left to train or in hand."""
        return [place for place in self.places.all if not place.over]

    def next(self, fits: Callable[[Recipe], bool]) -> Place | None:
        """What to start now: what died goes first, then what the longest chain of work hangs on.

        A long run started last would keep one core busy alone. One that does not fit is passed over by smaller ones,
        but not for ever: after as many times as there are workers, the next waits with it until there is room.
        """
        free = [place for place in self.ahead() if place not in self.at.values()]
        free.sort(key=lambda place: (place.deaths > 0, place.ahead_flop), reverse=True)
        passed: list[Place] = []
        for place in filter(self._ready, free):
            if fits(place.recipe):
                for other in passed:
                    other.passed_over += 1
                return place
            if place.passed_over >= len(self.at):
                break
            passed.append(place)
        return None

    def _ready(self, place: Place) -> bool:
        """Whether it can begin; what turns out to have its end gets it."""
        trunk = place.trunk
        if trunk is not None:
            if not place.known and not trunk.over and trunk.step < place.begins:
                return False
            if not self.places.look(place):
                return False
        twin = self.places.twin(place)
        found = place.run if place.over else twin.run if twin is not None and twin.over else None
        if found is not None:
            self._ended(place, found)
        return found is None and (twin is None or twin not in self.at.values())

    def run(self, crew: Crew, *, peak_flop_per_s: float | None, should_stop: Callable[[], bool]) -> None:
        """Until nothing is ahead and nobody at work, or it shall stop.

        Raises:
            IsoflopError: one worker after the other is lost before it takes a run.
            ResourceError: the disk is full.
        """
        idle, packing = list(crew.workers), Packing(crew.room_bytes)
        while self.ahead() and not should_stop():
            for worker in list(idle):
                beside = [place.recipe for other, place in self.at.items() if other.memory == worker.memory]
                if (place := self.next(partial(packing.fits, memory=worker.memory, beside=beside))) is None:
                    continue
                idle.remove(worker)
                self.at[worker] = place
                place.begun_at, place.taken, place.orderly = place.step, False, False
                worker.send(Train(folder=str(place.folder), recipe=place.recipe, peak_flop_per_s=peak_flop_per_s))
            mail = crew.mail(seconds=_TICK_S)
            if mail is None:
                for place in self.at.values():
                    self.tell(place, "tick")
                continue
            worker, message = mail
            if message is None:
                idle = [other for other in idle if other is not worker]
                if (left := self.at.pop(worker, None)) is not None:
                    self._died(left, worker)
                if (left is not None and not left.taken) or worker.ready is None:
                    self._lost(worker, seats=len(crew.workers))
                if len(self.ahead()) > len(self.at) + len(idle):
                    idle.append(crew.replace(worker))
            elif (run := self._heard(self.at.get(worker), message)) is not None:
                self._ended(self.at.pop(worker), run)
                idle.append(worker)

    def _heard(self, place: Place | None, message: Message) -> Run | None:
        """Take in a message about a run; the run, if it is over.

        Raises:
            ResourceError: the disk is full; what is begun goes on when there is room again.
        """
        match message:
            case Taken() if place is not None:
                place.taken, self.lost = True, 0
            case Told(event=event) if place is not None:
                self._told(place, event)
            case Ended(disk=True):
                raise ResourceError(message.reason)
            case Ended(status="finished" | "diverged" | "failed" as status) if place is not None:
                return message.run or place.give_up(status=status, note=message.reason)
            case Ended() if place is not None:
                place.orderly = True  # someone stopped the worker and not us: its end follows, and another try
            case _:
                pass
        return None

    def _told(self, place: Place, event: Event) -> None:
        new_steps = 0 if event.kind == "started" else max(0, event.step - place.step)  # a checkpoint is no work of ours
        self.pace.add(place.flop * new_steps / place.steps)
        place.step = event.step if event.kind == "started" else max(place.step, event.step)  # a run may go back
        place.tokens_per_s = event.tokens_per_s or place.tokens_per_s
        if event.kind == "saved":
            for branch in place.branches:
                if branch.begins == event.step and branch.over:
                    self.places.look(branch)  # the trunk had gone back: that branch was of a past that is no more
        elif event.kind != "done":  # `Ended` follows, with the run
            self.tell(place, event.kind, loss_nats=event.loss_nats, mfu=event.mfu, reason=event.text)

    def _ended(self, place: Place, run: Run) -> None:
        place.end(run)
        self.write()
        self.tell(place, _kind(run), loss_nats=run.loss_nats, mfu=run.mfu, reason=run.note)
        if place.trunk is not None:
            self.places.look(place)  # of another state of its trunk by now?
        if place.branches:
            self.give_up_orphans()

    def give_up_orphans(self) -> None:
        """Branches whose trunk is over and keeps no checkpoint of their step have failed."""
        for place in self.ahead():
            orphaned = place.trunk is not None and place.trunk.over and place not in self.at.values()
            if orphaned and not self.places.look(place):
                self._ended(place, place.give_up(status="failed", note=_orphaned(place)))

    def _died(self, place: Place, worker: Hand) -> None:
        """A worker died with a run, which is tried again once; more often where it got on and saved, or never began."""
        reason = worker.obituary()
        place.deaths += place.taken and not (place.orderly and place.step > place.begun_at)
        if place.deaths < _DEATHS:
            self.tell(place, "retry", reason=reason)
        else:
            self._ended(place, place.give_up(status="failed", note=f"{reason}, on the second try too"))

    def _lost(self, worker: Hand, *, seats: int) -> None:
        """A worker died without having begun. All seats may be lost with one node; the one after them says that more
        would be.

        Raises:
            IsoflopError: it was that one.
        """
        self.lost += 1
        if self.lost > seats:
            raise IsoflopError(f"{self.lost} workers were lost before they took a run; the last: {worker.obituary()}")

    def write(self) -> None:
        """`runs.jsonl`: every run of this sweep that there is by now, then those of earlier sweeps in this folder."""
        ours = {place.run.key: place.run for place in self.places.all if place.run is not None}
        keys = {place.key for place in self.places.all} | self.places.void
        store.write_sweep(self.runs_dir, [*ours.values(), *(run for run in self.earlier if run.key not in keys)])

    def tell(
        self, place: Place, kind: Kind, *, loss_nats: float | None = None, mfu: float | None = None, reason: str = ""
    ) -> None:
        """Report what happened and where everything stands."""
        total = sum(p.flop for p in self.places.all)
        done = sum(p.done_flop for p in self.places.all)
        rate = self.pace.flop_per_s()
        self.on_event(
            SweepEvent(
                run_id=place.folder.name,
                kind=kind,
                step=place.step,
                steps=place.recipe.steps,
                loss_nats=loss_nats,
                tokens_per_s=place.tokens_per_s,
                mfu=mfu,
                reason=reason,
                done=sum(p.over for p in self.places.all),
                total=len(self.places.all),
                fraction=done / total if total else 1.0,
                flop_per_s=rate,
                eta_s=self.eta_s(ahead_flop=total - done, flop_per_s=rate),
            )
        )

    def eta_s(self, *, ahead_flop: float, flop_per_s: float | None) -> float | None:
        """Seconds left: all work at the common rate, but never less than the longest run in hand needs by itself."""
        if not flop_per_s:
            return None
        alone = [
            (p.flop - p.done_flop) / (p.tokens_per_s * p.flop / (p.steps * p.recipe.batch_tokens))
            for p in self.at.values()
            if p.tokens_per_s
        ]
        return max([ahead_flop / flop_per_s, *alone])


def _orphaned(place: Place) -> str:
    """Why a branch cannot begin any more."""
    trunk = place.trunk
    assert trunk is not None
    if trunk.run is not None and trunk.run.status != "finished":
        return f"its trunk {trunk.folder.name} ended at step {trunk.step}, before {place.begins}: {trunk.run.note}"
    return (
        f"its trunk {trunk.folder.name} keeps no whole checkpoint of step {place.begins}; remove its folder, and it is "
        "trained again"
    )


def _kind(run: Run) -> Kind:
    """What to tell of a run that is over."""
    return run.status if run.status == "finished" or run.status == "diverged" else "failed"
