"""A copy of all that a checkpoint holds, in host memory, so that training goes on while the copy is written."""

import torch
from torch import Tensor

from isoflop.train.checkpoint import Groups
from isoflop.train.cores import memory_of_machine

_SHARE = 0.5  # of the memory that can be had; the page cache of the file takes as much again for a moment


class Snapshot:
    """Buffers that are filled at every save and kept in between: their pages are paid for once."""

    def __init__(self) -> None:
        self._buffers: dict[str, dict[str, Tensor]] = {}

    @property
    def n_bytes(self) -> int:
        """Of the buffers."""
        held = (value for rows in self._buffers.values() for value in rows.values())
        return sum(value.numel() * value.element_size() for value in held)

    def take(self, tensors: Groups) -> "Groups | None":
        """Copy them; None where the machine has not twice the memory that new buffers need.

        Whatever was taken before must have been written: its buffers are used again.
        """
        try:
            if not self._room(tensors):
                return None
            for group, rows in tensors.items():
                held = self._buffers.setdefault(group, {})
                self._buffers[group] = {name: _copied(held.get(name), value) for name, value in rows.items()}
        except (MemoryError, RuntimeError):  # torch's CPU allocator raises the second
            self._buffers = {}
            return None
        if any(value.is_cuda for rows in tensors.values() for value in rows.values()):
            torch.cuda.synchronize()
        return {group: self._buffers[group] for group in tensors}

    def _room(self, tensors: Groups) -> bool:
        new = sum(
            value.numel() * value.element_size()
            for group, rows in tensors.items()
            for name, value in rows.items()
            if not _fits(self._buffers.get(group, {}).get(name), value)
        )
        available = memory_of_machine()[1]
        return available is None or new <= _SHARE * available


def _fits(buffer: Tensor | None, value: Tensor) -> bool:
    return buffer is not None and buffer.shape == value.shape and buffer.dtype == value.dtype


def _copied(buffer: Tensor | None, value: Tensor) -> Tensor:
    if buffer is None or not _fits(buffer, value):
        # Pinned memory is what a device can copy into while the host goes on.
        buffer = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=value.is_cuda)
    return buffer.copy_(value, non_blocking=value.is_cuda)
