"""What a recipe learns and from which tokens: its batches, and the loss of a part of one."""

import torch
from torch import Tensor

from isoflop.data.batch import Batch
from isoflop.data.loader import Loader
from isoflop.data.shards import Shards
from isoflop.model.decoder import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.train.objectives import causal


class Batches:
    """The recipe's batches as a pure function of the step."""

    def __init__(self, recipe: Recipe, shards: Shards) -> None:
        self._tokens = Loader(
            shards.tokens("train"), context=recipe.model.context, sequences=recipe.sequences, seed=recipe.seed
        )

    def batch(self, step: int) -> Batch:
        """Of a step counted from 0."""
        inputs_ST, targets_ST = self._tokens.batch(step)
        return Batch(inputs_ST=inputs_ST, targets_SU=targets_ST)

    def unique_tokens(self, steps: int) -> int:
        """Different tokens seen in so many steps."""
        return self._tokens.unique_tokens(steps)


def loss(recipe: Recipe, model: Decoder, part: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """What to minimise on a part of a batch, its mean over what is said, and the cross-entropy alone, in nats."""
    inputs_ST, targets_ST = (torch.from_numpy(ids).to(device) for ids in (part.inputs_ST, part.targets_SU))
    return causal(model, inputs_ST, targets_ST, recipe.optimizer.z_loss, recipe.loss_head)
