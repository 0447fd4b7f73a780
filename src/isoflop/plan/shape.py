"""A real depth, width and number of heads for a wanted number of parameters.

Rules, with what they follow:

- Width per layer ("aspect") grows from 32 at 100 thousand parameters to 64 at 100 million and 128 at 10 billion, and
  stays there: GPT-3 125M has 64, Llama 7B 128, Llama 3 70B 102. Loss is flat around it (Kaplan et al. 2020,
  arXiv:2001.08361, fig. 5), so depth and width only have to be near.
- Heads are 16 wide below width 128, 32 below 256, 64 below 2048, 128 above; narrower where a tiny width does not
  divide: never one alone, which costs models this small 3 to 4 % of their loss (LOG.md). From width 4096 on there are 8
  key and value heads (Llama 3).
- A block weighs about 12 width^2: with as many key heads as query heads the SwiGLU's hidden width is 8/3 width.
- The hidden width takes up the rest, in the largest power of two that keeps N within 1 %, from 64 down (256 from width
  4096 on).
- The head is tied to the embedding where that weighs more than 7 % of the parameters (Llama 3.2 3B with 12 % is tied,
  Llama 3 8B with 6.5 % and TinyLlama with 6 % are not).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec.structs import replace

from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.specs.architecture import Counts, Decoder

TOLERANCE = 0.01
TIED_FROM = 0.07
_ASPECT = ((1e5, 32.0), (1e8, 64.0), (1e10, 128.0))
_WIDTHS = (
    8, 16, 24, 32, 48, *range(64, 256, 32), *range(256, 1024, 64), *range(1024, 2048, 128), *range(2048, 4096, 256),
    *range(4096, 65537, 1024),
)  # fmt: skip
_NEAR = 3.0  # a width this many times off makes a model 27 times too flat or too deep
_STEPS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
_VOCABULARY = ((3e5, 256), (3e6, 1024), (1e7, 4096), (3e7, 8192), (1e9, 32_768), (math.inf, 128_256))


def vocabulary_for(n_params: float) -> int:
    """Size of the vocabulary for a model of `n_params`.

    256 (bytes) below 300 thousand, 1,024 below 3 million, 4,096 below 10 million, 8,192 below 30 million, 32,768 (about
    Llama 2's) below a billion, 128,256 (Llama 3's) above: it keeps the embedding under a third of a small model.
    """
    return next(size for most, size in _VOCABULARY if n_params < most)


def shape(
    n_params: float, *, vocabulary: int, context: int, counts: Counts = "total", tied: bool | None = None
) -> Decoder:
    """The decoder nearest to the rules above with N within 1 % of `n_params`, where integer sizes allow it.

    Args:
        n_params: wanted, as `counts` says.
        vocabulary: rows of the embedding.
        context: longest sequence, tokens.
        counts: which parameters N counts.
        tied: whether the head is the embedding; None takes the rule above.

    Raises:
        UsageError: the embedding alone is larger than `n_params`, or `n_params` is beyond 1e14.
    """
    if not 0 < n_params <= 1e14:
        raise UsageError(f"n_params is {n_params:g}; a decoder of 1 to 1e14 parameters can be shaped")
    usual = (n_params * aspect(n_params) / 12) ** (1 / 3)  # 12 width^2 a block, width / aspect blocks
    near = [width for width in _WIDTHS if usual / _NEAR <= width <= usual * _NEAR]
    found: list[tuple[float, float, Decoder]] = []
    for widths in (near, _WIDTHS):  # all of them only where none of the usual ones will do
        found = list(_candidates(n_params, widths, vocabulary=vocabulary, context=context, counts=counts, tied=tied))
        if any(error <= TOLERANCE for error, _, _ in found):
            break
    if not found:
        raise UsageError(
            f"no decoder of {n_params:.3g} parameters has a vocabulary of {vocabulary}: the embedding alone is larger; "
            f"take a smaller vocabulary, or at least {2 * _WIDTHS[0] * vocabulary} parameters"
        )
    close = [candidate for candidate in found if candidate[0] <= TOLERANCE]
    if not close:
        return min(found, key=lambda candidate: candidate[0])[2]
    return min(close, key=lambda candidate: candidate[1])[2]


def _candidates(
    n_params: float, widths: Sequence[int], *, vocabulary: int, context: int, counts: Counts, tied: bool | None
) -> Iterator[tuple[float, float, Decoder]]:
    """Relative error of N, distance from the rules, decoder; one or two depths for each width."""
    for width in widths:
        heads, kv_heads, head_size = _heads(width)
        thin = Decoder(
            layers=1, width=width, heads=heads, kv_heads=kv_heads, head_size=head_size, hidden=1, vocabulary=vocabulary,
            context=context, tied=vocabulary * width > TIED_FROM * n_params if tied is None else tied,
        )  # fmt: skip
        ideal = _ideal_hidden(width, heads=heads, kv_heads=kv_heads, head_size=head_size)
        one, two = (parameters(replace(thin, layers=layers, hidden=round(ideal))).by(counts) for layers in (1, 2))
        depth = 1 + (n_params - one) / (two - one)
        for layers in {max(1, math.floor(depth)), max(1, math.ceil(depth))}:
            slope = 3 * layers * width
            hidden = (n_params - parameters(replace(thin, layers=layers)).by(counts)) / slope + 1
            if hidden < 1:
                continue
            rounded, error = _rounded(hidden, slope=slope, n_params=n_params, width=width)
            distance = abs(math.log(width / layers / aspect(n_params))) + 2 * abs(math.log(hidden / ideal))
            yield error, distance, replace(thin, layers=layers, hidden=rounded)


def aspect(n_params: float) -> float:
    """Width per layer that fits a model of `n_params`, log-linear between the points given above."""
    n = min(max(n_params, _ASPECT[0][0]), _ASPECT[-1][0])
    (a, at_a), (b, at_b) = next(pair for pair in pairwise(_ASPECT) if n <= pair[1][0])
    return float(at_a * (at_b / at_a) ** (math.log(n / a) / math.log(b / a)))


def _heads(width: int) -> tuple[int, int, int]:
    """Query heads, key and value heads, head size."""
    wanted = 16 if width < 128 else 32 if width < 256 else 64 if width < 2048 else 128
    size = min(math.gcd(wanted, width), width // 2)
    heads = width // size
    return heads, 8 if width >= 4096 else heads, size


def _ideal_hidden(width: int, *, heads: int, kv_heads: int, head_size: int) -> float:
    """Hidden width of a block of 12 width^2."""
    attention = 2 * width * (heads + kv_heads) * head_size
    return (12 * width**2 - attention) / (3 * width)


def _rounded(hidden: float, *, slope: int, n_params: float, width: int) -> tuple[int, float]:
    """Hidden width in the coarsest step that keeps N within tolerance, and the error of N that is left."""
    best = (1, math.inf)
    for step in _STEPS if width >= 4096 else _STEPS[2:]:
        rounded = max(step, step * round(hidden / step))
        error = abs(rounded - hidden) * slope / n_params
        if error <= TOLERANCE:
            return rounded, error
        best = min(best, (rounded, error), key=lambda pair: pair[1])
    return best
