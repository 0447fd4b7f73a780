"""A model from its architecture, on any device, with its first weights."""

import torch

from isoflop.model.decoder import Decoder
from isoflop.model.initial import initialise
from isoflop.model.layers import rotary_table
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Recompute


def build(
    architecture: specs.Decoder,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    recompute: Recompute = "none",
) -> Decoder:
    """The model with its first weights: the same for equal seeds on every device, none on "meta"."""
    with torch.device("meta"):
        model = Decoder(architecture, recompute)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device="cpu")
    model.table.copy_(rotary_table(architecture.context, architecture.head_size, architecture.rope_theta))
    initialise(model, torch.Generator().manual_seed(seed))
    return model.to(device)
