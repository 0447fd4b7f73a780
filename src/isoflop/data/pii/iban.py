"""International bank account numbers (ISO 13616): a country of the registry, its length, remainder 1 modulo 97."""

import re
from collections.abc import Iterator

from isoflop.data.pii._span import Span

RANK = 1

# Length by country: SWIFT IBAN registry, release 99 (2024).
LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip

_HEAD = re.compile(r"(?<![A-Za-z0-9])(?P<country>[A-Za-z]{2})[ -]?\d[ -]?\d(?=[ -]?[A-Za-z0-9])")
_SEPARATOR = " -."


def spans(text: str) -> Iterator[Span]:
    """Every account number; the content is its letters and digits in upper case."""
    done = 0
    for match in _HEAD.finditer(text):
        length = LENGTHS.get(match["country"].upper())
        if length is None or match.start() < done:
            continue
        number, end = _collected(text, match.start(), length)
        closed = not text[end : end + 1].isalnum()
        if len(number) == length and closed and mod97(number) == 1 and _is_mixed(number):
            yield Span(match.start(), end, number)
            done = end


def mod97(number: str) -> int:
    """The number with its first four signs moved behind and letters as 10 to 35, modulo 97."""
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97


def _collected(text: str, start: int, length: int) -> tuple[str, int]:
    """(`length` signs without the separators between them, where they end); fewer where the text breaks off."""
    signs: list[str] = []
    at = start
    while at < len(text) and len(signs) < length:
        if text[at].isascii() and text[at].isalnum():
            signs.append(text[at])
        elif text[at] not in _SEPARATOR or text[at - 1] in _SEPARATOR:
            break
        at += 1
    return "".join(signs).upper(), at


def _is_mixed(number: str) -> bool:
    """One case in 97 is chance: words of letters in a row, as in code, are no account."""
    return sum(sign.isdigit() for sign in number) >= 10
