"""A model's blocks by kind: what memory needs to know of each, before any layout."""

from functools import lru_cache

from msgspec import Struct

from isoflop.count.memory_activations import BlockActivations, of_block
from isoflop.count.memory_tuning import adapter_sides
from isoflop.count.parameters import of_block as block_parameters
from isoflop.specs.architecture import Architecture
from isoflop.specs.transformer import MLP, Block, Experts, Transformer


class Kind(Struct, frozen=True, kw_only=True):
    """Blocks of one kind: how many, their parameters and their tensors.

    Attributes:
        shared: matrices that tensor parallelism shares.
        experts: of them, what expert parallelism shares besides.
        whole: norms, on every device.
        down: the matrix whose gradient the MLP's backward pass makes first; of all experts.
        gate_up: of a gated dense MLP, the matrix that selective recomputation multiplies by in halves.
        chosen: experts of a token.
        adapter_sides: parameters of adapters of rank 1.
        writes: the block is of an encoder-decoder's decoder, whose tokens are those that are said.
    """

    layers: int
    activations: BlockActivations
    shared: int
    experts: int
    whole: int
    down: int
    gate_up: int
    chosen: int
    gated: bool
    adapter_sides: int
    writes: bool


@lru_cache(maxsize=256)
def kinds(architecture: Architecture) -> tuple[Kind, ...]:
    """The blocks by kind."""
    whole = transformer(architecture)
    both = bool(whole.encoder and whole.decoder)
    stacks = ((whole.encoder, False), (whole.decoder, both))
    return tuple(
        _kind(block, whole.width, rotary=whole.rotary, writes=writes) for stack, writes in stacks for block in stack
    )


def transformer(architecture: Architecture) -> Transformer:
    """Its parts."""
    return architecture if isinstance(architecture, Transformer) else architecture.transformer()


def _kind(block: Block, width: int, *, rotary: bool, writes: bool) -> Kind:
    counted = block_parameters(block, width=width)
    mixture = block.mlp if isinstance(block.mlp, Experts) else None
    mlp = mixture.expert if mixture else block.mlp
    assert isinstance(mlp, MLP)
    times = mixture.experts if mixture else 1
    return Kind(
        layers=block.layers,
        activations=of_block(block, width, rotary=rotary),
        shared=counted.attention + counted.mlp + counted.router + counted.position,
        experts=times * width * mlp.hidden * (3 if mlp.gated else 2) if mixture else 0,
        whole=counted.norm,
        down=times * width * mlp.hidden,
        gate_up=0 if mixture or not mlp.gated else 2 * width * mlp.hidden,
        chosen=mixture.active if mixture else 0,
        gated=mlp.gated,
        adapter_sides=adapter_sides(block, width),
        writes=writes,
    )
