"""What a run reads: sources by weight, and what changes on the way. The table `[data]` of a recipe."""

import math
from collections.abc import Sequence
from fractions import Fraction

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.architecture import Model
from isoflop.specs.rotary import RopeScaling

_FINEST = 1 << 30  # parts that a whole is cut into where weights have no smaller common measure


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One folder of shards in a mixture: `[[data.sources]]`.

    Attributes:
        name: what stages, losses and epochs call it.
        shards: folder written by `isoflop data tokenize`; all sources' are in the same tokens.
        weight: its share of the tokens is this over the sum of all weights. At 0, in every stage, it is no training
            text, and the model is judged by its validation split all the same.
    """

    name: str
    shards: str
    weight: float

    def __post_init__(self) -> None:
        if not self.name or "." in self.name:
            raise UsageError(f"recipe: data.sources: name is {self.name!r}; it is a word without dots")
        _check_weight(f"data.sources.{self.name}.weight", self.weight)


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a number of tokens on, something else: `[[data.stages]]`. What is left out stays as it was.

    Attributes:
        at_tokens: of the run, counted as its `n_tokens` are, rounded down to whole steps.
        weights: by source; sources that are not named are read no more.
        context: tokens of one sequence; the batch keeps its tokens and has fewer or more sequences.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how the frequencies are stretched.
    """

    at_tokens: int
    weights: dict[str, float] = {}
    context: int | None = None
    rope_theta: float | None = None
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            _check_weight(f"data.stages: weights.{name}", weight)
        changes = (self.weights, self.context, self.rope_theta, self.rope_scaling)
        if not any(change not in (None, {}) for change in changes):
            raise UsageError(
                f"recipe: data.stages: nothing changes at {self.at_tokens} tokens; say weights, context, rope_theta or "
                "rope_scaling"
            )


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[data]`.

    Attributes:
        sources: in place of the recipe's `shards`. Their order counts: the first one's text comes in the order that it
            has alone, so that a run of one folder can go on with more of them, to the bit.
        stages: by rising `at_tokens`.
    """

    sources: tuple[Source, ...] = ()
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"recipe: data.sources: {twice[0]!r} is the name of two")
        if self.sources:
            _check_some("data.sources", [source.weight for source in self.sources])
        before = 0
        for stage in self.stages:
            if stage.at_tokens <= before:
                raise UsageError(f"recipe: data.stages: at_tokens is {stage.at_tokens}; it must be above {before}")
            before = stage.at_tokens
            if stage.weights:
                if unknown := [name for name in stage.weights if name not in names]:
                    known = f"there are {', '.join(names)}" if names else "sources are named in [[data.sources]]"
                    raise UsageError(f"recipe: data.stages: no source is called {unknown[0]!r}; {known}")
                _check_some(f"data.stages at {stage.at_tokens} tokens", list(stage.weights.values()))


class Phase(Struct, frozen=True, kw_only=True):
    """What holds between two changes; a run without stages is one.

    Attributes:
        begins: its first step.
        model: with the context and the rotary positions of the phase.
        parts: of each source, whole numbers whose ratios are the shares of tokens.
    """

    begins: int
    model: Model
    parts: tuple[int, ...]


def parts(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers, as small as they go: (0.7, 0.3) and (7, 3) are (7, 3).

    So a share is a ratio of integers and no rounding adds up over a long run. Weights whose smallest common measure is
    finer than 2^-30 of the whole, such as (1, pi), are rounded to that.
    """
    exact = [Fraction(repr(float(weight))) for weight in weights]  # 0.1 as written, not as binary has it
    whole = math.lcm(*(share.denominator for share in exact))
    numbers = [int(share * whole) for share in exact]
    if sum(numbers) // (math.gcd(*numbers) or 1) > _FINEST:
        total = sum(exact)
        numbers = [max(round(share / total * _FINEST), 1 if share else 0) for share in exact]
    common = math.gcd(*numbers)
    return tuple(number // common for number in numbers)


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < float("inf"):
        raise UsageError(f"recipe: {name} is {weight}; it must be 0 or more, finite")


def _check_some(where: str, weights: Sequence[float]) -> None:
    if not any(weights):
        raise UsageError(f"recipe: {where}: all weights are 0; there is nothing to read")
