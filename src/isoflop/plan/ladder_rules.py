"""The rules by which a ladder's models and schedules follow from their size, each with its source.

Every rule is a function of its own and gives way to what a `LadderPlan` says. They were read in the ladders of
OLMo-core (allenai/OLMo-core, `model_ladder`), nanochat (karpathy/nanochat) and marin (marin-community/marin), and in
Porian et al. 2024 (arXiv:2406.19146); where our own runs (LOG.md) spoke against one, the rule says so.
"""

import math
from functools import cache, lru_cache

from isoflop.errors import InfeasibleError
from isoflop.plan.shape import aspect, vocabulary_for
from isoflop.specs.architecture import Decoder

REFERENCE_PARAMS = 108e6
REFERENCE_BATCH = 2048 * 160.0  # tokens
LEAST_VOCABULARY = 264  # 256 bytes, the end of text, and a few merges
LEAST_WIDTH = 24
LEAST_LAYERS = 2
LEAST_PARAMS = 1000
_CONTEXTS = ((3e6, 128), (3e7, 512), (1e8, 1024), (math.inf, 2048))
EMBEDDED = 1 / 3  # of the parameters, at most
_MEMORY = 5.0  # memories of AdamW's second moment in the shortest run

RULES: dict[str, tuple[str, str]] = {
    "shape": (
        "sqrt(width) / 2 heads of 2 sqrt(width), two at least; width per layer 32 at 100 thousand parameters to 64 at "
        "100 million and 128 at 10 billion, two layers at least, none shallower than the size before; SwiGLU 8/3 of "
        "the width",
        "heads from our own runs, LOG.md, and 64 at width 1,024, 128 at 4,096 as usual; Kaplan et al. 2020 "
        "(arXiv:2001.08361), fig. 5: loss is flat around it; OLMo-core, nanochat; a single layer cannot copy by "
        "context: Olsson et al. 2022 (arXiv:2209.11895)",
    ),
    "vocabulary": (
        "head and embedding at most a third of the smallest model's parameters",
        "Porian et al. 2024 (arXiv:2406.19146): the head of small models bends the law",
    ),
    "context": ("128 tokens below 3 million parameters, 512, 1,024 and 2,048 above", "our own sweep, LOG.md"),
    "batch": (
        "2048 x 160 (N / 108e6)^(2/3) tokens, a power of two of sequences, and so small that the shortest run takes "
        "500 steps after its warmup",
        "OLMo-core, model_ladder",
    ),
    "warmup": ("N tokens, at most a tenth of the shortest run, at least 50 steps", "OLMo-core, model_ladder"),
    "beta2": (
        "0.999^(sequences / 32) between 0.95 and 0.999, its memory at most a fifth of the shortest run",
        "Marek et al. 2025 (arXiv:2507.07101); the last part from our own sweep, LOG.md: 100 steps beat 1,000 by "
        "0.03 nats in runs of 900",
    ),
    "optimizer": ("weight decay 0.1 on matrices alone, clipping at 1, z-loss 1e-5", "OLMo-core, nanochat, marin"),
    "cooldown": (
        "1 - sqrt over 20 % of a point's tokens, at least 100 steps",
        "Hägele et al. 2024 (arXiv:2405.18392), sec. 3",
    ),
    "points": (
        "0.5, 1, 2, 4 and 8 times 20 tokens a parameter off one trunk",
        "Hägele et al. 2024 (arXiv:2405.18392), sec. 4; Hoffmann et al. 2022 (arXiv:2203.15556)",
    ),
    "learning rate": (
        "five rates, each twice the last, around 0.3 x 0.0047 (N / 108e6)^(-1/3) at the two smallest sizes and the "
        "middle one; log rate = a + b log N through their parabolas",
        "OLMo-core, model_ladder; Li et al. 2025 (arXiv:2503.04715)",
    ),
    "noise": ("three seeds at the two cheapest sizes, pooled", "Porian et al. 2024 (arXiv:2406.19146)"),
}
"""Name -> what it says, where it is from; `isoflop ladder --dry-run` prints them."""


