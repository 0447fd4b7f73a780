"""What a run says and writes down of itself: reports for those who listen, lines of the curve for the folder."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isoflop.specs.recipe import Recipe
from isoflop.train import record
from isoflop.train.counters import Counters
from isoflop.train.evaluation import Evaluation
from isoflop.train.events import Event, Kind, ignore
from isoflop.train.gauges import Gauges, expert_load
from isoflop.train.learner import Learner, pick_device
from isoflop.train.meter import mfu
from isoflop.train.outlet import Outlets
from isoflop.train.seconds import Seconds
from isoflop.train.sinks import Opening

_REPORT_S = 0.5
_LINES = 200  # of training in metrics.jsonl, about


class _Report:
    """Sums since the last report; what they hold is for the eye and is in no file."""

    def __init__(self, train_s: float) -> None:
        self.time, self.train_s = time.perf_counter(), train_s
        self.loss_sum, self.steps = 0.0, 0


class Journal:
    """Of one process's part of a run.

    Attributes:
        counters: where the run stands; they are the session's, and the sums of the current line are kept there.
        flop_per_token: of the steps that come.
        gauges: memory; made before the model, which is then not in what the process held already.
        expert_load: of a mixture at the last line.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        folder: Path,
        counters: Counters,
        on_event: Callable[[Event], None],
        flop_per_token: float,
        key: str,
        sinks: Sequence[str] = (),
        peak_flop_per_s: float | None,
        silent: bool = False,
    ) -> None:
        """Begin it.

        Args:
            silent: of a process that keeps the books like the one that leads, and writes and says nothing.
        """
        self._silent = silent
        self.recipe, self.folder, self.counters = recipe, folder, counters
        self._on_event = ignore if silent else on_event
        self.flop_per_token, self._peak_flop_per_s = flop_per_token, peak_flop_per_s
        self._line_every = max(1, recipe.steps // _LINES)
        self._began, self._wall_before = time.perf_counter(), counters.wall_s
        self._report = _Report(counters.train_s)
        self._pace = (self._began, counters.step)
        self.gauges = Gauges(pick_device(recipe))
        self.expert_load: float | None = None
        self._learner: Learner | None = None
        self._key, self._sinks, self._outlets = key, tuple(sinks), Outlets()
        self._lapped = Seconds()

    def watch(self, learner: Learner) -> None:
        """Read time and experts off this one."""
        self._learner = learner

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """What happens inside goes into that phase of the time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.counters.spent.add(phase, time.perf_counter() - began)

    @contextmanager
    def aside(self, phase: str) -> Iterator[None]:
        """The same of what is no training step: its memory is the process's alone."""
        with self.timing(phase), self.gauges.aside():
            yield

    def resume(self, counters: Counters) -> None:
        """Go on from there, the curve cut back to it."""
        self.counters, self._wall_before, self._began = counters, counters.wall_s, time.perf_counter()
        if not self._silent:
            for damage in record.cut(self.folder, step=counters.step):
                self.say("note", text=f"left out of the curve: {damage}")
            self._outlets.close("interrupted")  # of what a rollback takes back, where it is one
            self._outlets = Outlets(self._sinks, self._opening(), say=lambda text: self.say("note", text=text))
        self._report = _Report(counters.train_s)
        self._pace = (time.perf_counter(), counters.step)

    def go_back(self, counters: Counters) -> None:
        """Resume where the run stood before; the time since then is gone, and said to be lost."""
        self._lap()  # into the counters that are given up
        wall_s = self.wall_s()
        counters.spent.add("lost_s", wall_s - counters.wall_s)
        counters.wall_s = wall_s
        self.resume(counters)

    def stepped(self, *, loss_nats: float, grad_norm: float, learning_rate: float) -> None:
        """A step is done: its line and its report, where they are due."""
        with self.timing("log_s"):
            self._lap()
            self._stepped(loss_nats=loss_nats, grad_norm=grad_norm, learning_rate=learning_rate)

    def _lap(self) -> None:
        """Take over what the learner has spent since the last time."""
        if self._learner is None:
            return
        laps = self._learner.laps.spent
        for phase in laps.__struct_fields__:
            now = getattr(laps, phase)
            self.counters.spent.add(phase, now - getattr(self._lapped, phase))
            setattr(self._lapped, phase, now)

    def _stepped(self, *, loss_nats: float, grad_norm: float, learning_rate: float) -> None:
        at, now = self.counters, time.perf_counter()
        at.loss_sum += loss_nats
        at.loss_steps += 1
        self._report.loss_sum += loss_nats
        self._report.steps += 1
        last = at.step == self.recipe.steps
        if last or at.step % self._line_every == 0:
            self._line(learning_rate, grad_norm)
        if last or now - self._report.time > _REPORT_S:
            self._tell(learning_rate, grad_norm)

    def _opening(self) -> Opening:
        return Opening(
            folder=self.folder,
            run_id=self.folder.name,
            key=self._key,
            config=msgspec.to_builtins(self.recipe),
            setting="",
            from_step=self.counters.step,
        )

    def close(self, status: str) -> None:
        """The run has ended so, or stops here to go on later."""
        self._outlets.close(status)

    def _write(self, row: record.Row) -> None:
        """A line for the folder, and for whoever shows it."""
        if self._silent:
            return
        record.append(self.folder, row)
        self._outlets.tell(row)

    def evaluated(self, found: Evaluation) -> None:
        """An evaluation is done."""
        row = record.Row(
            step=self.counters.step,
            n_tokens=self.n_tokens(),
            wall_s=self.wall_s(),
            validation_loss_nats=found.loss_nats,
            validation_tokens=found.n_tokens,
            bits_per_byte=found.bits_per_byte,
            validation_sources={name: of.loss_nats for name, of in found.sources.items()} or None,
        )
        self._write(row)
        self.say("evaluation", loss_nats=found.loss_nats)

    def saved(self, step: int) -> None:
        """A checkpoint of that step is on the disk for good; the run may be further by now."""
        n_tokens = step * self.recipe.batch_tokens
        self._on_event(Event(kind="saved", step=step, steps=self.recipe.steps, n_tokens=n_tokens))

    def _line(self, learning_rate: float, grad_norm: float) -> None:
        """One line of the curve."""
        at, peak = self.counters, self.gauges.peak()
        rate = at.loss_steps * self.recipe.batch_tokens / (at.train_s - at.line_s)
        if self._learner is not None:
            self.expert_load = expert_load(self._learner.model)
        row = record.Row(
            step=at.step,
            n_tokens=self.n_tokens(),
            wall_s=self.wall_s(),
            loss_nats=at.loss_sum / at.loss_steps,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_s=rate,
            mfu=self.mfu(rate),
            spent=at.spent.since(at.line_spent),
            memory_bytes=peak.memory_bytes,
            tensors_bytes=peak.tensors_bytes,
            process_bytes=peak.process_bytes,
            expert_load=self.expert_load,
        )
        self._write(row)
        at.loss_sum, at.loss_steps, at.line_s, at.line_spent = 0.0, 0, at.train_s, at.spent.copy()

    def _left_s(self) -> float | None:
        """To the end, at this process's pace so far, whatever its time went into."""
        began, step = self._pace
        done, left = self.counters.step - step, self.recipe.steps - self.counters.step
        return (time.perf_counter() - began) * left / done if done else None

    def _tell(self, learning_rate: float, grad_norm: float) -> None:
        """One report."""
        since = self._report
        rate = since.steps * self.recipe.batch_tokens / (self.counters.train_s - since.train_s)
        loss_nats = since.loss_sum / since.steps
        event = Event(
            kind="step",
            step=self.counters.step,
            steps=self.recipe.steps,
            n_tokens=self.n_tokens(),
            loss_nats=loss_nats,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_s=rate,
            mfu=self.mfu(rate),
            memory_bytes=self.gauges.peak().memory_bytes,
            left_s=self._left_s(),
        )
        self._on_event(event)
        self._report = _Report(self.counters.train_s)

    def say(self, kind: Kind, *, loss_nats: float | None = None, text: str = "") -> None:
        """Tell who listens."""
        event = Event(
            kind=kind,
            step=self.counters.step,
            steps=self.recipe.steps,
            n_tokens=self.n_tokens(),
            loss_nats=loss_nats,
            text=text,
        )
        self._on_event(event)

    def n_tokens(self) -> int:
        """Tokens seen."""
        return self.counters.step * self.recipe.batch_tokens

    def wall_s(self) -> float:
        """Since the run began, over all its resumes."""
        return self._wall_before + time.perf_counter() - self._began

    def mfu(self, tokens_per_s: float | None, *, flop_per_token: float | None = None) -> float | None:
        """At that speed; None where the peak is not known.

        Args:
            flop_per_token: of steps of several kinds, on average; None for those that come.
        """
        if tokens_per_s is None or self._peak_flop_per_s is None:
            return None
        return mfu((flop_per_token or self.flop_per_token) * tokens_per_s, 1.0, self._peak_flop_per_s)
