"""Where each rung of a sweep lies and stands: its folder, its key, its run, and what it waits for.

What lies in the run folders decides. A recipe has its key from the beginning. A branch has one as soon as its trunk's
checkpoint is there, or where that has been taken away meanwhile, by what the `run.json` of an earlier beginning tells
of its origin.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from isoflop import files
from isoflop.count.parameters import parameters
from isoflop.data.sources import open_sources
from isoflop.errors import InputError, UsageError
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run, Status
from isoflop.train import manifest, origin, store
from isoflop.train.branch import Branch, Rung, own_flop, own_steps
from isoflop.train.record import CHECKPOINTS

ENDED: frozenset[str] = frozenset({"finished", "diverged"})


def run_id(recipe: Recipe, *, key: str) -> str:
    """Readable and stable: the recipe's name and the beginning of its key, e.g. `n98k-d2M-1a2b3c4d`."""
    readable = "".join(c if c.isalnum() or c in "._-" else "-" for c in recipe.name).strip(".-") or "run"
    return f"{readable[:80]}-{key[:8]}"


class Place:
    """One rung and where it stands; changed by `Places` and the sweep's loop alone.

    Attributes:
        rung: as asked for.
        recipe, key, folder: of the run; of a branch that waits, those it would have with an unknown origin.
        trunk: of a branch.
        known: whether key and folder are the run's for good.
        begins: the step at which its own work begins.
        steps: that it takes itself.
        step: where it stands, in its recipe's count.
        run: as last heard of.
        begun_at: the step at which its worker was given it.
        taken: its worker has said that it has it.
        orderly: its worker was stopped and has saved.
        over: nothing is left to do, or it has been given up; `skipped` where that was so before the sweep.
    """

    def __init__(self, rung: Rung, recipe: Recipe, *, key: str, folder: Path, trunk: "Place | None" = None) -> None:
        self.rung, self.recipe, self.key, self.folder, self.trunk = rung, recipe, key, folder, trunk
        self.branches: list[Place] = []
        self.begins = rung.step if isinstance(rung, Branch) else 0
        self.steps, self.flop = own_steps(rung), own_flop(rung)
        self.step = self.begins
        self.run: Run | None = None
        self.known = self.over = self.skipped = False
        self.begun_at = self.deaths = self.passed_over = 0
        self.taken = self.orderly = False
        self.tokens_per_s: float | None = None
        if trunk is not None:
            trunk.branches.append(self)

    @property
    def done_flop(self) -> float:
        """Work behind it, that of a run given up included: it is not ahead any more."""
        return self.flop if self.over else self.flop * (self.step - self.begins) / self.steps

    @property
    def ahead_flop(self) -> float:
        """Work of the longest chain that ends it or one of its branches."""
        chains = [self.flop - self.done_flop]
        for branch in self.branches:
            if not branch.over:
                to_there = max(0, branch.begins - self.step) * self.flop / self.steps
                chains.append((0.0 if self.over else to_there) + branch.flop - branch.done_flop)
        return max(chains)

    def settle(self, recipe: Recipe, *, key: str, folder: Path) -> None:
        """Take its key and folder for good, and the run that lies there."""
        self.recipe, self.key, self.folder, self.known = recipe, key, folder, True
        run = store.read(folder)
        self.run = run if run is not None and run.key == key else None
        self.over = self.run is not None and self.run.status in ENDED
        self.step = self.begins + self.steps if self.over else self.begins

    def end(self, run: Run) -> None:
        """It is over."""
        self.run, self.over = run, True

    def give_up(self, *, status: Status, note: str) -> Run:
        """The record of a run whose trainer left none, or only that it had begun; written where it has a folder.

        Raises:
            ResourceError: no room on the disk.
        """
        recipe, begun = self.recipe, store.read(self.folder)
        if begun is None or begun.key != self.key:
            begun = Run(
                id=self.folder.name,
                key=self.key,
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
        if self.known:
            files.write_json(self.folder / store.RUN, run)
        return run


class Places:
    """All rungs of a sweep.

    Attributes:
        asked: the place of each rung, in the order given; two rungs of one run share it.
        all: each place once, trunks that only branches name among them.
        void: keys that no run of this sweep has any more: those of branches that waited, and of branches from a state
            that their trunk has taken back.
    """

    def __init__(self, rungs: Sequence[Rung], *, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        stored = [s for s in store.scan(runs_dir).stored if s.run.key]
        self._folders = {str(s.run.key): Path(s.folder) for s in stored if s.folder}
        self._begun = [s.run for s in stored if s.run.origin is not None]
        recipes = [rung.trunk if isinstance(rung, Branch) else rung for rung in rungs]
        self._data = {_read(r): open_sources(r.sources).content_sha256 for r in {_read(r): r for r in recipes}.values()}
        self._points: dict[str, set[int]] = {}
        for rung in rungs:
            if isinstance(rung, Branch):
                self._points.setdefault(self._key(rung.trunk), set()).add(rung.step)
        self._by_key: dict[str, Place] = {}
        self._waiting: dict[tuple[str, str], Place] = {}
        self.asked = [self._branch(rung) if isinstance(rung, Branch) else self._own(rung) for rung in rungs]
        self.all = [*self._by_key.values(), *self._waiting.values()]
        self.void = {place.key for place in self._waiting.values()}
        for place in self._waiting.values():
            self.look(place)
            place.skipped = place.over

    def look(self, place: Place) -> bool:
        """Whether a branch can begin, or has its end: its trunk's checkpoint is there, or was when it began.

        Where the checkpoint is another than the one that the branch is known by, as after a rollback of its trunk, the
        branch is another run.
        """
        rung, trunk = place.rung, place.trunk
        assert isinstance(rung, Branch)
        assert trunk is not None
        checkpoint = trunk.folder / CHECKPOINTS / f"step-{rung.step:08d}"
        present = self._present(checkpoint, trunk=trunk)
        told = self._told(trunk=trunk, step=rung.step)
        self.void |= {key for sha256, key in told if present not in (None, sha256)}
        origins = {present} if present else {sha256 for sha256, _ in told}
        recipes = [rung.recipe(checkpoint=str(checkpoint), sha256=sha256) for sha256 in sorted(origins)]
        keys = {self._key(recipe): recipe for recipe in recipes}
        if place.known and place.key in keys:
            return True
        for key, recipe in keys.items():
            if present or key in self._folders:
                if place.known:
                    self.void.add(place.key)
                place.settle(recipe, key=key, folder=self._folder(recipe, key=key))
                return True
        return False

    def twin(self, place: Place) -> Place | None:
        """Another place of the same run: equal states of two trunks make equal branches."""
        return next((p for p in self.all if p is not place and p.known and p.key == place.key), None)

    def _present(self, checkpoint: Path, *, trunk: Place) -> str | None:
        """The state's sha256 by the manifest of the trunk's checkpoint; None where there is no whole one."""
        try:
            about = manifest.read(checkpoint)
            manifest.check_sizes(checkpoint, about)
        except InputError:
            return None
        return origin.identity(about, "state") if about.key == trunk.key else None

    def _told(self, *, trunk: Place, step: int) -> set[tuple[str, str]]:
        """The same by those who once began from it, each with its own key."""
        begun = [(run.origin, run.key) for run in self._begun if run.origin is not None and run.key is not None]
        return {(o.sha256, key) for o, key in begun if (o.key, o.step, o.take) == (trunk.key, step, "state")}

    def _own(self, recipe: Recipe) -> Place:
        key = self._key(recipe)
        if key not in self._by_key:
            steps = {*recipe.checkpoint.keep_at, *self._points.get(key, ())}
            saving = structs.replace(recipe.checkpoint, keep_at=tuple(sorted(steps)))
            keeping = structs.replace(recipe, checkpoint=saving)
            place = Place(recipe, keeping, key=key, folder=self._folder(recipe, key=key))
            place.settle(keeping, key=key, folder=place.folder)
            place.skipped = place.over
            self._by_key[key] = place
        return self._by_key[key]

    def _branch(self, rung: Branch) -> Place:
        trunk, recipe = self._own(rung.trunk), rung.recipe()
        key = self._key(recipe)
        if (trunk.key, key) not in self._waiting:
            folder = self._runs_dir / run_id(recipe, key=key)
            self._waiting[trunk.key, key] = Place(rung, recipe, key=key, folder=folder, trunk=trunk)
        return self._waiting[trunk.key, key]

    def _key(self, recipe: Recipe) -> str:
        return recipe.key(data_sha256=self._data[_read(recipe)])

    def _folder(self, recipe: Recipe, *, key: str) -> Path:
        """The one that holds a run of its key already, else a new one by its name."""
        return self._folders.get(key, self._runs_dir / run_id(recipe, key=key))


def _read(recipe: Recipe) -> tuple[str, ...]:
    """The folders that it reads, in its order."""
    return tuple(source.shards for source in recipe.sources)


def check_threads(rungs: Sequence[Rung], *, threads: int) -> None:
    """Hold the recipes against the workers.

    Raises:
        UsageError: a recipe is for another number of threads.
    """
    for rung in rungs:
        recipe = rung.trunk if isinstance(rung, Branch) else rung
        if recipe.threads != threads:
            raise UsageError(
                f"sweep: recipe {recipe.name!r} is for {recipe.threads} threads, the workers have {threads}"
            )
