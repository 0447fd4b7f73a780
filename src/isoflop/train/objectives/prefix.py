"""Prefix language modelling: the beginning of a text is read both ways, the rest is said token by token.

A decoder reads each row's prefix of 1 to T tokens, all equally often. Of an encoder-decoder the encoder reads the first
half of the text and the decoder says the second, so that nothing is padded; T5 draws where to divide.

Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 3.2.1 and 3.3.1.
"""

import numpy as np
from torch import Tensor

from isoflop.data.batch import Batch
from isoflop.data.corrupt import Ids, Place
from isoflop.data.corrupt.prefix import divide
from isoflop.model.decoder import Decoder
from isoflop.model.encoder_decoder import EncoderDecoder
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives import Part, Terms
from isoflop.train.objectives.causal import with_experts

SAYS_TEXT = True  # each token from all that stands before it


def batch(text_ST: Ids, next_ST: Ids, place: Place, terms: Terms) -> Batch:
    """A prefix of another length at each place, or the two halves of the text."""
    if terms.family == "encoder-decoder":
        inputs_ST, targets_SU = np.split(text_ST, 2, axis=1)
        # What the decoder reads first is the last token of the encoder's half, so that all it says is said from text.
        return Batch(inputs_ST=inputs_ST, targets_SU=targets_SU, outputs_SU=text_ST[:, inputs_ST.shape[1] - 1 : -1])
    prefix_S, targets_ST = divide(next_ST, place)
    return Batch(inputs_ST=text_ST, targets_SU=targets_ST, prefix_S=prefix_S)


def loss(model: Decoder | EncoderDecoder, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
    """Of what follows the prefix."""
    if isinstance(model, EncoderDecoder):
        return head.every(model, model(part.inputs_BT, part.outputs_BU), part.targets_BU)
    loss, nats = head.chosen(model, model(part.inputs_BT, prefix_B=part.prefix_B), part.targets_BU)
    return with_experts(model, loss, weight=part.read_per_said), nats
