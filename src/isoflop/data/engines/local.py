"""Processes of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from isoflop.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run(work: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int) -> Iterator[tuple[int, Result]]:
    """Work on all tasks; with one worker, in this process.

    Raises:
        ResourceError: a worker was killed.
    """
    if min(workers, len(tasks)) <= 1:
        yield from ((number, work(task)) for number, task in enumerate(tasks))
        return
    # Spawned: threads of pyarrow that live in this process would not live on in a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context)
    try:
        yield from _drained(pool, work, tasks, ahead=2 * workers)
    except BrokenProcessPool as error:
        raise ResourceError(
            "a worker was killed, most likely as memory ran out; use fewer --workers, or smaller limits in the "
            "recipe. The same command goes on from the shards that are done"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


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
