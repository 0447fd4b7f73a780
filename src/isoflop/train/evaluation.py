"""The loss on text the model has not seen: the same windows in the same order for every run."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from msgspec import Struct, structs
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
        sources: the same of each text of a mixture; empty where there is one.
    """

    loss_nats: float
    bits_per_byte: float | None
    n_tokens: int
    sources: dict[str, "Evaluation"] = {}


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
    rows = max(1, _BATCH_TOKENS[device.type] // validation.text)
    sums = []
    for source in validation.sources:
        nats, said, n_bytes = 0.0, 0, 0
        for together in validation.batches(source, rows * team.data_world, every=every):
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
        sums.append((nats, said, n_bytes))
    if team.world > 1:
        flat = team.total(*(value for one in sums for value in one))
        sums = [(nats, int(said), int(n_bytes)) for nats, said, n_bytes in zip(*[iter(flat)] * 3, strict=True)]
    found = {source: _of(*one, validation, source) for source, one in zip(validation.sources, sums, strict=True)}
    if len(found) == 1:
        return found[validation.sources[0]]
    nats, said, n_bytes = (sum(column) for column in zip(*sums, strict=True))
    return structs.replace(_of(nats, int(said), int(n_bytes), validation), sources=found)


def _of(nats: float, said: int, n_bytes: int, validation: Validation, source: str = "") -> Evaluation:
    """Sums to means.

    Raises:
        InputError: nothing was said.
    """
    if not said:
        of = f" of {source!r}" if len(validation.sources) > 1 else ""
        raise InputError(
            f"validation text{of} of {validation.text} tokens a window: nothing in it is to be said. Give more"
        )
    bits = nats / math.log(2) / n_bytes if n_bytes else None
    return Evaluation(loss_nats=nats / said, bits_per_byte=bits, n_tokens=said)
