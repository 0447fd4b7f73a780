"""Span corruption, of an encoder-decoder: say the spans that sentinels stand for.

Sentinels are counted down from the model's last id, as T5's are; spans close with the end of text, which also opens
what the decoder reads, where T5 has its padding.

Source: Raffel et al. 2020 (arXiv:1910.10683), sec. 3.1.4.
"""

from torch import Tensor

from isoflop.data.batch import Batch
from isoflop.data.corrupt import Ids, Place
from isoflop.data.corrupt.spans import Spans, corrupt, shifted
from isoflop.model.encoder_decoder import EncoderDecoder
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives import Part, Terms

SAYS_TEXT = False  # sentinels are said too, and a span is said from what stands on both of its sides


def batch(text_ST: Ids, next_ST: Ids, place: Place, terms: Terms) -> Batch:
    """The text with other spans lost at each place; all rows are full, nothing is padded."""
    how = terms.objective.spans
    spans = Spans(vocabulary=terms.vocabulary, end=terms.end, rate=how.rate, mean_span=how.mean_span)
    inputs_ST, targets_SU = corrupt(text_ST, spans, place)
    return Batch(inputs_ST=inputs_ST, targets_SU=targets_SU, outputs_SU=shifted(targets_SU, start=terms.end))


def loss(model: EncoderDecoder, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
    """Of spans and sentinels."""
    return head.every(model, model(part.inputs_BT, part.outputs_BU), part.targets_BU)
