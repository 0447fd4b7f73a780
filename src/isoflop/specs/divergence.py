"""What a run does about a step that hurts: leave it out, go back, give up."""

from msgspec import Struct

from isoflop.errors import UsageError


class Divergence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[divergence]` of a recipe; the rule itself stands in `isoflop.train.divergence`.

    A run without such a step is the same whatever stands here.

    Attributes:
        spike_sigma: a step whose loss or gradient norm lies more than so many standard deviations above the mean of the
            window is left out; None leaves out only what is not finite or absurd. OLMo-core takes 6.
        window: steps that the mean and the deviation are of, and in which steps left out are counted.
        patience: so many steps left out within the window are trouble; None takes 8, in short runs a twentieth of the
            steps, 2 at least.
        rollbacks: in trouble the run goes back to a checkpoint so often; the next trouble ends it as diverged.
        anchor_steps: checkpoints to go back to are taken every so many steps; None takes a twentieth of the run, 100
            steps at least.
    """

    spike_sigma: float | None = None
    window: int = 128
    patience: int | None = None
    rollbacks: int = 3
    anchor_steps: int | None = None

    def __post_init__(self) -> None:
        if self.spike_sigma is not None and not 0 < self.spike_sigma < float("inf"):
            raise UsageError(f"recipe: divergence.spike_sigma is {self.spike_sigma}; it must be positive and finite")
        for name, least in (("window", 2), ("patience", 1), ("rollbacks", 0), ("anchor_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"recipe: divergence.{name} is {value}; it must be at least {least}")
        if self.patience is not None and self.patience > self.window:
            raise UsageError(
                f"recipe: divergence.patience is {self.patience}, but only the last {self.window} steps are counted; "
                "set window to at least that"
            )
