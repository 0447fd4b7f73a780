"""The recipe of a planned option: what `isoflop train` takes unchanged, the planned layout kept in it.

The batch is the plan's; a plan without one leaves it to Step Law (0.58 D^0.571 tokens, table `relations`), rounded to
what the planned data-parallel ranks share evenly: by accumulation where the planned micro-batches are too few, by a
smaller micro-batch where they are too many. A rank always has one sequence. Sums over micro-batches keep gradients that
one micro-batch lets go of: where that no longer fits, there is no sum.
"""

import math
from typing import get_args

from msgspec.structs import replace

from isoflop.count.memory_peak import memory
from isoflop.errors import InfeasibleError, InputError
from isoflop.laws import relations
from isoflop.plan.emit_source import Planned
from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import Layout
from isoflop.specs.optimizer import Optimizer, TrainedBy
from isoflop.specs.recipe import Recipe

BATCH_LAW = "step-law-2025-batch"
LEAST_STEPS = 20


def recipe(option: Planned, *, shards: str, name: str, precision: str = "bf16", seed: int = 0) -> Recipe:
    """The recipe of one option.

    Args:
        shards: folder of the tokens; their vocabulary must fit the planned one.
        name: of the run.
        precision: "bf16" as planned, or "fp32" for a machine without it.

    Raises:
        InfeasibleError: one sequence on each device leaves fewer than 20 steps, or the trainer cannot build the model
            or has no such optimizer.
        InputError: the planned sequence is longer than the planned model's context.
    """
    if not isinstance(option.architecture, Decoder):
        raise InfeasibleError(
            f"option {option.name}: our trainer builds Llama-like decoders, and this model is of another family"
        )
    context = option.architecture.context
    if option.layout.sequence > context:
        raise InputError(f"option {option.name}: sequences of {option.layout.sequence} tokens, a context of {context}")
    lies = _held(option, batched(option.layout, n_tokens=option.n_tokens, batch_tokens=option.batch_tokens))
    batch_tokens = lies.data * lies.micro_batch * lies.accumulation * lies.sequence
    steps = math.floor(option.n_tokens / batch_tokens + 1e-9)
    if steps < LEAST_STEPS:
        raise InfeasibleError(
            f"option {option.name}: {batch_tokens} tokens are the least of a step of {lies.data} data-parallel ranks, "
            f"and {option.n_tokens:.3g} tokens are {steps} steps. Plan with fewer devices or a shorter --seq"
        )
    return Recipe(
        name=name,
        shards=shards,
        model=replace(option.architecture, context=lies.sequence),
        n_tokens=steps * batch_tokens,
        batch_tokens=batch_tokens,
        precision="fp32" if precision == "fp32" else "bf16",
        optimizer=_optimizer(option),
        recompute=lies.recompute,
        seed=seed,
        layout=lies,
    )


def _optimizer(option: Planned) -> Optimizer:
    """The planned one, by the same name; its numbers are the recipe's defaults."""
    known: tuple[TrainedBy, ...] = get_args(TrainedBy)
    planned = option.training.optimizer
    for name in known:
        if name == planned:
            return Optimizer(name=name)
    raise InfeasibleError(
        f"option {option.name}: planned with {planned}, and our trainer has {', '.join(known)}. Plan again with "
        f"--optimizer {known[0]}"
    )


def _held(option: Planned, lies: Layout) -> Layout:
    """The layout, without its sum over micro-batches where memory has no room for one."""
    need = memory(option.architecture, lies, option.training).total_bytes
    if lies.accumulation == 1 or lies.virtual_stages > 1 or not option.fits or need <= option.memory_capacity_bytes:
        return lies
    return replace(lies, accumulation=1)


def batched(layout: Layout, *, n_tokens: float, batch_tokens: float | None = None) -> Layout:
    """The layout with the micro-batch and the accumulation that come nearest to that batch; the law's where None."""
    wanted = batch_tokens or float(relations.load(BATCH_LAW).value(n_tokens=n_tokens))
    each = wanted / (layout.data * layout.sequence)  # sequences of a rank in one step
    if each <= layout.micro_batch and layout.virtual_stages == 1:
        return replace(layout, micro_batch=max(1, round(each)), accumulation=1)
    # Interleaved stages take micro-batches in rounds of as many as there are stages.
    rounds = layout.pipeline if layout.virtual_stages > 1 else 1
    return replace(layout, accumulation=rounds * max(1, round(each / layout.micro_batch / rounds)))
