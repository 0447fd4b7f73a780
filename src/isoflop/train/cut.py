"""Tensor parallelism of a decoder: every rank has some heads of each attention and some channels of each MLP.

The first matrix of each is cut by rows, the second by columns, so that between them no rank needs another; what they
give is added up once, and so is the gradient of what they take. A cut matrix is a plain tensor, which DDP, FSDP2 and
every optimizer take as any other. Queries, keys and values are rows of one matrix, as gate and up are: each part is cut
by itself. Embedding, head and norms are whole on every rank, which computes all of them alike.

Shapes: H query heads, K key and value heads, S head size, F hidden width of the MLP.
Source: Shoeybi et al. 2019 (arXiv:1909.08053), sec. 3; `Entered` and `Summed` are its f and g.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from msgspec import structs
from torch import Tensor, nn

from isoflop.model.decoder import Block, Decoder
from isoflop.model.layers import SwiGLU
from isoflop.specs import architecture as specs


class Entered(torch.autograd.Function):
    """What all ranks of a group take; each has its part of the gradient, and gets the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return summed(gradients[0], ctx.group), None


class Summed(torch.autograd.Function):
    """The sum of what the ranks of a group give; its gradient is that of each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return summed(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def summed(part: Tensor, group: dist.ProcessGroup) -> Tensor:
    """A new tensor, the sum over the group."""
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


class Cut:
    """How the weights of a decoder are cut among the ranks of a group, by name."""

    def __init__(self, spec: specs.Decoder, *, group: dist.ProcessGroup) -> None:
        self._spec, self._group = spec, group
        self._rank, self._world = dist.get_rank(group), dist.get_world_size(group)
        heads = [count * spec.head_size for count in (spec.heads, spec.kv_heads, spec.kv_heads)]
        # The axis that is cut, and lengths along it of what is cut by itself.
        self._parts = {
            "attention.qkv.weight": (0, heads),
            "attention.out.weight": (1, heads[:1]),
            "mlp.gate_up.weight": (0, [spec.hidden] * 2),
            "mlp.down.weight": (1, [spec.hidden]),
        }

    def cuts(self, name: str) -> bool:
        """Whether the weight of this name is cut."""
        return self._of(name) in self._parts

    def partial(self, name: str) -> bool:
        """Whether the weight is whole and has the gradient of this rank's heads alone: gains of QK-norm."""
        return name.endswith(("attention.query_norm", "attention.key_norm"))

    def piece(self, name: str, whole: Tensor) -> Tensor:
        """This rank's piece of a weight, or of anything of its shape."""
        if not self.cuts(name):
            return whole
        axis, lengths = self._parts[self._of(name)]
        return torch.cat(
            [part.chunk(self._world, axis)[self._rank] for part in torch.split(whole, lengths, axis)], axis
        )

    def whole(self, name: str, piece: Tensor) -> Tensor:
        """All pieces together; to be asked by the whole group."""
        if not self.cuts(name):
            return piece
        axis, lengths = self._parts[self._of(name)]
        pieces = [torch.empty_like(piece, memory_format=torch.contiguous_format) for _ in range(self._world)]
        dist.all_gather(pieces, piece.contiguous(), group=self._group)
        lengths = [length // self._world for length in lengths]
        parts = zip(*(torch.split(each, lengths, axis) for each in pieces), strict=True)
        return torch.cat([of_rank for part in parts for of_rank in part], axis)

    def apply(self, model: Decoder) -> None:
        """Let each block of a model without memory have its pieces only, and exchange what it must."""
        for block in model.blocks:
            assert isinstance(block, Block)
            assert isinstance(block.mlp, SwiGLU)
            spec = block.attention.spec
            block.attention.spec = structs.replace(
                spec, heads=spec.heads // self._world, kv_heads=spec.kv_heads // self._world
            )
            for name, matrix in _matrices(block):
                matrix.weight = nn.Parameter(self.piece(name, matrix.weight.detach()))
            for part in (block.attention, block.mlp):
                part.register_forward_pre_hook(self._entering)
                part.register_forward_hook(self._leaving)

    def _entering(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return Entered.apply(inputs[0], self._group), *inputs[1:]  # type: ignore[no-untyped-call]

    def _leaving(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return Summed.apply(output, self._group)  # type: ignore[no-any-return, no-untyped-call]

    def complete(self, named: dict[str, nn.Parameter]) -> None:
        """Add up the gradients that are of this rank's heads alone."""
        for name, weight in named.items():
            if self.partial(name) and weight.grad is not None:
                dist.all_reduce(local(weight.grad), group=self._group)

    def norm(self, cut: Tensor, whole: Tensor) -> Tensor:
        """Of a gradient whose cut weights have this norm here, and whose other weights have that one everywhere."""
        return (summed(cut.square(), self._group) + whole.square()).sqrt()

    @staticmethod
    def _of(name: str) -> str:
        return name.rpartition("blocks.")[2].partition(".")[2]


def _matrices(block: Block) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear):
            yield f"blocks.0.{name}.weight", module


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies here."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found
