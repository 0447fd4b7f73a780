"""The first weights of a model."""

import torch

from isoflop.model.decoder import Decoder


@torch.no_grad()
def initialise(model: Decoder, generator: torch.Generator) -> None:
    """Norms 1; every matrix, embedding and head included, normal with std 1/sqrt(fan in), where the fan in of an
    embedding is its width; those that write into the residual stream are divided by sqrt(2 layers).

    A fixed 0.02 would shrink what a block adds with the width; 1/sqrt(fan in) keeps it the same along a ladder (Yang
    et al. 2022, arXiv:2203.03466, table 3). The residual scale is GPT-2's (Radford et al. 2019, 2.3). An embedding of
    0.02 drowns in what the first block adds: 133k parameters after 450k tokens reach 4.39 nats with it and 4.01 with
    1/sqrt(width) (LOG.md).
    """
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0)
        else:
            residual = (
                (2 * model.spec.layers) ** -0.5 if name.endswith(("out.weight", "down.weight", "mlp.down")) else 1.0
            )
            weight.normal_(std=residual * weight.shape[-1] ** -0.5, generator=generator)
