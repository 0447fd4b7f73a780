"""What a run computes with, settled once from its recipe, its size and its device.

What the recipe says is taken, or refused where the device cannot. "auto" is decided by rules over measured gains
(`tables/engines.toml`; `python benchmarks/engine.py` measures them again), never by timing this very run: two runs of
one recipe on one kind of machine are to be the same run.

- precision "auto": on CPU bf16 where its products are natively faster and the width is one at which whole steps were;
  on a GPU bf16, or fp16 where it has no bf16.
- compile "auto": where what it saves over the expected length of the run is twice what it costs.
"""

import math
import time
from functools import cache

import numpy as np
import torch
from msgspec import Struct

from isoflop.count.text import flop_per_text_token
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Computed, Engine
from isoflop.specs.recipe import Recipe
from isoflop.tables import find
from isoflop.train import micro, precision
from isoflop.train.meter import Precision

_WORTH = 1.05  # below, a gain is within what a neighbour on the machine changes
_SIDE, _CALLS = 512, 20  # of the matrices that tell native bf16 from emulated
_SAFETY = 2.0  # times a cold start that compiling has to save


class Gains(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What bf16 and torch.compile gain on one kind of device; a row of `tables/engines.toml`.

    Attributes:
        bf16_gain: [width, steps in bf16 over steps in fp32, as rates]; empty where the hardware decides.
        bf16_product_gain: from which ratio of matmul rates on bf16 counts as native.
        compile_gain: by precision, [width, compiled over eager].
        compile_cold_s: of the first compiled step.
        flop_per_s: of training by precision, one thread or one GPU: how long a run is expected to be.
        micro_tokens: whose activations exist at once.
    """

    name: str
    bf16_gain: list[tuple[float, float]]
    bf16_product_gain: float
    compile_gain: dict[Computed, list[tuple[float, float]]]
    compile_cold_s: float
    flop_per_s: dict[Computed, float]
    micro_tokens: int
    source: str


def settle(recipe: Recipe, device: torch.device) -> Engine:
    """Settle all that is open.

    Raises:
        UsageError: the device cannot do what the recipe says.
    """
    gains = find("engines", Gains, device.type)
    computed, why_precision = _precision(recipe, device, gains)
    compiled, why_compiled = _compiled(recipe, device, computed, gains)
    rows, why_rows = micro.begin_with(
        recipe, precision=computed, tokens=gains.micro_tokens, available_bytes=micro.available(device)
    )
    reasons = tuple(why for why in (why_precision, why_compiled, why_rows) if why)
    return Engine(precision=computed, compiled=compiled, rows=rows, reasons=reasons)


def metered(computed: Computed) -> Precision:
    """The precision whose measured peak an MFU is a share of: that of bf16 for all of 16 bit, and for fp8."""
    return "fp32" if computed == "fp32" else "bf16"


def _precision(recipe: Recipe, device: torch.device, gains: Gains) -> tuple[Computed, str]:
    if recipe.precision != "auto":
        precision.check(recipe.precision, device)
        return recipe.precision, ""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "bf16 because the GPU has it"
        return "fp16", "fp16 with scaled losses because the GPU has no bf16"
    gain = at_width(gains.bf16_gain, recipe.model.width)
    if gain < _WORTH:
        return "fp32", f"fp32 because at width {recipe.model.width} steps in bf16 are x{gain:.2f} as fast"
    products = bf16_products(recipe.threads)
    if products < gains.bf16_product_gain:
        return "fp32", f"fp32 because this processor multiplies bf16 only x{products:.2f} as fast"
    return "bf16", f"bf16 because at width {recipe.model.width} its steps are x{gain:.2f} as fast"


def _compiled(recipe: Recipe, device: torch.device, computed: Computed, gains: Gains) -> tuple[bool, str]:
    if recipe.compile != "auto":
        return recipe.compile, ""
    if isinstance(recipe.model, Decoder) and recipe.model.experts:
        return False, "not compiled because experts get other numbers of tokens at every step"
    gain = at_width(gains.compile_gain.get(computed, []), recipe.model.width)
    rate = gains.flop_per_s[computed] * (recipe.threads if device.type == "cpu" else 1)
    length_s = flop_per_text_token(recipe) * recipe.n_tokens / rate
    saved_s = length_s * (1 - 1 / gain)
    worth = saved_s > _SAFETY * gains.compile_cold_s
    return worth, (
        f"{'compiled' if worth else 'not compiled'} because x{gain:.2f} the speed over about {length_s:.3g} s saves "
        f"{max(saved_s, 0.0):.2g} s, and a cold start costs {gains.compile_cold_s:g}"
    )


def at_width(gains: list[tuple[float, float]], width: int) -> float:
    """The gain at a width: between measured widths by the logarithm, beyond them the outermost one; 1 without any."""
    if not gains:
        return 1.0
    widths, values = zip(*sorted(gains), strict=True)
    return float(np.interp(math.log(width), np.log(widths), values))


@cache
def bf16_products(threads: int) -> float:
    """How many times as fast this processor multiplies in bf16 as in fp32, measured in 0.1 s once a process.

    Where it is native the ratio is 2 or more, where it is emulated below 1. The fastest of alternating calls count, so
    that a neighbour at work, who takes whole calls away, does not decide.
    """
    before, best = torch.get_num_threads(), [math.inf, math.inf]
    torch.set_num_threads(threads)
    try:
        sides = [torch.ones(_SIDE, _SIDE, dtype=kind) for kind in (torch.float32, torch.bfloat16)]
        for _ in range(_CALLS):
            for k, side in enumerate(sides):
                begin = time.perf_counter()
                side @ side
                best[k] = min(best[k], time.perf_counter() - begin)
    finally:
        torch.set_num_threads(before)
    return best[0] / best[1]
