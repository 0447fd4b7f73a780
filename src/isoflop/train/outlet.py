"""A sink in a thread of its own: what it does cannot stop a run, what it does slowly cannot slow one.

A line is put into a queue and the run goes on. A sink that raises, or lets the queue grow too long, is dropped, and the
run says so once. How far a sink was told stands in `.told.json`, so that a resume neither leaves lines out nor, where
the sink cannot take back, tells them twice; one that joins late is told the curve from its beginning.
"""

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from isoflop import files, registry
from isoflop.errors import IsoflopError, UsageError
from isoflop.train import record, store
from isoflop.train.sinks import Opening, Sink

_PACKAGE = "isoflop.train.sinks"
_MOST_WAITING = 10_000  # lines
_CLOSING_S = 30.0
_TOLD = ".told.json"
_STEP_FIELDS = ("step", "n_tokens", "wall_s")

Place: TypeAlias = tuple[int, int]
"""Of a line in the curve: its step, and whether it is of an evaluation, which comes after the training line."""


def asked(words: Sequence[str], *, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The sinks of the command line and of $ISOFLOP_SINKS (comma-separated), each once, as NAME or NAME:SETTING.

    Raises:
        UnknownNameError: there is none of that name.
        UsageError: its package is not installed.
    """
    said = [*words, *filter(None, (word.strip() for word in environment.get("ISOFLOP_SINKS", "").split(",")))]
    chosen = {word.partition(":")[0]: word for word in reversed(said)}
    for name in chosen:
        module = registry.load("sink", name, _PACKAGE)
        if find_spec(module.NEEDS) is None:
            raise UsageError(f"--to {name} needs {module.NEEDS}: pip install 'isoflop[{module.EXTRA}]'")
    return list(reversed(chosen.values()))


class Outlet:
    """One sink and its thread."""

    def __init__(self, name: str, make: Callable[[], Sink], *, folder: Path, from_step: int) -> None:
        self.name, self.error = name, ""
        self._make, self._path, self._from = make, folder / _TOLD, (from_step, 1)
        self._lines: queue.SimpleQueue[record.Row | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def tell(self, row: record.Row) -> None:
        """Leave a line for it; never waits."""
        if not self.error:
            self._lines.put(row)
            if self._lines.qsize() > _MOST_WAITING:
                self.error = f"{_MOST_WAITING} lines wait for it"

    def close(self, status: str) -> None:
        """Let it write the rest, for so long and no longer."""
        if not self.error:
            self._lines.put(status)
            self._thread.join(_CLOSING_S)
            if self._thread.is_alive():
                self.error = f"it did not end within {_CLOSING_S:g} s"

    def _run(self) -> None:
        try:
            sink = self._make()
            told = self._begin(sink)
            while isinstance(line := self._lines.get(), record.Row):
                if self.error:
                    return
                if place(line) > told:
                    sink.tell(line.step, values(line))
                    told = place(line)
                    self._note(told)
            sink.close(line)
        # Whatever another package raises, SystemExit included, is that package's affair and not the run's.
        except BaseException as error:
            self.error = str(error) if isinstance(error, IsoflopError) else f"{type(error).__name__}: {error}"

    def _begin(self, sink: Sink) -> Place:
        """How far it was told before; what the run will write again is taken back where that is possible."""
        with _noting:
            before = self._read().get(self.name, (-1, 0))
        if sink.rewinds and before > self._from:
            sink.rewind(self._from[0])
            return (self._from[0] - 1, 1)
        return before

    def _read(self) -> dict[str, Place]:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Place])
        return {}

    def _note(self, told: Place) -> None:
        beside = self._path.with_suffix(".tmp")
        with _noting:
            beside.write_bytes(msgspec.json.encode({**self._read(), self.name: told}))
            beside.replace(self._path)


_noting = threading.Lock()  # the sinks of a run share one file


class Outlets:
    """All sinks of a run.

    Attributes:
        say: told once of each that failed.
    """

    def __init__(
        self, names: Sequence[str] = (), opening: Opening | None = None, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._say = say
        self._outlets = [] if opening is None else [_outlet(name, opening) for name in names]
        for row in _written(opening) if opening is not None and names else []:
            self.tell(row)

    def tell(self, row: record.Row) -> None:
        """A line, to all that still listen."""
        for outlet in self._outlets:
            outlet.tell(row)
        self._drop()

    def close(self, status: str) -> None:
        """The run has ended so."""
        for outlet in self._outlets:
            outlet.close(status)
        self._drop()

    def _drop(self) -> None:
        for outlet in [each for each in self._outlets if each.error]:
            self._outlets.remove(outlet)
            self._say(f"sink {outlet.name} is dropped: {outlet.error}. The run goes on; its files have all of it")


def _written(opening: Opening) -> list[record.Row]:
    """The curve so far."""
    path = opening.folder / store.METRICS
    return files.read_lines(path, record.Row) if path.exists() else []


def _outlet(word: str, opening: Opening) -> Outlet:
    name, _, setting = word.partition(":")
    module = registry.load("sink", name, _PACKAGE)
    own = msgspec.structs.replace(opening, setting=setting)
    make: Callable[[], Sink] = lambda: module.open(own)  # noqa: E731
    return Outlet(name, make, folder=opening.folder, from_step=opening.from_step)


def place(row: record.Row) -> Place:
    """Where a line stands in the curve."""
    return row.step, int(row.validation_loss_nats is not None)


def values(row: record.Row) -> dict[str, float]:
    """The numbers of a line, by the names that sinks show."""
    plain: dict[str, Any] = msgspec.to_builtins(row)
    spent, sources = plain.pop("spent", None) or {}, plain.pop("validation_sources", None) or {}
    kind = "validation" if row.validation_loss_nats is not None else "train"
    numbers = {name: value for name, value in plain.items() if value is not None and name not in _STEP_FIELDS}
    shown = {f"{kind}/{name.removeprefix('validation_')}": float(value) for name, value in numbers.items()}
    shown |= {f"{kind}/{name}": float(plain[name]) for name in ("n_tokens", "wall_s")}
    shown |= {f"validation/loss_nats/{name}": float(value) for name, value in sources.items()}
    return shown | {f"time/{name}": float(value) for name, value in spent.items()}
