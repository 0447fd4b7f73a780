"""The first weights of a model."""

import torch
from torch import Tensor, nn

from isoflop.specs import architecture as specs

_QUERIES = ("attention.qkv.weight", "cross.query.weight")
_INTO_THE_STREAM = ("out.weight", "down.weight", "mlp.down")


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Gains 1, biases 0; every matrix, embedding and head included, normal with std 1/sqrt(fan in), where the fan in of
    an embedding is its width; those that write into the residual stream are divided by sqrt(how many do).

    A fixed 0.02, as BERT's too, would shrink what a block adds with the width; 1/sqrt(fan in) keeps it the same along a
    ladder (Yang et al. 2022, arXiv:2203.03466, table 3). The residual scale is GPT-2's (Radford et al. 2019, 2.3). An
    embedding of 0.02 drowns in what the first block adds: 133k parameters after 450k tokens reach 4.39 nats with it and
    4.01 with 1/sqrt(width) (LOG.md).

    T5 differs where its layout asks for it, as its authors' own rule does: an embedding of std 1, because the tied head
    divides hidden states by sqrt(width); queries of 1/sqrt(fan in x head_size), because nothing divides their scores;
    biases of relative positions of 1/sqrt(width) (Raffel et al. 2020, arXiv:1910.10683, published code).
    """
    for name, weight in model.named_parameters():
        first_weight(model.spec, name, weight, generator)  # type: ignore[arg-type]


def first_weight(spec: specs.Model, name: str, weight: Tensor, generator: torch.Generator) -> None:
    """Fill the weight of this name; drawn one after the other in a model's own order, they are `initialise`'s."""
    if weight.ndim == 1:
        weight.fill_(0.0 if name.endswith("bias") else 1.0)
    else:
        weight.normal_(std=_std(spec, name, weight), generator=generator)
    if isinstance(spec, specs.EncoderDecoder) and name.endswith(_QUERIES):  # rows of queries come first in both
        weight[: spec.heads * spec.head_size] *= spec.head_size**-0.5


def _std(spec: specs.Model, name: str, weight: Tensor) -> float:
    if isinstance(spec, specs.EncoderDecoder):
        if name == "embedding.weight":
            return 1.0
        if name.endswith("relative.weight"):
            return float(spec.width**-0.5)
    residual: float = _writers(spec, name) ** -0.5 if name.endswith(_INTO_THE_STREAM) else 1.0
    fan_in_scale: float = weight.shape[-1] ** -0.5
    return residual * fan_in_scale


def _writers(spec: specs.Model, name: str) -> int:
    """Matrices that write into the residual stream of which this is one."""
    if isinstance(spec, specs.EncoderDecoder) and name.startswith("decoder."):
        return 3 * spec.writing_layers
    return 2 * spec.layers
