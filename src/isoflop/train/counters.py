"""Where a run stands, in plain numbers."""

from msgspec import Struct, field

from isoflop.specs.engine import Engine
from isoflop.train.divergence import Watch
from isoflop.train.seconds import Seconds


class Counters(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint keeps beside tensors: plain numbers.

    Attributes:
        step: optimizer steps done.
        train_s: spent in steps alone.
        wall_s: spent in all, saving and evaluating included, over all resumes.
        loss_sum: of the steps since the last line of the curve.
        loss_steps: how many those are.
        line_s: `train_s` at that line.
        engine: what steps are computed with; None in checkpoints older than that.
        spent: what the time went into, over all resumes.
        line_spent: the same at that line.
    """

    watch: Watch
    step: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    line_s: float = 0.0
    engine: Engine | None = None
    spent: Seconds = field(default_factory=Seconds)
    line_spent: Seconds = field(default_factory=Seconds)
