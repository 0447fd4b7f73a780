"""Batches out of tokens, as a pure function of (seed, step, rank, world): the state to resume from is the step.

The tokens are cut in windows of `context` that do not overlap, each with the one token behind it, so that every token
but the first is predicted once an epoch. Each epoch visits all windows in an order of its own. Sample number
`step * sequences + j` decides epoch and window, and ranks take shares of j, so their union is the batch of one rank.

Legend: S sequences of this rank, T context.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from isoflop.data.draw import mixed
from isoflop.data.shards import Tokens
from isoflop.errors import InputError, UsageError

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_ROUNDS = 6


class Loader:
    """The training batches of one rank.

    Args:
        tokens: a split's tokens, or any array of them.
        context: tokens of one sequence.
        sequences: sequences of one step over all ranks.
        seed: decides the order of every epoch.
        rank: which share of each batch.
        world: number of shares; it must divide `sequences`.

    Raises:
        UsageError: the numbers do not go together.
        InputError: fewer tokens than one window.
    """

    def __init__(
        self,
        tokens: Tokens | npt.NDArray[np.unsignedinteger],
        *,
        context: int,
        sequences: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if min(context, sequences, world) < 1 or not 0 <= rank < world or seed < 0:
            raise UsageError(
                f"loader: context {context}, sequences {sequences}, seed {seed}, rank {rank} of {world}: "
                "sizes must be at least 1, the seed at least 0, and the rank below the world"
            )
        if sequences % world:
            raise UsageError(f"loader: {sequences} sequences a step cannot be shared evenly by {world} ranks")
        self.tokens = tokens if isinstance(tokens, Tokens) else Tokens([tokens])
        self.context = context
        self.sequences = sequences
        self.seed = seed
        self.share = sequences // world
        self.first = rank * self.share
        self.n_windows = _n_windows(self.tokens, context)

    def batch(self, step: int) -> Batch:
        """Inputs (S, T) and targets (S, T), the inputs one token on, of a step counted from 0."""
        if step < 0:
            raise UsageError(f"loader: step {step} is negative")
        first = step * self.sequences + self.first
        epochs, places = np.divmod(np.arange(first, first + self.share, dtype=np.int64), self.n_windows)
        windows = np.empty_like(places)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            windows[now] = shuffled(places[now], self.n_windows, seed=self.seed, epoch=int(epoch))
        rows = self.tokens.gather(windows * self.context, length=self.context + 1)
        return rows[:, :-1], rows[:, 1:]

    def epochs(self, step: int) -> float:
        """Passes over the windows after `step` steps."""
        return step * self.sequences / self.n_windows

    def unique_tokens(self, steps: int) -> int:
        """Different tokens predicted in `steps` steps: all that were seen, up to every window once."""
        return min(steps * self.sequences, self.n_windows) * self.context


class Windows:
    """A fixed evaluation: windows spread evenly over a split, the same for every run.

    Spread and not the first ones: documents stand in the order of their names, and one long unusual document at the
    beginning would be the whole evaluation.

    Args:
        tokens: a split's tokens, or any array of them.
        context: tokens of one sequence.
        limit_tokens: most tokens to predict; rounded down to whole windows, and to what is there.
        token_bytes: (vocabulary,) bytes of text in each token.

    Attributes:
        n_tokens: tokens predicted.
        n_there: whole windows in the split.
        n_bytes: bytes of text in those; bits per byte = sum of nats / ln 2 / n_bytes.

    Raises:
        InputError: fewer tokens than one window.
    """

    def __init__(
        self,
        tokens: Tokens | npt.NDArray[np.unsignedinteger],
        *,
        context: int,
        limit_tokens: int,
        token_bytes: npt.NDArray[np.int64],
    ) -> None:
        if limit_tokens < context:
            raise UsageError(
                f"evaluation of {limit_tokens} tokens: less than one context of {context}; raise validation_tokens"
            )
        self.tokens = tokens if isinstance(tokens, Tokens) else Tokens([tokens])
        self.context = context
        self.n_there = _n_windows(self.tokens, context)
        self.n_windows = min(self.n_there, limit_tokens // context)
        self.n_tokens = self.n_windows * context
        self.n_bytes = sum(int(token_bytes[targets].sum()) for _, targets in self.batches(1024))

    def batches(self, sequences: int) -> Iterator[Batch]:
        """All windows as inputs and targets (S, T), `sequences` at a time; the last batch may be smaller."""
        for first in range(0, self.n_windows, sequences):
            windows = np.arange(first, min(first + sequences, self.n_windows), dtype=np.int64)
            windows = windows * self.n_there // self.n_windows
            rows = self.tokens.gather(windows * self.context, length=self.context + 1)
            yield rows[:, :-1], rows[:, 1:]


def _n_windows(tokens: Tokens, context: int) -> int:
    """Whole windows in the tokens.

    Raises:
        InputError: not even one.
    """
    n_windows = (len(tokens) - 1) // context
    if n_windows < 1:
        raise InputError(
            f"the split has {len(tokens)} tokens; one window of context {context} needs {context + 1}. "
            "Give more text, or a shorter context"
        )
    return n_windows


def shuffled(places: npt.NDArray[np.int64], n: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Where a permutation of 0..n-1, chosen by (seed, epoch), puts `places`.

    A Feistel network on pairs (left < a, right < b) with a*b just above n; what lands outside n is sent through
    again until it lands inside. So no list of n windows is ever built or kept (8 GB at a trillion tokens), any place
    is found in the same time, and the order is this code's own, not that of one release of a random library.

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", generalised Feistel and cycle walking.
    """
    a = int(np.ceil(np.sqrt(n)))
    b = -(-n // a)
    keys = _round_keys(seed, epoch)
    out = places.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = np.divmod(out[todo], np.uint64(b))
        for one, two in zip(keys[::2], keys[1::2], strict=True):
            left = (left + mixed(right, one) % np.uint64(a)) % np.uint64(a)
            right = (right + mixed(left, two) % np.uint64(b)) % np.uint64(b)
        out[todo] = left * np.uint64(b) + right
        todo = todo[out[todo] >= n]
    return out.astype(np.int64)


def _round_keys(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    """(rounds,) 64-bit keys out of the sha512 of seed and epoch."""
    digest = hashlib.sha512(f"{seed}:{epoch}".encode()).digest()
    return np.frombuffer(digest, dtype="<u8")[:_ROUNDS]
