"""Rounds of a benchmark, seen from inside a training loop: steps go on while the driver says so.

Standard library alone: the peers' environment reads it too. The driver writes `SECONDS` to run for a round, or `end`;
a line of JSON comes back for the start and for each round.
"""

import json
import os
import resource
import sys
import time

_WARM = 2
_LEAST = 2


class Gate:
    """Called between steps; false when the benchmark is over.

    The first step of a round is not timed: the caches are still the neighbour's then, and whatever fell due in the
    pause (isoflop saves a checkpoint every so often) is not training speed.

    Args:
        n_params: the model's own count.
    """

    def __init__(self, *, n_params: int) -> None:
        # What a library prints must not be taken for a message.
        self._messages = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._n_params = n_params
        self._warm, self._running, self._clock_stands = _WARM, False, False
        self._seconds = self._begin = self._cpu = 0.0
        self._steps = 0

    def __call__(self) -> bool:
        """A step is over, or the first is about to begin."""
        if self._warm:
            self._warm -= 1
            return True
        if not self._running:
            return self._next({"n_params": self._n_params})
        if self._clock_stands:
            self._clock_stands, self._steps = False, 0
            self._begin, self._cpu = time.perf_counter(), time.process_time()
            return True
        self._steps += 1
        wall_s = time.perf_counter() - self._begin
        if self._steps < _LEAST or wall_s < self._seconds:
            return True
        return self._next({"steps": self._steps, "wall_s": wall_s, "cpu_s": time.process_time() - self._cpu})

    def _next(self, message: dict[str, float]) -> bool:
        """Report, and wait for what comes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
        message["peak_bytes"] = peak * (1 if sys.platform == "darwin" else 1024)
        self._messages.write(json.dumps(message) + "\n")
        self._messages.flush()
        line = sys.stdin.readline().strip()
        if line in ("", "end"):
            return False
        self._seconds, self._running, self._clock_stands = float(line), True, True
        return True
