"""When a run is saved, and where it goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, rollbacks
from isoflop.train.checkpoint import Groups, Keep
from isoflop.train.counters import Counters
from isoflop.train.divergence import Anchors, Rollback
from isoflop.train.journal import Journal
from isoflop.train.learner import Learner
from isoflop.train.manifest import Metrics
from isoflop.train.record import CHECKPOINTS
from isoflop.train.snapshot import Snapshot
from isoflop.train.team import ALONE, Team
from isoflop.train.writer import Writer

_SAVE_S = 20.0
_HELD_SHARE = 0.02  # of the time training stands still for checkpoints at most, however large they are
_WRITE_SHARE = 0.1  # of the time one is being written beside training at most: hashing takes a core from it


class Keeper:
    """The checkpoints of a run.

    A checkpoint counts when it is on the disk under its name, synced: only then the journal tells "saved", and only
    then `on_saved` is called. Until then the one before it is the run's.

    Attributes:
        held_s: seconds that training has stood still for checkpoints.
    """

    def __init__(
        self, folder: Path, *, recipe: Recipe, key: str, journal: Journal, anchors: Anchors, team: Team = ALONE
    ) -> None:
        self._team = team
        self._where, self._key, self._journal, self._anchors = folder / CHECKPOINTS, key, journal, anchors
        self._saving, self._recipe = recipe.checkpoint, msgspec.to_builtins(recipe)
        self._writer, self._snapshot = Writer(), Snapshot() if recipe.checkpoint.background else None
        self._saved = time.perf_counter()
        self._saved_step: int | None = None
        self._last_held_s = self._last_write_s = 0.0
        self.held_s = 0.0

    def resume(self, learner: Learner) -> Counters | None:
        """Take up the newest whole checkpoint; where it stood, or None where there is none.

        Raises:
            InputError: there are checkpoints, and none is whole.
        """
        tensors: dict[str, dict[str, Tensor]] = {}

        def find() -> Counters | None:
            history = rollbacks.settle(self._where)
            warn = lambda text: self._journal.say("note", text=text)  # noqa: E731
            found = checkpoint.newest(self._where, key=self._key, warn=warn)
            if found is None:
                return None
            tensors.update(found.tensors)
            counters = msgspec.convert(found.manifest.state, Counters)
            counters.rollbacks = history or counters.rollbacks
            return counters

        counters = self._team.first(find)  # who leads has read it, and gives the others their shares
        if counters is None:
            return None
        learner.restore(tensors, counters.engine)
        self._saved, self._saved_step = time.perf_counter(), counters.step
        return counters

    def roll_back(self, learner: Learner, rollback: Rollback, counters: Counters) -> Counters:
        """Take up the checkpoint it names, the later ones gone; where that stood."""
        self.wait()
        self._team.first(lambda: rollbacks.write(self._where, [*counters.rollbacks, rollback]))
        again = self.resume(learner)
        assert again is not None, "a checkpoint is taken before the first step"
        return again

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due: the beginning, an anchor, a step the recipe names, or enough time gone by.

        Time is what the process that leads says it is.
        """
        return self._team.any(self._team.leads and self._due(step))

    def _due(self, step: int) -> bool:
        if self._saved_step is None or step in self._anchors:
            return True
        if step in self._saving.keep_at:
            return True
        if self._saving.keep_every is not None and step % self._saving.keep_every == 0:
            return True
        if self._saving.every_steps is not None:
            return step % self._saving.every_steps == 0
        pause_s = max(_SAVE_S, self._last_held_s / _HELD_SHARE, self._last_write_s / _WRITE_SHARE)
        return time.perf_counter() - self._saved > pause_s

    def save(self, learner: Learner, counters: Counters, *, on_saved: Callable[[], None]) -> None:
        """Begin to write a checkpoint, unless this very step has one.

        Training stands still while one before it is still being written and while its tensors are copied; where memory
        is short, while it is written.

        Raises:
            ResourceError: this one, or the one before it, could not be written.
        """
        if self._saved_step == counters.step:
            return
        began = time.perf_counter()
        self._writer.wait()  # its buffers are about to be used again
        counters.wall_s = self._journal.wall_s()
        tensors = learner.tensors()
        if not self._team.leads:
            self._saved_step = counters.step
            return
        copied = self._snapshot.take(tensors) if self._snapshot is not None else None
        if copied is None and self._snapshot is not None:
            self._snapshot = None
            self._journal.say("note", text="memory is short: training waits while checkpoints are written")
        self._journal.gauges.copies_bytes = self._snapshot.n_bytes if self._snapshot is not None else 0
        step, first, state = counters.step, counters.first, msgspec.to_builtins(counters)
        metrics = Metrics(
            n_tokens=self._journal.n_tokens(),
            loss_nats=counters.watch.smoothed,
            validation_loss_nats=counters.validation_loss_nats,
        )

        def then() -> None:
            self._journal.saved(step)
            on_saved()

        keep = Keep(
            newest=self._saving.keep,
            every=self._saving.keep_every,
            steps=self._anchors.needed(step, first=first).union(self._saving.keep_at),
        )
        if copied is None:
            self._write(step, tensors, state, metrics, keep)
            then()
        else:
            self._writer.start(lambda: self._write(step, copied, state, metrics, keep), then)
        self._saved, self._saved_step = time.perf_counter(), step
        self._last_held_s = self._saved - began
        self.held_s += self._last_held_s

    def poll(self) -> None:
        """Tell of a checkpoint that has been written meanwhile.

        Raises:
            ResourceError: it could not be.
        """
        self._writer.poll()

    def wait(self) -> None:
        """Until what is being written is on the disk.

        Raises:
            ResourceError: it could not be.
        """
        began = time.perf_counter()
        self._writer.wait()
        self.held_s += time.perf_counter() - began

    def close(self) -> None:
        """Leave no thread behind that writes into the folder; whatever it failed with, a run that ends has said why."""
        self._writer.settle()

    def _write(self, step: int, tensors: Groups, state: dict[str, Any], metrics: Metrics, keep: Keep) -> None:
        began = time.perf_counter()
        checkpoint.save(
            self._where,
            step=step,
            key=self._key,
            tensors=tensors,
            state=state,
            metrics=metrics,
            recipe=self._recipe,
            keep=keep,
        )
        self._last_write_s = time.perf_counter() - began
