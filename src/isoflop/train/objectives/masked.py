"""Masked language modelling, of an encoder: say the tokens that are hidden, replaced or left, and no others.

The mask is the first id above the text's. The end of text is neither chosen nor put in another's place, like BERT's
separator, whose part it has.

Source: Devlin et al. 2019 (arXiv:1810.04805), sec. 3.1; documents packed one after the other: Liu et al. 2019
(arXiv:1907.11692), sec. 4.2.
"""

from typing import cast

from torch import Tensor

from isoflop.data.batch import Batch
from isoflop.data.corrupt import Ids, Place
from isoflop.data.corrupt.masked import Masking, corrupt
from isoflop.data.documents import numbers
from isoflop.model.encoder import Encoder
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives import Part, Terms

SAYS_TEXT = False  # a token is said from what stands on both of its sides


def batch(text_ST: Ids, next_ST: Ids, place: Place, terms: Terms) -> Batch:
    """The text masked anew at each place."""
    of = terms.objective
    masking = Masking(
        mask=terms.text_vocabulary,
        vocabulary=terms.text_vocabulary + 1,
        special=(terms.end,),
        rate=cast(float, of.rate),
        hidden=cast(float, of.hidden),
        replaced=cast(float, of.replaced),
    )
    inputs_ST, targets_ST = corrupt(text_ST, masking, place)
    documents_ST = numbers(text_ST, end=terms.end) if of.documents == "separate" else None
    return Batch(inputs_ST=inputs_ST, targets_SU=targets_ST, documents_ST=documents_ST)


def loss(model: Encoder, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
    """Of the tokens chosen."""
    return head.chosen(model, model(part.inputs_BT, documents_BT=part.documents_BT), part.targets_BU)
