"""How much of a text span corruption takes away, and how long inputs and targets are then.

Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 3.3.4; how lengths are rounded: their published preprocessing, of
which 568 tokens giving 512 and 114 is the known case.
"""

from bisect import bisect_right

from msgspec import Struct

from isoflop.errors import UsageError


class Spans(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How spans are chosen.

    Attributes:
        rate: share of the text in spans.
        mean_span: tokens of a span on average.
    """

    rate: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UsageError(f"objective: span rate is {self.rate}; it must lie between 0 and 1")
        if not 1 <= self.mean_span < float("inf"):
            raise UsageError(f"objective: mean_span is {self.mean_span}; it must be at least 1 and finite")


class Lengths(Struct, frozen=True, kw_only=True):
    """What becomes of a text of a length.

    Attributes:
        text: tokens of it.
        lost: tokens in spans.
        spans: number of spans.
    """

    text: int
    lost: int
    spans: int

    @property
    def inputs(self) -> int:
        """What is kept, a sentinel a span, the end."""
        return self.text - self.lost + self.spans + 1

    @property
    def targets(self) -> int:
        """What is lost, a sentinel a span, the end."""
        return self.lost + self.spans + 1


def lengths(text: int, spans: Spans) -> Lengths:
    """Of a text of `text` tokens: at least one lost and one kept, and no more spans than tokens to lie between them.

    Raises:
        UsageError: fewer than two tokens.
    """
    if text < 2:
        raise UsageError(f"objective: a text of {text} tokens has no room for a span; give at least 2")
    lost = min(max(round(text * spans.rate), 1), text - 1)
    return Lengths(text=text, lost=lost, spans=min(max(round(lost / spans.mean_span), 1), text - lost))


def text_length(inputs: int, spans: Spans) -> int:
    """The longest text whose inputs are at most `inputs` tokens long.

    Inputs never get shorter as text gets longer, so it is found by halving; none of n tokens is longer than where
    (1 - rate) n - 1/2 tokens kept already fill it.

    Raises:
        UsageError: not even a text of two tokens fits.
    """
    if inputs < lengths(2, spans).inputs:
        raise UsageError(f"objective: inputs of {inputs} tokens hold no text; a span, a token and the end need 3")
    longest = int((inputs + 1) / (1 - spans.rate)) + 2
    return 1 + bisect_right(range(2, longest + 1), inputs, key=lambda text: lengths(text, spans).inputs)
