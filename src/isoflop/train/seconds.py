"""Where a run's time goes, in plain numbers."""

from msgspec import Struct, structs


class Seconds(Struct, kw_only=True, omit_defaults=True):
    """Seconds by what they went into; what is left of the wall time is start-up and Python between the phases.

    Attributes:
        data_s: getting the next batch ready.
        forward_s: forward pass and loss.
        backward_s: gradients, recomputation included.
        optimizer_s: clipping and the update.
        communication_s: waiting for other devices; 0 on one.
        evaluation_s: validation losses.
        checkpoint_s: training stood still for a checkpoint; what is written meanwhile costs none.
        log_s: the meter itself: lines, reports, sinks.
        lost_s: all that went by between a checkpoint and the moment a rollback had taken it up again.
    """

    data_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    optimizer_s: float = 0.0
    communication_s: float = 0.0
    evaluation_s: float = 0.0
    checkpoint_s: float = 0.0
    log_s: float = 0.0
    lost_s: float = 0.0

    def add(self, phase: str, seconds: float) -> None:
        """So much more went into that phase."""
        setattr(self, phase, getattr(self, phase) + seconds)

    def since(self, before: "Seconds") -> "Seconds":
        """What went by between two moments."""
        return Seconds(**{name: getattr(self, name) - getattr(before, name) for name in self.__struct_fields__})

    def copy(self) -> "Seconds":
        """This moment, kept."""
        return structs.replace(self)

    def shares(self, wall_s: float) -> dict[str, float]:
        """Of the wall time by phase, "other" the rest; those without any are left out."""
        found = {name.removesuffix("_s"): getattr(self, name) / wall_s for name in self.__struct_fields__}
        found["other"] = max(0.0, 1.0 - sum(found.values()))
        return {name: share for name, share in found.items() if share > 0}
