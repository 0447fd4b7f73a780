"""AdamW whose moments are held in 8 bits, by torchao: a byte an entry, and a scale for every 256 of them.

What is smaller than 4,096 entries or no multiple of 256 keeps fp32 moments, as in bitsandbytes. On CUDA torchao
compiles the step, once for each shape; on CPU it is taken as it is written, because compiling three shapes took 23 s.

Source: Dettmers et al. 2022 (arXiv:2110.02861), sec. 2.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from isoflop.errors import UsageError

_PARTS = ("codes", "scale")
_SIGNED = {"exp_avg": True, "exp_avg_sq": False}


def adamw(groups: list[dict[str, Any]], *, learning_rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over these groups, each with a rate, epsilon and decay of its own.

    Raises:
        UsageError: torchao is not installed, or not for this torch.
    """
    with _quietly():
        try:
            from torchao.optim import AdamW8bit
        except ImportError as error:
            raise UsageError(
                'recipe: optimizer.name = "adamw-8bit" needs torchao: pip install \'isoflop[lowbit]\', or take "adamw" '
                f"({error})"
            ) from error
    made: torch.optim.Optimizer = AdamW8bit(groups, lr=learning_rate, betas=betas)
    return made


def stepping(optimizer: torch.optim.Optimizer) -> AbstractContextManager[object]:
    """In this its step is taken: not compiled where the weights are on the CPU."""
    if isinstance(optimizer, torch.optim.AdamW | torch.optim.Muon):
        return nullcontext()
    on_cpu = optimizer.param_groups[0]["params"][0].device.type == "cpu"
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager") if on_cpu else nullcontext()
    return stance


def apart(kind: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A state as plain tensors by name: its codes and its scales where it is in 8 bits, else itself."""
    if hasattr(value, "codes"):
        for part in _PARTS:
            yield f"{kind}_{part}", getattr(value, part)
    else:
        yield kind, value


def join(state: dict[str, Tensor], like: Tensor) -> None:
    """Put the states that `apart` took apart together again, in place; `like` is their weight."""
    for kind, signed in _SIGNED.items():
        if f"{kind}_codes" not in state:
            continue
        from torchao.optim.subclass_8bit import OptimState8bit

        codes, scale = (state.pop(f"{kind}_{part}") for part in _PARTS)
        block = codes.numel() // scale.numel()
        whole = OptimState8bit.zeros(like.shape, signed, block, like.device, dtype=like.dtype)
        whole.codes.copy_(codes)
        whole.scale.copy_(scale)
        state[kind] = whole


@contextmanager
def _quietly() -> Iterator[None]:
    """Torchao warns of each GPU kernel that this machine cannot load, none of which an optimizer needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
