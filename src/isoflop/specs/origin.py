"""Where a run begins that does not begin anew: another run's checkpoint."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError

Take: TypeAlias = Literal["weights", "state"]
"""What is taken of a checkpoint. state: all of it, and steps are counted on, so the run is its recipe's run begun
elsewhere. weights: the weights alone; steps, schedule and the optimizer's moments begin anew."""


class Origin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checkpoint a recipe begins from.

    Attributes:
        checkpoint: its folder, "RUN@STEP", or a run's folder for its newest.
        take: "state" for a cooldown branch or more of the same run, "weights" for other data, a longer context, or a
            rate that has already decayed.
        sha256: of what is taken; None is filled in when the run begins. Stated, another checkpoint is refused.
    """

    checkpoint: str
    take: Take = "weights"
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise UsageError('recipe: origin.checkpoint is empty; name a checkpoint, for example "runs/tiny@800"')


class Ancestor(Struct, frozen=True, kw_only=True):
    """The checkpoint a run began from, as its `run.json` tells it.

    Attributes:
        run: id of the run that wrote it.
        key: that run's key.
        step: of the checkpoint, in that run's steps.
        sha256: of what was taken.
        n_tokens: tokens its weights had seen, over all their runs.
        compute_flop: the work they had cost, by the laws' convention.
        learning_rate: that run's peak.
        model_flop: the same work with attention; None for runs older than that.
        skipped_steps: batches of the data order that are behind it already and not counted in the run's own steps.
        fresh: whether the run is, to the bit, one that began anew by its recipe.
    """

    run: str
    key: str
    step: int
    take: Take
    sha256: str
    n_tokens: float
    compute_flop: float
    learning_rate: float | None = None
    model_flop: float | None = None
    skipped_steps: int = 0
    fresh: bool = False

    @property
    def begins(self) -> int:
        """The step, in the run's own count, at which its own work begins."""
        return self.step if self.take == "state" else 0
