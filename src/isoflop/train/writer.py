"""Writing that goes on beside training: at most one at a time, and no failure of it is lost."""

import threading
from collections.abc import Callable


class Writer:
    """Does one piece of work at a time in a thread of its own.

    Everything but the work itself happens in the caller's thread: `then` is called, and what the work raised is raised,
    by the first `poll`, `wait` or `start` after its end.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._then: Callable[[], None] | None = None
        self._failure: BaseException | None = None

    def start(self, work: Callable[[], object], then: Callable[[], None]) -> None:
        """Begin, once the work before is over; `then` follows what has been done."""
        self.wait()
        self._then = then
        self._thread = threading.Thread(target=self._do, args=(work,), name="isoflop-writer")
        self._thread.start()

    def poll(self) -> None:
        """Take note of an end, if there is one."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until nothing is under way."""
        self.settle()
        failure, self._failure = self._failure, None
        then, self._then = self._then, None
        if failure is not None:
            raise failure
        if then is not None:
            then()

    def settle(self) -> None:
        """Until nothing is under way, and nothing is raised: another error is on its way already."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = error
