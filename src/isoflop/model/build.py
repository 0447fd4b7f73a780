"""A model from its architecture, on any device, with its first weights."""

from typing import TypeAlias, overload

import torch

from isoflop.model.decoder import Decoder
from isoflop.model.encoder import Encoder
from isoflop.model.encoder_decoder import EncoderDecoder
from isoflop.model.initial import initialise
from isoflop.model.rotary import rotary_table
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Recompute

Model: TypeAlias = Decoder | Encoder | EncoderDecoder
"""What a `specs.Model` becomes. All have `spec`, `head_weight`, `head_bias`, `before_head`, `logits`, `mixtures`."""


@overload
def build(
    architecture: specs.Decoder, *, seed: int, device: torch.device | str = "cpu", recompute: Recompute = "none"
) -> Decoder: ...


@overload
def build(
    architecture: specs.Encoder, *, seed: int, device: torch.device | str = "cpu", recompute: Recompute = "none"
) -> Encoder: ...


@overload
def build(
    architecture: specs.EncoderDecoder, *, seed: int, device: torch.device | str = "cpu", recompute: Recompute = "none"
) -> EncoderDecoder: ...


@overload
def build(
    architecture: specs.Model, *, seed: int, device: torch.device | str = "cpu", recompute: Recompute = "none"
) -> Model: ...


def build(
    architecture: specs.Model, *, seed: int, device: torch.device | str = "cpu", recompute: Recompute = "none"
) -> Model:
    """The model with its first weights: the same for equal seeds on every device, none on "meta".

    Raises:
        UsageError: a recomputation that the model does not know.
    """
    with torch.device("meta"):
        model = _empty(architecture, recompute)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device="cpu")
    if isinstance(model, Decoder):
        a = model.spec
        model.table.copy_(rotary_table(a.context, a.head_size, a.rope_theta, a.rope_scaling))
    initialise(model, torch.Generator().manual_seed(seed))
    return model.to(device)


def _empty(architecture: specs.Model, recompute: Recompute) -> Model:
    match architecture:
        case specs.Encoder():
            return Encoder(architecture, recompute)
        case specs.EncoderDecoder():
            return EncoderDecoder(architecture, recompute)
    return Decoder(architecture, recompute)
