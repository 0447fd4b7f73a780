"""What a training run says while it trains, for bars, logs and pages."""

from typing import Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["started", "step", "evaluation", "note", "saved", "done"]


class Event(Struct, frozen=True, kw_only=True):
    """One report; steps at most twice a second, the others when they happen.

    Attributes:
        kind: "started" (`step` is the one it goes on from), "step", "evaluation", "note" (see `text`), "saved" (a
            checkpoint of `step` is on the disk for good) or "done".
        step: optimizer steps done.
        steps: of the whole run.
        n_tokens: tokens seen.
        loss_nats: mean over the steps since the last report, or of the validation text in an evaluation.
        grad_norm: of the last step, before clipping.
        tokens_per_s: of training alone, since the last report.
        memory_bytes: of the training steps, at most so far.
        left_s: to the end, at the pace so far, evaluations and checkpoints included.
        text: one sentence for people; only notes have one.
    """

    kind: Kind
    step: int
    steps: int
    n_tokens: int
    loss_nats: float | None = None
    learning_rate: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    grad_norm: float | None = None
    memory_bytes: float | None = None
    left_s: float | None = None
    text: str = ""


def ignore(event: Event) -> None:
    """Nobody listens."""


def never() -> bool:
    """Nobody stops it."""
    return False
