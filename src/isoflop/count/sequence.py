"""How long a sequence may be: learned positions end with their table, others go on beyond what a model was made for."""

from isoflop.errors import UsageError
from isoflop.specs.architecture import Architecture
from isoflop.specs.transformer import Transformer

USUAL = 2048  # tokens, for models that state no context


def usual(architecture: Architecture, asked: int | None) -> int:
    """The length asked for, or the model's context, or `USUAL` where it has none."""
    return asked or architecture.context or USUAL


def check(architecture: Architecture, sequence: int) -> None:
    """Refuse more tokens than a table of learned positions has rows.

    Raises:
        UsageError: `sequence` is beyond it.
    """
    parts = architecture if isinstance(architecture, Transformer) else architecture.transformer()
    learned = parts.positions > 0
    context = architecture.context
    if learned and context is not None and sequence > context:
        raise UsageError(
            f"sequence {sequence} is longer than the model's context {context}, and its learned positions end there; "
            f"ask for at most {context}"
        )


def notes(architecture: Architecture, sequence: int) -> list[str]:
    """What to say of more tokens than the model was published for."""
    context = architecture.context
    if context is None or sequence <= context:
        return []
    return [f"{sequence:,} tokens are more than the context of {context:,} that the model was made for; yet counted"]
