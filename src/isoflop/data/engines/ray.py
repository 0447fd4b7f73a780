"""Tasks of a Ray cluster that sees the output folder; one is started here where none is running."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from isoflop.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")
_TRIES = 5  # of one task whose worker was lost


class Cluster:
    """A cluster that is up; `workers` tasks are on it at a time."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def do(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Work on all tasks; one whose worker is lost is started again elsewhere."""
        import ray

        remote = ray.remote(num_cpus=1, max_retries=_TRIES)(work)
        waiting: dict[Any, int] = {}
        left = iter(enumerate(tasks))
        while True:
            for number, task in left:
                waiting[remote.remote(task)] = number
                if len(waiting) >= self.workers:
                    break
            if not waiting:
                return
            (done, *_), _ = ray.wait(list(waiting))
            yield waiting.pop(done), ray.get(done)


@contextmanager
def crew(workers: int) -> Iterator[Cluster]:
    """The cluster that is up already, or one of this machine for the length of a run.

    Raises:
        ResourceError: none is up, and none can be started.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        except Exception as error:  # Ray raises nothing narrower where a busy machine is too slow for its start.
            said = str(error).partition(". ")[0]
            raise ResourceError(
                f"Ray did not start here ({said}); start a cluster with `ray start --head`, or take --engine local"
            ) from error
    try:
        yield Cluster(workers)
    finally:
        if ours:
            ray.shutdown()
