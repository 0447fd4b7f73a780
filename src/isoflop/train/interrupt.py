"""Signals as a wish to stop at the next step, not as an exception in the middle of one.

SIGTERM, SIGUSR1 (Slurm's `--signal=USR1@120`: the end is near) and SIGINT are heard. The first decides how the process
ends: 75 for the first two, 130 for the keyboard. Whatever comes while everything is being saved changes nothing, except
a second SIGINT, which is taken at its word.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from isoflop.errors import IsoflopError, PreemptedError, StoppedError

_DEFAULTS: dict[int, Callable[[int, FrameType | None], object] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


class Wish:
    """Whether a signal has come, and which came first."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._keyboard = False

    def __bool__(self) -> bool:
        return self.signal is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if number == signal.SIGINT:
            if self._keyboard:
                raise KeyboardInterrupt
            self._keyboard = True
        self.signal = self.signal or number

    def error(self, saved: str) -> IsoflopError:
        """What to raise once all is saved: 75 where a scheduler asked, 130 otherwise."""
        kind = PreemptedError if self.signal in {signal.SIGTERM, signal.SIGUSR1} else StoppedError
        return kind(f"stopped {saved}; run the same command again to go on")


_listening: list[Wish] = []


@contextmanager
def listening() -> Iterator[Wish]:
    """Take the signals while inside, but those that the program has handlers of its own for; only in its main thread.

    Whoever listens already shares its wish with those inside: no signal falls between two of them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Wish()
        return
    if _listening:
        yield _listening[-1]
        return
    wish = Wish()
    _listening.append(wish)
    ours = [number for number, default in _DEFAULTS.items() if signal.getsignal(number) is default]
    for number in ours:
        signal.signal(number, wish.note)
    try:
        yield wish
    finally:
        for number in ours:
            signal.signal(number, _DEFAULTS[number])
        _listening.remove(wish)
