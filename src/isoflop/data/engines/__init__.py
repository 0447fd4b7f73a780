"""Where the shards of a pipeline are worked on: one file each, its name is what `--engine` takes.

An engine's file holds `crew(workers)`, a context manager that gives a `Crew` for the length of a run. A task is a small
value, what it makes are files: an engine may start one again, on another process or machine that sees the same folder,
and the bytes are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, cast

from isoflop import registry

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crew(Protocol):
    """Some workers."""

    def do(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Call the function on every task; (number of the task, what came back) in whatever order they end."""
        ...


def crew(engine: str, *, workers: int) -> AbstractContextManager[Crew]:
    """Workers of the engine of that name.

    Raises:
        UnknownNameError: there is none.
    """
    return cast(AbstractContextManager[Crew], registry.load("engine", engine, __name__).crew(workers))
