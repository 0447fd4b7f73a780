"""What a parametrisation changes in a model that was built by the standard one: its first weights and its multipliers.

The rules are those of `specs.parametrisation`.
"""

import torch
from torch import Tensor

from isoflop.model.decoder import Block, Decoder
from isoflop.specs.parametrisation import Part, Scales

_WRITES = ("out.weight", "down.weight", "mlp.down")
"""Matrices whose output is added to the residual stream."""


@torch.no_grad()
def parametrise(model: Decoder, scales: Scales) -> None:
    """Scale the first weights and set the multipliers; at the base sizes nothing changes, to the bit."""
    model.head_scale = scales.logits
    for block in model.blocks:
        assert isinstance(block, Block)
        block.branch_scale, block.attention.scale = scales.branch, scales.attention
    for name, weight in model.named_parameters():
        weight.mul_(scales.rule(part(name, weight), writes=name.endswith(_WRITES)).init)


def part(name: str, weight: Tensor) -> Part:
    """What the weight of this name is."""
    if not name.startswith("blocks."):
        return "norm" if weight.ndim == 1 else "embedding" if name.startswith("embedding.") else "head"
    if weight.ndim == 1:
        return "block norm"
    return "router" if name.endswith("router.weight") else "matrix"
