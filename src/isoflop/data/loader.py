"""One text's batches for training, and the windows of its held-out part for validation.

Legend: S sequences, T context.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from isoflop.data.mixture import Batch, Mixture, Span
from isoflop.data.order import n_windows
from isoflop.data.tokens import Tokens
from isoflop.errors import UsageError

__all__ = ["Batch", "Loader", "Windows"]


class Loader(Mixture):
    """The training batches of one rank out of one text: a mixture of one.

    Args:
        tokens: a split's tokens, or any array of them.
        context: tokens of one sequence.
        sequences: sequences of one step over all ranks.
        seed: decides the order of every epoch.
        rank: which share of each batch.
        world: number of shares; it must divide `sequences`.

    Attributes:
        n_windows: that the text is cut into.

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
        text = tokens if isinstance(tokens, Tokens) else Tokens([tokens])
        span = Span(begins=0, context=context, sequences=sequences, parts=(1,))
        super().__init__([text], [span], seed=seed, rank=rank, world=world)
        self.n_windows = n_windows(len(text), context=context)


class Windows:
    """A fixed evaluation: windows spread evenly over a split, the same for every run.

    Spread and not the first ones: documents stand in the order of their names, and one long unusual document at the
    beginning would be the whole evaluation.

    Args:
        tokens: a split's tokens, or any array of them.
        context: tokens of one sequence.
        limit_tokens: most tokens to predict; rounded down to whole windows, and to what is there.
        token_bytes: (vocabulary,) bytes of text in each token.
        of: what to call it in errors.

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
        of: str = "the split",
    ) -> None:
        if limit_tokens < context:
            raise UsageError(
                f"evaluation of {limit_tokens} tokens: less than one context of {context}; raise validation_tokens"
            )
        self.tokens = tokens if isinstance(tokens, Tokens) else Tokens([tokens])
        self.context = context
        self.n_there = n_windows(len(self.tokens), context=context, of=of)
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
