"""What a filter says of a document."""

from msgspec import Struct


class Verdict(Struct, frozen=True):
    """Keep or drop.

    Attributes:
        reason: which rule was broken, a short name with dashes; empty where the document is kept.
        text: what is left of a document that is kept (C4 takes lines out); of one that is dropped, all of it.
    """

    keep: bool
    reason: str
    text: str

    @classmethod
    def kept(cls, text: str) -> "Verdict":
        """Nothing to object."""
        return cls(keep=True, reason="", text=text)

    @classmethod
    def drop(cls, reason: str, text: str) -> "Verdict":
        """Dropped for this reason."""
        return cls(keep=False, reason=reason, text=text)
