"""Tasks of a Ray cluster that sees the output folder: that of $RAY_ADDRESS ("auto": the one this node is part of), else
one that is started here for the length of the run.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from isoflop.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")
_TRIES = 5  # of one task whose worker was lost
_STORE_BYTES = 100_000_000  # what tasks hand over are files; Ray would take a third of the memory


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
    """The cluster this process is in, the one of $RAY_ADDRESS, or one of this machine for the length of a run.

    Raises:
        ResourceError: the one named is not there, or none can be started.
    """
    # Read when Ray is imported: nobody is told that this was run.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ours = not ray.is_initialized()
    if ours:
        _join(ray, os.environ.get("RAY_ADDRESS"), workers)
    try:
        yield Cluster(workers)
    finally:
        if ours:
            ray.shutdown()


def _join(ray: Any, address: str | None, workers: int) -> None:
    own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **({} if address else own))
    except Exception as error:  # Ray raises nothing narrower where a busy machine is too slow for its start.
        failed = f"no Ray cluster at {address}, the $RAY_ADDRESS" if address else "Ray did not start here"
        said = str(error).partition(". ")[0]
        raise ResourceError(
            f"{failed} ({said}); `ray start --head` and RAY_ADDRESS=auto give a cluster, --engine local needs none"
        ) from error
