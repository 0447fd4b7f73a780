"""Where the time of training steps goes: forward pass, backward pass, optimizer.

On CPU a lap is the clock's. On CUDA the host runs ahead of the device, so a lap lies between two events in the device's
own queue; they are read when the host has waited for the device anyway.
"""

import time
from typing import Literal, TypeAlias

import torch
from msgspec import Struct

Phase: TypeAlias = Literal["forward_s", "backward_s", "optimizer_s"]


class Spent(Struct, kw_only=True):
    """Seconds by what they went into, summed over all steps since the learner was made.

    Sums, so that the difference of two moments is the split of all the steps between them.

    Attributes:
        forward_s: tokens to the device, model, head and loss. The chunked head makes its gradient here, too.
        backward_s: the rest of the gradients, recomputation included.
        optimizer_s: clipping and the update of the weights.
    """

    forward_s: float = 0.0
    backward_s: float = 0.0
    optimizer_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it; what a step's wall time has beyond this is Python between the phases."""
        return self.forward_s + self.backward_s + self.optimizer_s


class Laps:
    """The laps of steps: `begin`, `lap` after each phase, `settle` whenever the host has waited for the device anyway.

    Attributes:
        spent: what has been settled.
    """

    def __init__(self, device: torch.device) -> None:
        self.spent = Spent()
        self._cuda = device.type == "cuda"
        self._began: float | torch.cuda.Event = 0.0
        self._laps: list[tuple[Phase, float | torch.cuda.Event, float | torch.cuda.Event]] = []

    def begin(self) -> None:
        """The first lap starts."""
        self._began = self._mark()

    def lap(self, phase: Phase) -> None:
        """What went by since the last mark was this."""
        ended = self._mark()
        self._laps.append((phase, self._began, ended))
        self._began = ended

    def settle(self) -> None:
        """Add up the laps that are over; the last update of a CUDA device is found over one step later."""
        left = []
        for phase, began, ended in self._laps:
            took = _between(began, ended)
            if took is None:
                left.append((phase, began, ended))
            else:
                setattr(self.spent, phase, getattr(self.spent, phase) + took)
        self._laps = left

    def _mark(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(began: float | torch.cuda.Event, ended: float | torch.cuda.Event) -> float | None:
    """Seconds; None while the device has not come there."""
    if isinstance(began, float) and isinstance(ended, float):
        return ended - began
    assert not isinstance(began, float)
    assert not isinstance(ended, float)
    reached = ended.query()  # type: ignore[no-untyped-call]
    return began.elapsed_time(ended) / 1e3 if reached else None
