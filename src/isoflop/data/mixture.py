"""Batches out of several texts, as a pure function of (seed, batch, rank, world): there is no state to resume.

Each text is cut in windows of the context that do not overlap, each with the one token behind it, and is passed through
again and again, each time in an order of its own. `turns` say which text a sample is of and which place in that text's
reading it has. Ranks take shares of a batch's samples, so their union is the batch of one.

Where weights change, every text goes on where it was. Where the context changes, a text is cut anew and a new pass
begins, in which what the pass before had read comes again.

Legend: S sequences of this rank, T context.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.data.order import in_order, n_windows
from isoflop.data.tokens import Tokens
from isoflop.data.turns import Turns
from isoflop.errors import UsageError

Batch: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_AHEAD = 4096  # most samples of a rank whose windows are found at once: those of 4 would take nearly as long
_NONE = np.empty((0, 0), dtype=np.int64)


class Span(Struct, frozen=True, kw_only=True):
    """Batches that are made alike.

    Attributes:
        begins: number of the first.
        context: tokens of one sequence.
        sequences: of one batch, over all ranks.
        parts: of each text; see `Turns`.
    """

    begins: int
    context: int
    sequences: int
    parts: tuple[int, ...]


class Read(Struct, frozen=True, kw_only=True):
    """What has been read of one text.

    Attributes:
        n_tokens: predicted, repeats included.
        unique_tokens: different ones among them; where the context has changed, as many as are to be expected of
            passes that know nothing of each other.
        epochs: times that its tokens have been read, on average.
    """

    n_tokens: int
    unique_tokens: int
    epochs: float


class _Pass(Struct):
    """Where a text's reading stands when a span begins.

    Attributes:
        windows: that it is cut into, of `context` tokens.
        epoch: number of this cut's first pass.
        place: of the next window.
    """

    context: int
    windows: int
    epoch: int = 0
    place: int = 0


class Mixture:
    """The training batches of one rank.

    Args:
        texts: a split's tokens each.
        spans: by rising `begins`, the first at 0.
        seed: decides the order of every pass.
        rank: which share of each batch.
        world: number of shares; it must divide the sequences of every batch.
        behind: batches of the first span's order that come before batch 0.
        names: of the texts, for errors.

    Raises:
        UsageError: the numbers do not go together.
        InputError: a text that is read has fewer tokens than one window.
    """

    def __init__(
        self,
        texts: Sequence[Tokens],
        spans: Sequence[Span],
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        behind: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        for span in spans:
            if min(span.context, span.sequences, world) < 1 or not 0 <= rank < world or min(seed, behind) < 0:
                raise UsageError(
                    f"loader: context {span.context}, sequences {span.sequences}, seed {seed}, rank {rank} of {world}, "
                    f"{behind} batches behind: sizes must be at least 1, seed and what is behind at least 0, and the "
                    "rank below the world"
                )
            if span.sequences % world:
                raise UsageError(f"loader: {span.sequences} sequences a step cannot be shared evenly by {world} ranks")
        self.texts, self.spans, self.seed = list(texts), list(spans), seed
        self._all = Tokens([array for text in texts for array in text.arrays])  # behind each other
        self._begin = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        self.rank, self.world, self.behind = rank, world, behind
        self._names = list(names) or [f"text {i}" if len(texts) > 1 else "the split" for i in range(len(texts))]
        self._turns = [Turns(span.parts) for span in spans]
        self._passes = self._begun()
        self._found: dict[int, tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}

    def span(self, batch: int) -> int:
        """Which span a batch lies in."""
        if batch < 0:
            raise UsageError(f"loader: step {batch} is negative")
        return sum(span.begins <= batch for span in self.spans) - 1

    def first(self, batch: int) -> int:
        """Place of this rank's first sequence among those of all ranks."""
        return self.rank * (self.spans[self.span(batch)].sequences // self.world)

    def batch(self, batch: int) -> Batch:
        """Inputs (S, T) and targets (S, T), the inputs one token on, of a batch counted from 0."""
        number = self.span(batch)
        span = self.spans[number]
        which, windows = self._windows(number, batch)
        rows_ST = self._all.gather(self._begin[which] + windows * span.context, length=span.context + 1)
        return rows_ST[:, :-1], rows_ST[:, 1:]

    def read(self, batches: int) -> list[Read]:
        """Of each text, after so many batches; those behind batch 0 are counted in."""
        cuts: list[dict[int, tuple[int, int, int]]] = [{} for _ in self.texts]
        for number, span in enumerate(self.spans):
            if batches <= span.begins and number:
                break
            until = self._end(number, batches)
            for text, taken in enumerate(self._turns[number].taken(self._sample(until, number))):
                if taken:
                    at = self._passes[number][text]
                    assert at is not None
                    before = cuts[text].get(at.epoch, (0, 0, 0))[2]
                    cuts[text][at.epoch] = (span.context, at.windows, before + taken)
        return [_read(list(cut.values())) for cut in cuts]

    def _sample(self, batch: int, span: int) -> int:
        """Number within its span of a batch's first sample."""
        behind = 0 if span else self.behind
        return (batch - self.spans[span].begins + behind) * self.spans[span].sequences

    def _end(self, span: int, batches: int) -> int:
        """The first batch behind a span, or behind all that are asked for."""
        return min(batches, self.spans[span + 1].begins) if span + 1 < len(self.spans) else batches

    def _begun(self) -> list[list[_Pass | None]]:
        """Of each span and text, where its reading begins; None where it is not read."""
        at: list[_Pass | None] = [None] * len(self.texts)
        found = []
        for number, (span, turns) in enumerate(zip(self.spans, self._turns, strict=True)):
            begun = [self._next(at[text], span, text) if part else None for text, part in enumerate(span.parts)]
            found.append(begun)
            if number + 1 == len(self.spans):
                break
            taken = turns.taken(self._sample(self.spans[number + 1].begins, number))
            at = [
                before if now is None else _Pass(now.context, now.windows, now.epoch, now.place + more)
                for before, now, more in zip(at, begun, taken, strict=True)
            ]
        return found

    def _next(self, before: _Pass | None, span: Span, text: int) -> _Pass:
        """Where a text goes on, or begins, in windows of the span's context."""
        if before is not None and before.context == span.context:
            return before
        windows = n_windows(len(self.texts[text]), context=span.context, of=self._names[text])
        passes = 0 if before is None else before.epoch + -(-before.place // before.windows)
        return _Pass(span.context, windows, passes)

    def _windows(self, number: int, batch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(S,) texts and (S,) windows of a batch of a span.

        Who reads on and on has those of the next batches found with it and kept, twice as many each time.
        """
        begins, which, windows = self._found.get(number, (0, _NONE, _NONE))
        if not begins <= batch < begins + len(which):
            most = max(1, _AHEAD * self.world // self.spans[number].sequences)
            ahead = min(most, 2 * len(which)) if batch == begins + len(which) else 1
            begins, which, windows = self._found[number] = (batch, *self._find(number, batch, max(1, ahead)))
        return which[batch - begins], windows[batch - begins]

    def _find(self, number: int, batch: int, batches: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(batches, S) texts and windows from a batch on."""
        sequences = self.spans[number].sequences
        share = sequences // self.world
        firsts = self._sample(batch, number) + np.arange(batches, dtype=np.int64) * sequences
        samples = firsts[:, None] + np.arange(self.rank * share, (self.rank + 1) * share, dtype=np.int64)
        which, places = self._turns[number].of(samples.ravel())
        windows = np.empty_like(places)
        for text, at in enumerate(self._passes[number]):
            rows = np.flatnonzero(which == text)
            if at is not None and len(rows):
                windows[rows] = in_order(
                    places[rows] + at.place, at.windows, seed=self.seed, stream=text, epoch=at.epoch
                )
        return which.reshape(samples.shape), windows.reshape(samples.shape)


def _read(cuts: Sequence[tuple[int, int, int]]) -> Read:
    """Of a text that was read in cuts of (context, windows, windows read)."""
    n_read = sum(context * read for context, _, read in cuts)
    there = max((context * windows for context, windows, _ in cuts), default=0)
    missed = math.prod(1 - min(read, windows) / windows for _, windows, read in cuts)
    # Of one cut the count is exact, and so is the product's.
    return Read(n_tokens=n_read, unique_tokens=round(there * (1 - missed)), epochs=n_read / there if there else 0.0)
