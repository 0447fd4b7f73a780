"""When a step hurts, when a run is in trouble, and how far it goes back: stated rules, pure functions of the losses.

A step is left out (its gradient is thrown away; weights, moments and the optimizers' own counts stay as they were)
when

    its loss or its gradient's norm is not finite, or
    its loss exceeds three times that of a uniform guess, or
    `spike_sigma` is set and its loss or its gradient's norm lies more than so many standard deviations above the mean
    of the finite ones of the last `window` steps, of which half must be there.

A run is in trouble when `patience` of its last `window` steps were left out, when its smoothed loss stays more than
1 nat above its lowest for 5 % of the run (50 steps at least), or when an evaluation is not finite. It then goes back to
the last anchor that lies 100 steps or more before the trouble began, and from there on with batches it has not seen:
those between the anchor and the trouble are never read again. Anchors are steps, not moments, so that an interrupted
run goes back to the same one.

Sources: leaving out beyond 6 sigma of 128 steps is OLMo-core's SkipStepOptimizer (github.com/allenai/OLMo-core); going
back about 100 steps and past the batches before and in the spike is PaLM's remedy (Chowdhery et al. 2022,
arXiv:2204.02311, section 5.1), which found that the batches do no harm from other weights.
"""

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct, field

from isoflop.specs.divergence import Divergence

SMOOTHING = 0.95
RISE_NATS = 1.0
BEFORE = 100  # steps between an anchor and a trouble, at least (PaLM)


class Trouble(Struct, frozen=True, kw_only=True):
    """A run that no longer learns.

    Attributes:
        began: the first step, counted from 0, that belongs to it.
        reason: in words.
    """

    began: int
    reason: str


class Rollback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run went back.

    Attributes:
        at: steps it had done.
        to: steps it had done at the checkpoint it took up again.
        reason: why.
    """

    at: int
    to: int
    reason: str


class Watch(Struct, kw_only=True):
    """Judges each step; its fields are plain numbers, so a checkpoint keeps them.

    Attributes:
        vocabulary: of the model; a uniform guess costs its logarithm.
        steps: of the whole run.
        rule: the recipe's.
        smoothed: exponential mean of the loss.
        lowest: the lowest it was.
        risen_steps: steps in a row that it stood too high.
        left_out: those of the last `window` steps that were left out, counted from 0.
        n_left_out: all that were.
        losses: finite ones of the last `window` steps; empty where no spike is looked for.
        norms: of the gradients, likewise.
    """

    vocabulary: int
    steps: int
    rule: Divergence = Divergence()
    smoothed: float | None = None
    lowest: float | None = None
    risen_steps: int = 0
    left_out: list[int] = field(default_factory=list)
    n_left_out: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    @property
    def patience(self) -> int:
        """Steps left out that are trouble."""
        return self.rule.patience or min(self.steps, max(2, min(8, self.steps // 20)))

    @property
    def patience_risen(self) -> int:
        """Steps of a risen loss that are trouble."""
        return max(50, self.steps // 20)

    def refusal(self, *, loss_nats: float, grad_norm: float) -> str:
        """Why a step is to be left out, or ""; asked once a step, before the weights move."""
        if not (math.isfinite(loss_nats) and math.isfinite(grad_norm)):
            return f"loss {loss_nats:.4g}, gradient norm {grad_norm:.4g}: not finite"
        spike = self._spike(loss_nats=loss_nats, grad_norm=grad_norm)
        ceiling = 3 * math.log(max(self.vocabulary, 2))
        if loss_nats > ceiling:
            return f"loss {loss_nats:.2f} is above {ceiling:.2f}, three times a uniform guess"
        return spike

    def trouble(self, step: int, *, loss_nats: float, refused: str) -> Trouble | None:
        """What the step, counted from 0, has brought the run to."""
        if refused:
            self.n_left_out += 1
            self.left_out = [at for at in self.left_out if at > step - self.rule.window] + [step]
            if len(self.left_out) < self.patience:
                return None
            count = f"{len(self.left_out)} of the last {min(step + 1, self.rule.window)} steps left out, the last for: "
            return Trouble(began=self.left_out[0], reason=count + refused)
        before = loss_nats if self.smoothed is None else self.smoothed
        self.smoothed = SMOOTHING * before + (1 - SMOOTHING) * loss_nats
        self.lowest = self.smoothed if self.lowest is None else min(self.lowest, self.smoothed)
        self.risen_steps = self.risen_steps + 1 if self.smoothed > self.lowest + RISE_NATS else 0
        if self.risen_steps < self.patience_risen:
            return None
        reason = f"loss {self.smoothed:.2f} for {self.risen_steps} steps, after it had been {self.lowest:.2f}"
        return Trouble(began=step + 1 - self.risen_steps, reason=reason)

    def _spike(self, *, loss_nats: float, grad_norm: float) -> str:
        """Whether it stands out from the window, which then takes it in: a lasting change is a spike only at first."""
        if self.rule.spike_sigma is None:
            return ""
        found = ""
        for name, value, window in (("loss", loss_nats, self.losses), ("gradient norm", grad_norm, self.norms)):
            if len(window) >= max(2, self.rule.window // 2):
                limit = statistics.fmean(window) + self.rule.spike_sigma * statistics.stdev(window)
                if value > limit:
                    found = found or f"{name} {value:.4g} is above {limit:.4g}, {self.rule.spike_sigma:g} sigma"
            window.append(value)
            del window[: -self.rule.window]
        return found


class Anchors(Struct, frozen=True, kw_only=True):
    """The steps that a run can go back to: its first, and the multiples of `every`.

    Attributes:
        every: distance between two of them.
        reach: how far back a trouble may have begun when it is noticed, and the distance kept from it.
    """

    every: int
    reach: int

    @classmethod
    def of(cls, watch: Watch) -> "Anchors":
        """Those of a run."""
        every = watch.rule.anchor_steps or max(100, watch.steps // 20)
        return cls(every=every, reach=max(watch.rule.window, watch.patience_risen) + BEFORE)

    def __contains__(self, step: int) -> bool:
        return step % self.every == 0

    def before(self, began: int, *, first: int) -> int:
        """Where a trouble that began there sends a run back to that began itself at step `first`."""
        return max(first, (began - BEFORE) // self.every * self.every)

    def needed(self, step: int, *, first: int) -> frozenset[int]:
        """Those that a trouble noticed after `step` may send back to."""
        earliest = self.before(step - self.reach + BEFORE, first=first)
        return frozenset({earliest, *range(-(-earliest // self.every) * self.every, step + 1, self.every)})


def moved(rollbacks: Sequence[Rollback]) -> int:
    """How many batches further on in the data a run stands than its step says."""
    return sum(rollback.at - rollback.to for rollback in rollbacks)
