"""Processes of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from isoflop.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Local:
    """One pool for a whole run, made when it is first of use."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def do(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Work on all tasks; with one worker, in this process.

        Raises:
            ResourceError: a worker was killed.
        """
        if min(self.workers, len(tasks)) <= 1:
            yield from ((number, work(task)) for number, task in enumerate(tasks))
            return
        if self.pool is None:
            # Spawned: threads of pyarrow that live in this process would not live on in a fork.
            self.pool = ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            yield from _drained(self.pool, work, tasks, ahead=2 * self.workers)
        except BrokenProcessPool as error:
            raise ResourceError(
                "a worker was killed, most likely as memory ran out; use fewer --workers, or smaller limits in the "
                "recipe. The same command goes on from the shards that are done"
            ) from error


@contextmanager
def crew(workers: int) -> Iterator[Local]:
    """Workers for the length of a run."""
    made = Local(workers)
    try:
        yield made
    finally:
        if made.pool is not None:
            made.pool.shutdown(cancel_futures=True)


def _drained(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Sequence[Task], *, ahead: int
) -> Iterator[tuple[int, Result]]:
    """Results as they come; few tasks wait in the pool, so that a million of them cost no memory."""
    waiting: dict[Future[Result], int] = {}
    left = iter(enumerate(tasks))
    while True:
        for number, task in left:
            waiting[pool.submit(work, task)] = number
            if len(waiting) >= ahead:
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()
