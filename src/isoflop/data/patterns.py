"""How text is split before pairs are merged: named regular expressions, each with its source.

No token crosses a split. Every pattern here splits the same in Rust's fancy-regex (rustbpe, tiktoken) and in Oniguruma
(Hugging Face), and differs from what was published in two ways only: runs of white space are cut at 256 characters,
because unbounded ones overflow an engine's stack from about 10^6 spaces on; and `(?i:...)`, whose case folding is up to
the engine, is spelled out, the long s (U+017F) of Unicode's folding included where the published one has it.
"""

from msgspec import Struct

from isoflop.errors import UnknownNameError

_WHITE = r"\s{1,256}(?!\S)|\s{1,256}"
_LINES = rf"|\s{{0,255}}[\r\n]|{_WHITE}"


class Pattern(Struct, frozen=True, kw_only=True):
    """One way to split.

    Attributes:
        digits: how many digits at most stay together; None where a number is never split.
        source: where it is published, and what differs here.
    """

    name: str
    regex: str
    digits: int | None
    source: str


def _cl100k(contractions: str, digits: int) -> str:
    numbers = r"\p{N}" if digits == 1 else rf"\p{{N}}{{1,{digits}}}"
    return rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*{_LINES}"


def _ours(digits: int, source: str) -> Pattern:
    regex = _cl100k(r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])", digits)
    return Pattern(name=f"digits-{digits}", regex=regex, digits=digits, source=source)


PATTERNS = {
    pattern.name: pattern
    for pattern in (
        Pattern(
            name="gpt2",
            regex=rf"'(?:[sdmt]|ll|ve|re)| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_WHITE}",
            digits=None,
            source="Radford et al. 2019, openai/gpt-2 src/encoder.py; as r50k_base in tiktoken",
        ),
        Pattern(
            name="gpt4",
            regex=_cl100k(r"'(?:[sſdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])", 3),
            digits=3,
            source="cl100k_base in openai/tiktoken, tiktoken_ext/openai_public.py; Llama 3 splits alike",
        ),
        _ours(
            1, "gpt4's with digits one by one, as Llama (Touvron et al. 2023, arXiv:2302.13971, section 2.1) has them"
        ),
        _ours(2, "gpt4's with digits in twos: a table of 1,110 numbers would eat a small vocabulary; the default"),
        _ours(3, "gpt4's, an ASCII s alone in contractions"),
    )
}
ALIASES = {"ours": "digits-2"}
DEFAULT = PATTERNS["digits-2"]
_BY_REGEX = {pattern.regex: pattern for pattern in PATTERNS.values()}


def find(name: str) -> Pattern:
    """The pattern of this name; "ours" is the default.

    Raises:
        UnknownNameError: none is called so.
    """
    try:
        return PATTERNS[ALIASES.get(name, name)]
    except KeyError:
        raise UnknownNameError("split pattern", name, [*ALIASES, *PATTERNS], every=True) from None


def of(regex: str) -> Pattern | None:
    """The pattern that this regular expression is, where it is one of ours."""
    return _BY_REGEX.get(regex)
