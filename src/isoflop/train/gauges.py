"""What is read off a running process beside its loss: memory at its highest, the load of experts.

On a GPU torch's allocator keeps the books. On a CPU nobody does, and what a process has resident is mostly libraries:
the run's own memory is therefore the kernel's high-water mark, less pages that are copies of files (libraries, shards),
less what the process held privately when the run began. Before that moment a single weight is trained for one step, as
torch imports 70 MB of its own at the first; and freed memory, that of dead cycles too, is handed back to the kernel,
so that what was used before (the measurement of the peak FLOP/s, an earlier run of the same process) is neither counted
nor reused.
What sinks import while the run is under way counts, as nobody can tell it apart.
"""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from msgspec import Struct

from isoflop.model.experts import Mixture

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): resets the high-water mark


class Peak(Struct, frozen=True, kw_only=True):
    """Memory at its highest since the run began in this process, bytes; None where the system does not say.

    Attributes:
        memory_bytes: of its training steps, which `count.memory` predicts: reserved on a GPU; see above for a CPU.
        tensors_bytes: of tensors alone, on a GPU.
        process_bytes: resident, of the process as a whole.
    """

    memory_bytes: float | None = None
    tensors_bytes: float | None = None
    process_bytes: float | None = None


class Gauges:
    """Made before the model is: what the process holds by then is not the run's.

    Attributes:
        copies_bytes: that a checkpoint on its way to the disk keeps in host memory beside training: no training step's
            memory. On a GPU they are in no allocator's book anyway.
    """

    def __init__(self, device: torch.device) -> None:
        self.copies_bytes = 0.0
        self._device, self._own, self._process = device, 0.0, 0.0
        _first_step(device)
        gc.collect()  # a model that an earlier run left in a cycle would go in the middle of this one, and be its room
        _hand_back()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        _forget()
        self._before = _resident().get("RssAnon", 0.0)

    def peak(self) -> Peak:
        """Up to now."""
        seen = _resident()
        self._process = max(self._process, _process_bytes(seen))
        if self._device.type == "cuda":
            reserved = float(torch.cuda.max_memory_reserved(self._device))
            tensors = float(torch.cuda.max_memory_allocated(self._device))
            return Peak(memory_bytes=reserved, tensors_bytes=tensors, process_bytes=self._process)
        if "VmHWM" not in seen:
            return Peak(process_bytes=self._process)
        files = seen.get("RssFile", 0.0) + seen.get("RssShmem", 0.0)
        # Pages of files come and go; the mark at which the run's own stood highest stays.
        self._own = max(self._own, seen["VmHWM"] - files - self._before - self.copies_bytes)
        return Peak(memory_bytes=self._own, process_bytes=self._process)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is taken inside is the process's, but no training step's: an evaluation, a checkpoint."""
        self.peak()
        yield
        self._process = max(self._process, _process_bytes(_resident()))
        if self._device.type == "cpu":
            _hand_back()
            _forget()


def expert_load(model: torch.nn.Module) -> float | None:
    """The busiest expert's choices over the mean of its block, in the block where that is worst; None without experts.

    Of the last forward pass, and so of the last micro-batch where a step has several: 1 where all experts are used
    alike, their number where one is used alone.
    """
    chosen = [module.chosen_E for module in model.modules() if isinstance(module, Mixture)]
    if not chosen:
        return None
    counts_BE = torch.stack(chosen).double()
    return float((counts_BE.amax(1) / counts_BE.mean(1)).max())


def _resident() -> dict[str, float]:
    """Bytes by the names of /proc/self/status; empty where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines if line.startswith(("VmHWM", "Rss")))
    return {name.rstrip(":"): 1024.0 * int(kib) for name, kib, *_ in parts}


def _process_bytes(seen: dict[str, float]) -> float:
    if "VmHWM" in seen:
        return seen["VmHWM"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def _first_step(device: torch.device) -> None:
    """Have torch import what it imports at its first step; no random number is drawn."""
    weight = torch.nn.Parameter(torch.ones((1, 1), device=device))
    optimizer = torch.optim.AdamW([weight])
    torch.mm(weight, weight).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _forget() -> None:
    """Let the kernel's high-water mark begin anew, where it has one."""
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)


def _hand_back() -> None:
    """Freed memory back to the kernel, where the C library is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
