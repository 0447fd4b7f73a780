"""Where the curve of a run is shown besides its own folder: one file a sink, whose name is its registration.

A sink's module has `NEEDS`, the package it uses, `EXTRA`, the part of isoflop that installs it, and `open`, which gets
an `Opening` and returns a `Sink`. It runs in a thread of its own (see `outlet`): it may be slow, block or fail.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct


class Opening(Struct, frozen=True, kw_only=True):
    """The run that a sink is opened for.

    Attributes:
        folder: of the run, where a sink may have one of its own.
        run_id: the folder's name.
        key: of the recipe on its data; with the id it names the run wherever it goes on.
        config: the recipe, in plain data.
        setting: what the user wrote behind the sink's name, "" for nothing.
        from_step: the run goes on from there; what a sink heard of later steps is void.
    """

    folder: Path
    run_id: str
    key: str
    config: Mapping[str, Any]
    setting: str
    from_step: int


class Sink(Protocol):
    """What shows a curve.

    Attributes:
        rewinds: it can take back what it showed of a step; one that cannot is not told a step twice.
    """

    rewinds: bool

    def rewind(self, step: int) -> None:
        """Take back that step and all after it."""

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """One line of the curve: numbers by name, "train/loss_nats"."""

    def close(self, status: str) -> None:
        """The run has ended so, or stops here to go on later."""
