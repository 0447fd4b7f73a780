"""What a run says and writes down of itself: reports for those who listen, lines of the curve for the folder."""

import time
from collections.abc import Callable
from pathlib import Path

from isoflop.specs.recipe import Recipe
from isoflop.train import record
from isoflop.train.counters import Counters
from isoflop.train.evaluation import Evaluation
from isoflop.train.events import Event, Kind
from isoflop.train.meter import mfu

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
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        folder: Path,
        counters: Counters,
        on_event: Callable[[Event], None],
        flop_per_token: float,
        peak_flop_per_s: float | None,
    ) -> None:
        self.recipe, self.folder, self.counters = recipe, folder, counters
        self._on_event = on_event
        self._flop_per_token, self._peak_flop_per_s = flop_per_token, peak_flop_per_s
        self._line_every = max(1, recipe.steps // _LINES)
        self._began, self._wall_before = time.perf_counter(), counters.wall_s
        self._report = _Report(counters.train_s)

    def resume(self, counters: Counters) -> None:
        """Go on from there, the curve cut back to it."""
        self.counters, self._wall_before, self._began = counters, counters.wall_s, time.perf_counter()
        record.cut(self.folder, step=counters.step)
        self._report = _Report(counters.train_s)

    def stepped(self, *, loss_nats: float, grad_norm: float, learning_rate: float) -> None:
        """A step is done: its line and its report, where they are due."""
        at, now = self.counters, time.perf_counter()
        at.loss_sum += loss_nats
        at.loss_steps += 1
        self._report.loss_sum += loss_nats
        self._report.steps += 1
        last = at.step == self.recipe.steps
        if last or at.step % self._line_every == 0:
            self._line(learning_rate, grad_norm)
        if last or now - self._report.time > _REPORT_S:
            self._tell(learning_rate)

    def evaluated(self, found: Evaluation) -> None:
        """An evaluation is done."""
        row = record.Row(
            step=self.counters.step,
            n_tokens=self.n_tokens(),
            wall_s=self.wall_s(),
            validation_loss_nats=found.loss_nats,
            validation_tokens=found.n_tokens,
            bits_per_byte=found.bits_per_byte,
        )
        record.append(self.folder, row)
        self.say("evaluation", loss_nats=found.loss_nats)

    def saved(self, step: int) -> None:
        """A checkpoint of that step is on the disk for good; the run may be further by now."""
        n_tokens = step * self.recipe.batch_tokens
        self._on_event(Event(kind="saved", step=step, steps=self.recipe.steps, n_tokens=n_tokens))

    def _line(self, learning_rate: float, grad_norm: float) -> None:
        """One line of the curve."""
        at = self.counters
        row = record.Row(
            step=at.step,
            n_tokens=self.n_tokens(),
            wall_s=self.wall_s(),
            loss_nats=at.loss_sum / at.loss_steps,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_s=at.loss_steps * self.recipe.batch_tokens / (at.train_s - at.line_s),
        )
        record.append(self.folder, row)
        at.loss_sum, at.loss_steps, at.line_s = 0.0, 0, at.train_s

    def _tell(self, learning_rate: float) -> None:
        """One report."""
        since = self._report
        rate = since.steps * self.recipe.batch_tokens / (self.counters.train_s - since.train_s)
        loss_nats = since.loss_sum / since.steps
        self.say("step", loss_nats=loss_nats, learning_rate=learning_rate, tokens_per_s=rate, mfu=self.mfu(rate))
        self._report = _Report(self.counters.train_s)

    def say(
        self,
        kind: Kind,
        *,
        loss_nats: float | None = None,
        learning_rate: float | None = None,
        tokens_per_s: float | None = None,
        mfu: float | None = None,
        text: str = "",
    ) -> None:
        """Tell who listens."""
        event = Event(
            kind=kind,
            step=self.counters.step,
            steps=self.recipe.steps,
            n_tokens=self.n_tokens(),
            loss_nats=loss_nats,
            learning_rate=learning_rate,
            tokens_per_s=tokens_per_s,
            mfu=mfu,
            text=text,
        )
        self._on_event(event)

    def n_tokens(self) -> int:
        """Tokens seen."""
        return self.counters.step * self.recipe.batch_tokens

    def wall_s(self) -> float:
        """Since the run began, over all its resumes."""
        return self._wall_before + time.perf_counter() - self._began

    def mfu(self, tokens_per_s: float | None) -> float | None:
        """At that speed; None where the peak is not known."""
        if tokens_per_s is None or self._peak_flop_per_s is None:
            return None
        return mfu(self._flop_per_token * tokens_per_s, 1.0, self._peak_flop_per_s)
