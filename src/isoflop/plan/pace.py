"""How fast a layout trains: by `plan.speed`, or as the user measured it."""

from typing import Any

from msgspec import structs

from isoflop.count.parameters import parameters
from isoflop.laws.law import Array
from isoflop.plan.allocate import times
from isoflop.plan.goodput import Goodput, goodput
from isoflop.plan.question import Question
from isoflop.plan.space import Columns
from isoflop.plan.speed import speed_sweep, throughput
from isoflop.specs.architecture import Architecture
from isoflop.specs.interval import Interval
from isoflop.specs.layout import Layout


def mfus(question: Question, architecture: Architecture, columns: Columns) -> Array:
    """(layouts,) MFU in steady state, by which layouts are compared."""
    fields: dict[str, Any] = {**structs.asdict(question.training), **columns}
    del fields["adapter_rank"], fields["said"]  # everything is trained, every token said
    return speed_sweep(question.cluster.device, architecture, tables=question.tables, **fields).mfu


def steady(question: Question, architecture: Architecture, layout: Layout) -> Interval:
    """MFU of one layout; a user's own, given or from a row of theirs, goes before the model's."""
    row = question.throughput
    if row is not None:
        return Interval(value=row.mfu, lo=row.mfu_lo, hi=row.mfu_hi, level=question.level)
    return throughput(
        question.cluster.device, architecture, layout, question.training, level=question.level, tables=question.tables
    ).mfu


def lasting(question: Question, architecture: Architecture, layout: Layout, *, steady_s: float) -> Goodput:
    """What interruptions and checkpoints leave of the steady state, and what runs keep in practice.

    Args:
        steady_s: of the run, were it never interrupted.

    Raises:
        UsageError: the machine stops before it gets anywhere.
    """
    return goodput(
        devices=layout.devices,
        n_params=parameters(architecture).total,
        wall_s=steady_s,
        level=question.level,
        tables=question.tables,
    )


def kept(question: Question, architecture: Architecture, layout: Layout, *, steady_s: float) -> Interval:
    """Share of the time that trains at the steady speed; what the user gave goes before the model's."""
    own = question.goodput
    if own is not None:
        return Interval(value=own, lo=own, hi=own, level=question.level)
    return lasting(question, architecture, layout, steady_s=steady_s).share


def all_in(
    question: Question, architecture: Architecture, layout: Layout, *, mfu: Interval, steady_s: float
) -> Interval:
    """Share of the peak that a whole run keeps: MFU x goodput.

    Its bounds are those of known runs about their predictions, the speed's own error among them; where the user gave
    the goodput, those of the MFU.
    """
    own = question.goodput
    if own is not None:
        return times(mfu, Interval(value=own, lo=own, hi=own, level=question.level))
    whole_s = lasting(question, architecture, layout, steady_s=steady_s).all_in_s
    value, lo, hi = (mfu.value * steady_s / end for end in (whole_s.value, whole_s.hi, whole_s.lo))
    return Interval(value=value, lo=lo, hi=hi, level=question.level)
