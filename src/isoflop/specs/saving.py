"""When a run is saved, and which of its checkpoints stay: no part of what the run is."""

from msgspec import Struct

from isoflop.errors import UsageError


class Saving(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[checkpoint]` of a recipe. Two runs that differ in it alone are the same run, to the bit.

    Besides, a run is saved before every evaluation, when it is asked to stop, and at the steps it may be rolled back to
    (see `Divergence.anchor_steps`).

    Attributes:
        keep: the newest so many stay.
        every_steps: save after every so many steps; None saves by the clock: every 20 s, less often where a checkpoint
            is large.
        keep_every: checkpoints of every so many steps are written and stay for good: trunks of branches.
        keep_at: those of these steps, likewise.
        background: writing goes on beside training, from a copy in memory; where memory is short it is not done.
    """

    keep: int = 2
    every_steps: int | None = None
    keep_every: int | None = None
    keep_at: tuple[int, ...] = ()
    background: bool = True

    def __post_init__(self) -> None:
        for name in ("keep", "every_steps", "keep_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"recipe: checkpoint.{name} is {value}; it must be at least 1")
        if any(step < 1 for step in self.keep_at):
            raise UsageError(f"recipe: checkpoint.keep_at is {list(self.keep_at)}; steps are counted from 1")
