"""Many runs on one machine: longest first, one worker process per place, nothing lost when the plug is pulled.

The state is what lies in the run folders. A sweep started again looks there: runs that ended are skipped by key,
a run in the middle goes on from its checkpoint, and the answer is the same list.
"""

from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct, structs

from isoflop import files
from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token
from isoflop.data.shards import open_shards
from isoflop.errors import IsoflopError, UsageError
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run, Status
from isoflop.train import store
from isoflop.train.cores import cores
from isoflop.train.crew import Crew, Worker
from isoflop.train.events import Event
from isoflop.train.interrupt import listening
from isoflop.train.lock import locked
from isoflop.train.pace import Pace
from isoflop.train.protocol import Ended, Message, Told, Train

Kind: TypeAlias = Literal[
    "skipped", "started", "step", "evaluation", "note", "retry", "finished", "diverged", "failed", "tick"
]
ENDED: frozenset[str] = frozenset({"finished", "diverged"})
_TICK_S = 0.25
_DEATHS = 2  # a second death is the run's own doing


class SweepEvent(Struct, frozen=True, kw_only=True):
    """Something happened to one run, and where the whole sweep stands.

    Attributes:
        run_id: the run's folder.
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


class Place:
    """One run of the sweep and where it stands. The only mutable thing here; it lives inside `sweep`."""

    def __init__(self, recipe: Recipe, *, key: str, folder: Path) -> None:
        self.recipe, self.key, self.folder = recipe, key, folder
        self.flop = flop_per_text_token(recipe) * recipe.steps * recipe.batch_tokens
        self.run = store.read(folder)
        if self.run is not None and self.run.key != key:
            self.run = None
        self.skipped = self.over = self.run is not None and self.run.status in ENDED
        self.step = recipe.steps if self.over else 0
        self.deaths = 0
        self.tokens_per_s: float | None = None

    @property
    def done_flop(self) -> float:
        """Work behind it, that of a run given up included: it is not ahead any more."""
        return self.flop if self.over else self.flop * self.step / self.recipe.steps


def run_id(recipe: Recipe, *, key: str) -> str:
    """Readable and stable: the recipe's name and the beginning of its key, e.g. `n98k-d2M-1a2b3c4d`."""
    readable = "".join(c if c.isalnum() or c in "._-" else "-" for c in recipe.name).strip(".-") or "run"
    return f"{readable[:80]}-{key[:8]}"


def sweep(
    recipes: Sequence[Recipe],
    *,
    runs_dir: Path,
    workers: int,
    threads: int,
    peak_flop_per_s: float | None,
    on_event: Callable[[SweepEvent], None],
) -> list[Run]:
    """Train every recipe; what ended before is skipped, what was interrupted goes on.

    A worker that dies takes its run with it once: the run goes on from its checkpoint on a fresh worker, and if that
    one dies too the run is `failed` and the others go on. Diverged and failed runs are returned like the others; the
    status tells.

    Args:
        recipes: in any order; the most work is started first.
        runs_dir: one folder `<name>-<key>` per run is written here, and `runs.jsonl` after each end of a run.
        workers: processes at once.
        threads: of each; it must be every recipe's own, as it decides the last digits.
        peak_flop_per_s: of one worker while all are busy (`meter.Machine.peak`), for MFU.

    Returns:
        The run of each recipe, in the order given.

    Raises:
        StoppedError: Ctrl-C; every worker has saved and ended.
        PreemptedError: SIGTERM, likewise.
        ResourceError: no room on the disk, or another sweep is at work in this folder.
        UsageError: `threads` is not what a recipe says.
    """
    for recipe in recipes:
        if recipe.threads != threads:
            raise UsageError(
                f"sweep: recipe {recipe.name!r} is for {recipe.threads} threads, the workers have {threads}"
            )
    with locked(runs_dir) as lock:
        places = _places(recipes, runs_dir)
        work = _Sweep(list({place.folder: place for place in places}.values()), runs_dir=runs_dir, on_event=on_event)
        work.announce_skipped()
        if ahead := work.ahead():
            if find_spec("torch") is None:
                raise ModuleNotFoundError("training needs torch", name="torch")
            slices = cores().slices(workers=workers, threads=threads)[: len(ahead)]
            with listening() as wish:
                with Crew(threads=threads, slices=slices, keep=lock) as crew:
                    work.run(crew, ahead, peak_flop_per_s=peak_flop_per_s, should_stop=lambda: bool(wish))
                if wish:
                    raise wish.error(f"with all runs saved in {runs_dir}")
        work.write()
        return [place.run for place in places if place.run is not None]


def _places(recipes: Sequence[Recipe], runs_dir: Path) -> list[Place]:
    """Each recipe with its folder: the one that holds a run of its key already, else a new one by its name."""
    known = {s.run.key: Path(s.folder) for s in store.scan(runs_dir).stored if s.run.key and s.folder}
    data = {shards: open_shards(Path(shards)).content_sha256 for shards in {recipe.shards for recipe in recipes}}
    places: dict[str, Place] = {}
    asked = []
    for recipe in recipes:
        key = recipe.key(data_sha256=data[recipe.shards])
        if key not in places:
            places[key] = Place(recipe, key=key, folder=known.get(key, runs_dir / run_id(recipe, key=key)))
        asked.append(places[key])
    return asked


