"""Where the workers of a sweep run: one file an executor, whose name is its registration.

An executor's module has `open`, which gets an `Asked` and returns an `Executor`; one that uses a package names it in
`NEEDS`, and in `EXTRA` the part of isoflop that installs it. All say the same to the same kind of worker
(`isoflop.train.worker`), which is born in the same environment: where a run is trained changes none of its digits.
"""

import queue
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

from isoflop import registry
from isoflop.errors import UsageError
from isoflop.registry import lookup
from isoflop.train.protocol import Message, Ready, Request

USUAL = "local"


class Hand(Protocol):
    """One worker, wherever it is.

    Attributes:
        seat: its place in the crew; a replacement takes the same.
        ready: its greeting, once torch is imported.
        memory: name of what its runs take memory from, which it may share with other workers; "" where it shares none.
    """

    seat: int
    ready: Ready | None
    memory: str

    def send(self, request: Request) -> None:
        """Ask for something. A worker already dead is noticed by its last mail, not here."""

    def dismiss(self) -> None:
        """Ask it to save and end."""

    def wait(self, *, seconds: float) -> bool:
        """Wait for its end; False if it still runs."""

    def kill(self) -> None:
        """End it now, and whatever it started."""

    def close(self) -> None:
        """Let go of it; it has ended."""

    def obituary(self) -> str:
        """How it died, in one sentence, with its last words."""


Mail: TypeAlias = tuple[Hand, Message | None]
"""A message and who sent it; None once a worker is gone."""
Inbox: TypeAlias = "queue.SimpleQueue[Mail]"


class Executor(Protocol):
    """A place for workers.

    Attributes:
        room_bytes: of each memory that workers share, by its name: runs that are predicted to need more are not begun
            together.
    """

    @property
    def room_bytes(self) -> Mapping[str, float]: ...

    def hire(self, seat: int, *, inbox: Inbox) -> Hand:
        """A fresh worker, who may not be ready yet; its mail comes into the inbox."""

    def close(self) -> None:
        """All workers are gone."""


class Asked(Struct, frozen=True, kw_only=True):
    """What is asked of an executor.

    Attributes:
        workers: at once, at most.
        threads: of each.
        runs_dir: of the sweep; every worker must see it under this path.
        gpu: whether its runs may take a GPU.
        per_gpu: workers that share a GPU.
        needs_bytes: memory that the largest run is predicted to take; None where nobody knows.
        keep: a file descriptor that workers on this machine hold open as long as they live.
        settings: what the user wrote for this executor, by name.
    """

    workers: int
    threads: int
    runs_dir: Path
    gpu: bool = False
    per_gpu: int = 1
    needs_bytes: float | None = None
    keep: int | None = None
    settings: Mapping[str, str] = {}


def check(name: str) -> None:
    """Whether there is such an executor and what it needs is installed.

    Raises:
        UsageError: its package is not installed.
        UnknownNameError: there is none.
    """
    module = registry.load("executor", name, __name__)
    needs = getattr(module, "NEEDS", None)
    if needs is not None and find_spec(needs) is None:
        raise UsageError(f"executor {name!r} needs {needs}: pip install 'isoflop[{module.EXTRA}]'")


def start(name: str, asked: Asked) -> Executor:
    """The executor of this name, ready to hire.

    Raises:
        UnknownNameError: there is none.
        UsageError: a setting that it does not know, a number that cannot be, or its package is not installed.
    """
    check(name)
    opened: Executor = registry.load("executor", name, __name__).open(asked)
    return opened


def settings(asked: Asked, *, known: Mapping[str, str]) -> dict[str, str]:
    """What the user wrote for an executor, over what is usual.

    Raises:
        UsageError: a setting that it does not have.
    """
    for name in asked.settings:
        lookup("setting of this executor", name, known)
    return {**known, **asked.settings}
