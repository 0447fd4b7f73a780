"""The loss on text the model has not seen: the same windows in the same order for every run."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from msgspec import Struct
from torch import nn

from isoflop.errors import InputError
from isoflop.train.task import Validation
from isoflop.train.team import ALONE, Team

_BATCH_TOKENS = {"cpu": 2**12, "cuda": 2**16}


class Evaluation(Struct, frozen=True, kw_only=True):
    """Cross-entropy per token said and, independent of the tokenizer, bits per byte of text.

    Attributes:
        bits_per_byte: None where what is said is no text in its order, so that it is no code for one.
        n_tokens: tokens said.
    """

    loss_nats: float
    bits_per_byte: float | None
    n_tokens: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    validation: Validation,
    *,
    every: int,
    device: torch.device,
    precision: Callable[[], AbstractContextManager[object]],
    should_stop: Callable[[], bool],
    team: Team = ALONE,
) -> Evaluation | None:
    """Say what is to be said of one window in `every` once; None where it was stopped on the way.

    Args:
        should_stop: the same on all processes.
        team: the processes that share the windows; each has what came of all.

    Raises:
        InputError: in so short a text there was nothing to say.
    """
    nats, said, n_bytes = 0.0, 0, 0
    rows = max(1, _BATCH_TOKENS[device.type] // validation.text)
    for together in validation.batches(rows * team.data_world, every=every):
        if should_stop():
            return None
        batch = team.share(together)
        if not len(batch.inputs_ST):  # of the last windows none is left for it, and the others need its shards
            with precision():
                validation.nats(model, together.rows(slice(1)), device)
            continue
        with precision():
            nats += validation.nats(model, batch, device) * batch.said
        said += batch.said
        n_bytes += validation.bytes_said(batch) or 0
    if team.world > 1:
        nats, *counts = team.total(nats, said, n_bytes)
        said, n_bytes = (int(count) for count in counts)
    if not said:
        raise InputError(
            f"validation text of {validation.text} tokens a window: nothing in it is to be said. Give more"
        )
    bits = nats / math.log(2) / n_bytes if n_bytes else None
    return Evaluation(loss_nats=nats / said, bits_per_byte=bits, n_tokens=said)