def _given_up(place: Place, *, status: Status, note: str) -> Run:
    """Write the record of a run whose trainer left none, or only that it had begun.

    Raises:
        ResourceError: no room on the disk.
    """
    recipe, begun = place.recipe, store.read(place.folder)
    if begun is None or begun.key != place.key:
        begun = Run(
            id=place.folder.name,
            key=place.key,
            n_params=parameters(recipe.model).total,
            n_tokens=recipe.steps * recipe.batch_tokens,
            counts="total",
            architecture=recipe.model,
            batch_tokens=recipe.batch_tokens,
            steps=recipe.steps,
            seed=recipe.seed,
            role=recipe.role,
        )
    run = structs.replace(begun, status=status, note=note)
    files.write_json(place.folder / store.RUN, run)
    return run


class _Sweep:
    """The loop between the crew and the places."""

    def __init__(self, places: list[Place], *, runs_dir: Path, on_event: Callable[[SweepEvent], None]) -> None:
        self.places, self.runs_dir, self.on_event = places, runs_dir, on_event
        self.at: dict[Worker, Place] = {}
        self.pace = Pace()
        self.earlier = store.read_sweep(runs_dir)

    def announce_skipped(self) -> None:
        """Say which runs had ended before."""
        for place in self.places:
            if place.run is not None and place.skipped:
                self.tell(place, "skipped", loss_nats=place.run.loss_nats)

    def ahead(self) -> deque[Place]:
        """What is left to train, the most work first: a long run started last would keep one core busy alone."""
        return deque(sorted((p for p in self.places if not p.over), key=lambda p: p.flop - p.done_flop, reverse=True))

    def run(
        self, crew: Crew, ahead: deque[Place], *, peak_flop_per_s: float | None, should_stop: Callable[[], bool]
    ) -> None:
        """Until nothing is ahead and nobody at work, or it shall stop."""
        idle = list(crew.workers)
        while (ahead or self.at) and not should_stop():
            while idle and ahead:
                place, worker = ahead.popleft(), idle.pop()
                self.at[worker] = place
                worker.send(Train(folder=str(place.folder), recipe=place.recipe, peak_flop_per_s=peak_flop_per_s))
            mail = crew.mail(seconds=_TICK_S)
            if mail is None:
                for place in self.at.values():
                    self.tell(place, "tick")
                continue
            worker, message = mail
            if message is None:
                idle = [other for other in idle if other is not worker]
                if (left := self.at.pop(worker, None)) is not None and self._died(left, worker):
                    ahead.appendleft(left)
                if ahead:
                    idle.append(crew.replace(worker))
            elif self._heard(self.at.get(worker), message):
                del self.at[worker]
                idle.append(worker)

    def _heard(self, place: Place | None, message: Message) -> bool:
        """Take in a message about a run; True if the run is over."""
        match message:
            case Told(event=event) if place is not None:
                self._told(place, event)
            case Ended(status="interrupted"):
                return False  # someone stopped the worker and not us: its end follows, and with it the second try
            case Ended(status="finished" | "diverged" | "failed" as status) if place is not None:
                run = message.run or _given_up(place, status=status, note=message.reason)
                self._ended(place, run, kind=status)
                return True
        return False

    def _told(self, place: Place, event: Event) -> None:
        if event.kind == "saved":  # of a step that has been told
            return
        new_steps = 0 if event.kind == "started" else max(0, event.step - place.step)  # a checkpoint is no work of ours
        self.pace.add(place.flop * new_steps / place.recipe.steps)
        place.step = event.step if event.kind == "started" else max(place.step, event.step)  # a run may go back
        place.tokens_per_s = event.tokens_per_s or place.tokens_per_s
        if event.kind != "done":  # `Ended` follows, with the run
            self.tell(place, event.kind, loss_nats=event.loss_nats, mfu=event.mfu, reason=event.text)

    def _ended(self, place: Place, run: Run, *, kind: Kind) -> None:
        place.over, place.run = True, run
        self.write()
        self.tell(place, kind, loss_nats=run.loss_nats, mfu=run.mfu, reason=run.note)

    def _died(self, place: Place, worker: Worker) -> bool:
        """A worker died with a run in hand; True if the run shall be tried again.

        Raises:
            IsoflopError: it never began, and the next would not either.
        """
        reason = worker.obituary()
        if worker.ready is None:
            raise IsoflopError(f"a worker did not start: {reason}")
        place.deaths += 1
        if place.deaths < _DEATHS:
            self.tell(place, "retry", reason=reason)
            return True
        self._ended(place, _given_up(place, status="failed", note=f"{reason}, on the second try too"), kind="failed")
        return False

    def write(self) -> None:
        """`runs.jsonl`: every run of this sweep that there is by now, then those of earlier sweeps in this folder."""
        ours = [place.run for place in self.places if place.run is not None]
        keys = {place.key for place in self.places}
        store.write_sweep(self.runs_dir, [*ours, *(run for run in self.earlier if run.key not in keys)])

    def tell(
        self, place: Place, kind: Kind, *, loss_nats: float | None = None, mfu: float | None = None, reason: str = ""
    ) -> None:
        """Report what happened and where everything stands."""
        total = sum(p.flop for p in self.places)
        done = sum(p.done_flop for p in self.places)
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
                done=sum(p.over for p in self.places),
                total=len(self.places),
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
            (p.flop - p.done_flop) / (p.tokens_per_s * p.flop / (p.recipe.steps * p.recipe.batch_tokens))
            for p in self.at.values()
            if p.tokens_per_s
        ]
        return max([ahead_flop / flop_per_s, *alone])
