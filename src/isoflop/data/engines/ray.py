"""Tasks of a Ray cluster that sees the output folder; one is started here where none is running."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
_TRIES = 5  # of one task whose worker was lost


def run(work: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int) -> Iterator[tuple[int, Result]]:
    """Work on all tasks, at most `workers` at a time; a task whose worker is lost is started again elsewhere."""
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1, max_retries=_TRIES)(work)
    waiting: dict[Any, int] = {}
    left = iter(enumerate(tasks))
    while True:
        for number, task in left:
            waiting[remote.remote(task)] = number
            if len(waiting) >= workers:
                break
        if not waiting:
            return
        (done, *_), _ = ray.wait(list(waiting))
        yield waiting.pop(done), ray.get(done)
