"""Which language a text is written in, by py3langid (Lui and Baldwin's langid.py; the model comes with it).

The beginning of a document decides, so that a long one costs no more than a page, and the same text gives the same
answer on every machine.
"""

from functools import cache
from typing import Any

from msgspec import Struct

READ_CHARS = 10_000
UNKNOWN = "und"
"""ISO 639-3 for a text that holds no letter at all."""


class Language(Struct, frozen=True):
    """A language and how sure that is.

    Attributes:
        code: ISO 639-1, such as "en"; `UNKNOWN` where there is nothing to tell by.
        probability: of this language among those the model knows, 0 to 1.
    """

    code: str
    probability: float


def identify(text: str) -> Language:
    """The likeliest language of the first `READ_CHARS` characters.

    Raises:
        ModuleNotFoundError: py3langid is not installed (the extra `web`).
    """
    head = text[:READ_CHARS]
    if not any(map(str.isalpha, head)):
        return Language(UNKNOWN, 0.0)
    code, probability = _identifier().classify(head)
    return Language(str(code), min(float(probability), 1.0))


@cache
def _identifier() -> Any:
    """The model, read once in a process: half a second and 100 MB."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
