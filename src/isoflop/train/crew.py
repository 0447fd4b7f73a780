"""Several workers seen from the parent: hired, spoken to, listened to, and never left behind."""

import queue
import time
from collections.abc import Mapping
from types import TracebackType

from isoflop.errors import IsoflopError
from isoflop.train import protocol
from isoflop.train.cores import cores
from isoflop.train.executors import Executor, Hand, Inbox, Mail
from isoflop.train.executors.local import Local
from isoflop.train.protocol import Ready, Request

_GRACE_S = 60.0  # a worker saves at its next step; a step of a minute is beyond what one machine trains


class Crew:
    """Several workers and one inbox; use it in a `with`, at whose end all of them are gone.

    Attributes:
        workers: by seat.
        inbox: what they said, in order of arrival.
    """

    def __init__(self, executor: Executor, *, seats: int) -> None:
        """Hire one worker per seat; the executor is closed with the crew."""
        self.inbox: Inbox = queue.SimpleQueue()
        self.workers: list[Hand] = []
        self._hired: list[Hand] = []
        self._executor, self._seats = executor, seats

    @property
    def room_bytes(self) -> Mapping[str, float]:
        """Of each memory that workers share."""
        return self._executor.room_bytes

    @classmethod
    def of_processes(cls, workers: int, *, threads: int, bound: bool = False) -> "Crew":
        """Processes of this machine, bound to processors where they fill it and that is asked for."""
        slices = cores().slices(workers=workers, threads=threads) if bound else ()
        return cls(Local(threads=threads, slices=slices), seats=workers)

    def __enter__(self) -> "Crew":
        try:
            for seat in range(self._seats):
                self.workers.append(self._hire(seat))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _hire(self, seat: int) -> Hand:
        worker = self._executor.hire(seat, inbox=self.inbox)
        self._hired.append(worker)
        return worker

    def replace(self, dead: Hand) -> Hand:
        """A fresh worker on the seat of a dead one."""
        self.workers[dead.seat] = self._hire(dead.seat)
        return self.workers[dead.seat]

    def mail(self, *, seconds: float) -> Mail | None:
        """The next message; None when there was none for that long."""
        try:
            return self.inbox.get(timeout=seconds)
        except queue.Empty:
            return None

    def all_ready(self) -> list[Ready]:
        """Wait until every worker has imported torch.

        Raises:
            IsoflopError: one died on the way.
        """
        while not all(worker.ready for worker in self.workers):
            mail = self.mail(seconds=1.0)
            if mail is not None and mail[1] is None:
                raise IsoflopError(f"a worker did not start: {mail[0].obituary()}")
        return [worker.ready for worker in self.workers if worker.ready]

    def ask(self, request: Request, *, of: int | None = None) -> list[float]:
        """Put one question to the first `of` workers (or all) at once and wait for every answer, by seat.

        Raises:
            IsoflopError: a worker died or could not answer.
        """
        self.all_ready()
        asked = self.workers[:of]
        for worker in asked:
            worker.send(request)
        answers: dict[int, float] = {}
        while len(answers) < len(asked):
            mail = self.mail(seconds=1.0)
            match mail:
                case (worker, None):
                    raise IsoflopError(f"a measurement failed: {worker.obituary()}")
                case (worker, protocol.Measured(value=value)):
                    answers[worker.seat] = value
                case (worker, protocol.Ended(reason=reason)):
                    raise IsoflopError(f"a measurement failed: {reason}")
        return [answers[seat] for seat in sorted(answers)]

    def end(self) -> None:
        """Ask all to save and end, wait, kill what does not. A second Ctrl-C kills at once: the checkpoints stand."""
        for worker in self.workers:
            worker.dismiss()
        deadline = time.monotonic() + _GRACE_S
        try:
            for worker in self.workers:
                worker.wait(seconds=deadline - time.monotonic())
        finally:
            for worker in self._hired:
                if not worker.wait(seconds=0.0):
                    worker.kill()
                worker.close()
            self._executor.close()
