"""Learning-rate schedules as functions of the step alone, so that a resumed run needs nothing but its step.

A rate is a share of the peak, above 0 at every step: a decay to 0 reaches it where the step after the last would be.
"""

import math

from isoflop.specs.schedule import Schedule


def multiplier(schedule: Schedule, *, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step counted from 0: in the warmup linear from `warmup_from`, which would be
    the step before the first, to 1, which is the step after the last; then as named.

    Sources: cosine matched to the run's length, Hoffmann et al. 2022 (arXiv:2203.15556), sec. 3.1; inverse square root,
    Vaswani et al. 2017 (arXiv:1706.03762), eq. 3; the stable phase with a cooldown of 1 - sqrt, Hägele et al. 2024
    (arXiv:2405.18392), sec. 3.
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        risen = (step + 1) / (warmup + 1)
        return schedule.warmup_from + (1 - schedule.warmup_from) * risen
    final = schedule.final_fraction
    match schedule.name:
        case "wsd":
            return _cooldown(schedule, step=step, steps=steps)
        case "inverse-sqrt":
            return math.sqrt((warmup + 1) / (step + 1)) * _cooldown(schedule, step=step, steps=steps)
        case "cosine":
            progress = (step - warmup) / (steps - warmup)
            return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            return final + (1 - final) * (1 - (step - warmup) / (steps - warmup))


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """How many of the steps warm up."""
    return round(schedule.warmup_fraction * steps)


def cooling_from(schedule: Schedule, steps: int) -> int:
    """The step at which a decay that depends on the run's length begins: of a cosine its first, of a trunk none."""
    if schedule.name in ("cosine", "linear"):
        return 0
    return steps - round(schedule.cooldown * steps)


def _cooldown(schedule: Schedule, *, step: int, steps: int) -> float:
    """1 before the cooldown, `final_fraction` one step after the run."""
    begins = cooling_from(schedule, steps)
    if step < begins:
        return 1.0
    progress = (step - begins + 1) / (steps - begins + 1)
    left = 1 - progress if schedule.cooldown_shape == "linear" else 1 - math.sqrt(progress)
    return schedule.final_fraction + (1 - schedule.final_fraction) * left
