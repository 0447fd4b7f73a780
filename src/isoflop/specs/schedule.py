"""How the learning rate goes over a run."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError

ScheduleName: TypeAlias = Literal["wsd", "cosine", "linear", "inverse-sqrt"]
CooldownShape: TypeAlias = Literal["1-sqrt", "linear"]
ADDED: dict[str, object] = {"name": "wsd", "cooldown_shape": None, "final_fraction": 0.0, "warmup_from": 0.0}
"""Fields younger than runs that exist: at these values a run keeps the key that it had without them."""


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of the peak learning rate at each step: linear warmup, then what `name` says.

    Attributes:
        name: "wsd" stays at the peak until a cooldown; "cosine" and "linear" fall from the warmup's end to the end of
            the run, whatever its length; "inverse-sqrt" falls as 1 / sqrt(step), with a cooldown if one is asked for.
        cooldown_fraction: share of the run in which "wsd" or "inverse-sqrt" cools down; None takes 0.2 for "wsd" and
            no cooldown for "inverse-sqrt".
        cooldown_shape: "1-sqrt" or "linear" in the cooldown's progress; None takes "1-sqrt".
        final_fraction: what the decay or cooldown ends at, as a share of the rate that it began at.
        warmup_from: share of the peak that the warmup rises from; above 0 where a run goes on from another's weights.
    """

    warmup_fraction: float = 0.1
    cooldown_fraction: float | None = None
    name: ScheduleName = "wsd"
    cooldown_shape: CooldownShape | None = None
    final_fraction: float = 0.0
    warmup_from: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.warmup_fraction, self.cooldown)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise UsageError(
                f"recipe: schedule {shares}: warmup and cooldown are shares of the run, together at most 1"
            )
        if not 0 <= self.final_fraction <= 1:
            raise UsageError(f"recipe: schedule.final_fraction is {self.final_fraction}; it is a share, 0 to 1")
        if not 0 <= self.warmup_from <= 1:
            raise UsageError(f"recipe: schedule.warmup_from is {self.warmup_from}; it is a share of the peak, 0 to 1")
        whole = self.name in ("cosine", "linear")
        if whole and (self.cooldown_fraction or self.cooldown_shape):
            raise UsageError(
                f'recipe: schedule "{self.name}" decays over the whole run and has no cooldown; leave '
                "cooldown_fraction and cooldown_shape out, or set schedule.cooldown_fraction=0"
            )
        if not whole and not self.cooldown and (self.final_fraction or self.cooldown_shape):
            raise UsageError(
                f'recipe: schedule "{self.name}" has no cooldown that final_fraction or cooldown_shape could be of; '
                "set schedule.cooldown_fraction"
            )

    @property
    def cooldown(self) -> float:
        """Share of the run spent in a cooldown."""
        if self.cooldown_fraction is not None:
            return self.cooldown_fraction
        return 0.2 if self.name == "wsd" else 0.0