@lru_cache(maxsize=1024)  # a search for a budget tries one smallest size with several steps between sizes
def vocabulary(smallest_params: float) -> int:
    """Tokens of the vocabulary: one for all sizes, as losses per token compare in one vocabulary only.

    Raises:
        InfeasibleError: bytes alone would take more than a third of so small a model.
    """
    size: int
    for size in (*range(64 * (int(vocabulary_for(smallest_params)) // 64), LEAST_VOCABULARY, -64), LEAST_VOCABULARY):
        model = model_of(smallest_params, vocabulary=size, context=8)
        if size * model.width <= EMBEDDED * _total(model):
            return size
    raise InfeasibleError(
        f"a model of {smallest_params:,.0f} parameters gives more than a third of them to a vocabulary of "
        f"{LEAST_VOCABULARY}"
    )


def context(smallest_params: float) -> int:
    """Tokens of a sequence."""
    size: int = next(size for most, size in _CONTEXTS if smallest_params < most)
    return size


def model_of(
    n_params: float, *, vocabulary: int, context: int, layers: int | None = None, after: Decoder | None = None
) -> Decoder:
    """The member of the family nearest to `n_params`, width per layer near the rule for that size, and narrower where
    the vocabulary would weigh too much.

    N is not hit to a per cent: that would take turning the hidden width too, and neighbours of different proportions
    scatter by more than their noise (LOG.md). The tokens make up for it.

    Args:
        layers: instead of the rule.
        after: the size before, which this one is not to be shallower or narrower than.
    """
    narrowest = after.width if after else LEAST_WIDTH
    shallowest = after.layers if after else LEAST_LAYERS
    best: tuple[float, Decoder] | None = None
    usual = aspect(n_params)
    for depth in [layers] if layers else range(shallowest, 129):
        ideal = _width(n_params, depth, vocabulary)
        for width in _widths(ideal):
            model = member(max(width, narrowest), depth, vocabulary=vocabulary, context=context)
            total = _total(model)
            off = abs(math.log(total / n_params)) / 0.1
            bent = math.log(model.width / depth / usual) / math.log(2)
            heavy = max(0.0, vocabulary * model.width / total / EMBEDDED - 1) / 0.03
            score = off**2 + (0.0 if layers else bent**2 + heavy**2)
            if best is None or score < best[0]:
                best = score, model
        if not layers and depth > shallowest and ideal / depth < usual / 4:
            break
    assert best is not None
    return best[1]


def _width(n_params: float, layers: int, vocabulary: int) -> float:
    """The width that solves 12 layers width^2 + vocabulary width = N."""
    return (math.sqrt(vocabulary**2 + 48.0 * layers * n_params) - vocabulary) / (24.0 * layers)


def _widths(ideal: float) -> tuple[int, int]:
    """The widths below and above, in steps of 4 below 64 and of 8 above."""
    step = 4 if ideal < 64 else 8
    return step * math.floor(ideal / step), step * math.ceil(ideal / step)


def _total(model: Decoder) -> float:
    """Parameters but for the norms, whose few a search need not count."""
    block = 4 * model.width**2 + 3 * model.width * model.hidden
    return float(model.layers * block + model.vocabulary * model.width)


@lru_cache(maxsize=4096)  # a search for a budget asks for the same few again and again
def member(width: int, layers: int, *, vocabulary: int, context: int) -> Decoder:
    """The model of this width and depth: tied, as many key heads as query heads."""
    heads, head_size = _heads(width)
    step = 8 if width < 256 else 64
    return Decoder(
        layers=layers, width=width, heads=heads, kv_heads=heads, head_size=head_size,
        hidden=step * round(8 * width / 3 / step), vocabulary=vocabulary, context=context, tied=True,
    )  # fmt: skip


@cache
def _heads(width: int) -> tuple[int, int]:
    """Heads and their size near sqrt(width) / 2 and 2 sqrt(width), together about as wide as the model.

    Both grow evenly. With heads of 32 the smallest models had a single one, and the step to two took 3 to 4 % off their
    loss, which a law takes for the gain of size (LOG.md).
    """
    ideal, step = 2 * math.sqrt(width), 2 if width < 256 else 8
    sizes = [step * max(1, floor + place) for floor in [int(ideal / step)] for place in (-1, 0, 1, 2)]
    shapes = [(max(2, round(width / size)), size) for size in sizes]
    return min(shapes, key=lambda each: math.hypot(math.log(each[1] / ideal), 2 * math.log(math.prod(each) / width)))


def warmup_steps(n_params: float, *, shortest_tokens: float, batch_tokens: int) -> int:
    """N tokens, at most a tenth of the shortest run, at least 50 steps."""
    return max(50, round(min(n_params, 0.1 * shortest_tokens) / batch_tokens))


def batch_tokens(n_params: float, *, context: int, shortest_tokens: float, least_steps: int) -> int:
    """Tokens of a step; one sequence where even that leaves too few steps."""
    usual = REFERENCE_BATCH * (n_params / REFERENCE_PARAMS) ** (2 / 3)
    sequences = int(2 ** max(0, round(math.log2(usual / context))))
    while sequences > 1:
        tokens = sequences * context
        steps = shortest_tokens / tokens
        if steps - warmup_steps(n_params, shortest_tokens=shortest_tokens, batch_tokens=tokens) >= least_steps:
            break
        sequences //= 2
    return sequences * context


def beta2(*, sequences: int, shortest_steps: int) -> float:
    """Decay of AdamW's second moment."""
    usual = min(max(math.pow(0.999, sequences / 32), 0.95), 0.999)
    return max(0.95, min(usual, 1 - _MEMORY / shortest_steps))
