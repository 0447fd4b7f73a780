"""Predict each next token, of a decoder; where documents are apart, from its own document alone."""

from torch import Tensor

from isoflop.data.batch import Batch
from isoflop.data.corrupt import Ids, Place
from isoflop.data.documents import numbers
from isoflop.model.decoder import Decoder
from isoflop.specs.layout import LossHead
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives import Part, Terms

SAYS_TEXT = True


def batch(text_ST: Ids, next_ST: Ids, place: Place, terms: Terms) -> Batch:
    """The text as it is."""
    separate = terms.objective.documents == "separate"
    documents_ST = numbers(text_ST, end=terms.end) if separate else None
    return Batch(inputs_ST=text_ST, targets_SU=next_ST, documents_ST=documents_ST)


def loss(model: Decoder, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
    """Of every token, and what mixtures of experts add for their balance."""
    x_BTD = model(part.inputs_BT, documents_BT=part.documents_BT)
    loss, nats = head.every(model, x_BTD, part.targets_BU)
    return with_experts(model, loss), nats


def with_experts(model: Decoder, loss: Tensor, *, weight: float = 1.0) -> Tensor:
    """The loss and what mixtures of experts, block by block, add to it: a mean over the tokens read."""
    return loss + weight * sum(mixture.penalty for mixture in model.mixtures) if model.spec.experts else loss


def causal(
    model: Decoder,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    z_loss: float,
    loss_head: LossHead = "chunked",
    *,
    chunk_elements: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The same of tokens alone; see `HeadLoss`."""
    head = HeadLoss(z_loss=z_loss, loss_head=loss_head, chunk_elements=chunk_elements)
    return loss(model, Part(inputs_BT=inputs_BT, targets_BU=targets_BT), head)
