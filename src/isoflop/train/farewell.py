"""Why one of several processes ended, left for the others in the store where they met.

Who waits in an exchange for one that has failed may wait for long: connections stay open as long as something holds
them, and NCCL tells nothing at all. So each process looks into the store now and then, beside its training, and where
it does not get out of the exchange by itself, it is ended.
"""

import os
import sys
import threading
import time
from itertools import count

import torch.distributed as dist
from msgspec import Struct, json

from isoflop import errors
from isoflop.errors import IsoflopError

_LOOK_S = 2.0
_WAIT_S = 10.0  # of the first, for the others to have looked
_OWN_WAY_S = (30.0, 2.0)
"""What the first and any other has to end by itself: the first may be writing a checkpoint."""

_runs = count()  # of this program; all its processes train the same ones


class _Last(Struct, frozen=True):
    """What a process says: who it is, which kind of error ended it, and the sentence."""

    rank: int
    kind: str
    said: str


class Farewell:
    """The last words of the processes of one run; what is left first counts."""

    def __init__(self, *, rank: int, world: int) -> None:
        """Find the store; a process group must exist."""
        self._rank, self._world = rank, world
        self._store = dist.distributed_c10d._get_default_store()
        # A restart may find the store that the attempt before it wrote into.
        self._key = f"isoflop {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} {next(_runs)}"
        self._ended = threading.Event()

    def listen(self) -> None:
        """Look for last words until `end`, and end this process where it has not heard them."""
        threading.Thread(target=self._listen, daemon=True, name="isoflop farewell").start()

    def end(self) -> None:
        """Listen no more."""
        self._ended.set()

    def leave(self, error: Exception) -> None:
        """Say why; to be called before the connections close on which the others wait."""
        last = _Last(self._rank, type(error).__name__, str(error))
        self._store.compare_set(f"{self._key} why", "", json.encode(last).decode())

    def reason(self) -> IsoflopError | None:
        """The error of the process that ended first; None where it died without a word."""
        try:
            if not self._store.check([f"{self._key} why"]):
                return None
            last = json.decode(self._store.get(f"{self._key} why"), type=_Last)
        except RuntimeError:  # the store has died with it
            return None
        kind = getattr(errors, last.kind, None)
        if kind is None:
            return IsoflopError(f"process {last.rank} of {self._world} ended: {last.kind}: {last.said}")
        return again(kind, f"process {last.rank} of {self._world}: {last.said}")

    def wait(self) -> None:
        """Stay until the others have heard, if the store is here; not long, for they may be past hearing."""
        try:
            left = self._left()
            until = time.monotonic() + _WAIT_S
            while self._rank == 0 and left < self._world and time.monotonic() < until:
                time.sleep(0.05)
                left = self._left(0)
        except RuntimeError:
            return

    def _left(self, more: int = 1) -> int:
        return int(self._store.add(f"{self._key} left", more))

    def _listen(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if (why := self.reason()) is None:
                continue
            if not self._ended.wait(_OWN_WAY_S[self._rank > 0]):
                sys.stderr.write(f"{type(why).__name__}: {why}\n")
                sys.stderr.flush()
                self.wait()
                os._exit(why.exit_code)


def again(kind: type[IsoflopError], text: str) -> IsoflopError:
    """An error of this kind and sentence; some kinds are made of other things than their sentence."""
    raised = kind.__new__(kind)
    raised.args = (text,)
    return raised
