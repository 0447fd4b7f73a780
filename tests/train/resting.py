"""Workers that rest in the middle of a run, so that a plug can be pulled there on whatever machine."""

import shlex
import sys
from pathlib import Path

REST = 7  # steps after an evaluation
HANG_S = 600.0  # no test is decided by the clock; whoever has waited this long waits for ever

# The real worker, with one habit: some steps after an evaluation it rests, until it is to stop or the brake is let go.
# So a run is in its middle when its plug is pulled, on whatever machine.
RESTING = """
import sys, time
from pathlib import Path
from isoflop.train import worker

class Resting(worker.Desk):
    evaluated, asked, latest = False, 0, time.monotonic() + {patience}

    def say(self, message):
        super().say(message)
        self.evaluated |= isinstance(message, worker.Told) and message.event.kind == "evaluation"

    def should_stop(self):
        self.asked += self.evaluated  # it is asked before each step
        while not (stop := super().should_stop()) and self.asked > {rest} and self.braked():
            time.sleep(0.01)
        return stop

    def braked(self):
        return Path({brake!r}).exists() and time.monotonic() < self.latest

sys.argv = sys.argv[2:]
worker.Desk = Resting
worker.main()
"""


class Brake:
    """Stands where a sweep starts Python for its workers.

    Attributes:
        python: the program to start.
    """

    def __init__(self, folder: Path) -> None:
        self.python, self._brake, script = folder / "python", folder / "brake", folder / "resting.py"
        self._brake.touch()
        script.write_text(RESTING.format(patience=HANG_S, rest=REST, brake=str(self._brake)))
        self.python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(script)])} "$@"\n')
        self.python.chmod(0o755)

    def release(self) -> None:
        """Nobody rests any more."""
        self._brake.unlink()
