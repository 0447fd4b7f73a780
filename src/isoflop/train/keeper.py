"""When a run is saved, and where it goes on."""

import time
from pathlib import Path
from typing import Any

import msgspec

from isoflop.train import checkpoint, record
from isoflop.train.counters import Counters
from isoflop.train.journal import Journal
from isoflop.train.learner import Learner

_SAVE_S = 20.0
_SAVE_SHARE = 0.02  # of the time goes into checkpoints at most, however large they are


class Keeper:
    """The checkpoints of a run."""

    def __init__(self, folder: Path, *, key: str, journal: Journal) -> None:
        self._where, self._key, self._journal = folder / record.CHECKPOINTS, key, journal
        self._saved = time.perf_counter()
        self._save_s = 0.0
        self._saved_step: int | None = None

    def resume(self, learner: Learner) -> Counters | None:
        """Take up the newest whole checkpoint; where it stood, or None where there is none."""
        found = checkpoint.newest(self._where, key=self._key, warn=lambda text: self._journal.say("note", text=text))
        if found is None:
            return None
        counters = msgspec.convert(found.manifest.state, Counters)
        learner.restore(found.tensors, counters.engine)
        self._saved_step = counters.step
        return counters

    def due(self) -> bool:
        """Whether so much time has gone by that a checkpoint is worth its own."""
        return time.perf_counter() - self._saved > max(_SAVE_S, self._save_s / _SAVE_SHARE)

    def save(self, learner: Learner, counters: Counters) -> bool:
        """Write a checkpoint, unless this very step has one; whether it did."""
        if self._saved_step == counters.step:
            return False
        began = time.perf_counter()
        counters.wall_s = self._journal.wall_s()
        state: dict[str, Any] = msgspec.to_builtins(counters)
        checkpoint.save(self._where, step=counters.step, key=self._key, tensors=learner.tensors(), state=state)
        self._saved, self._saved_step = time.perf_counter(), counters.step
        self._save_s = self._saved - began
        return True
