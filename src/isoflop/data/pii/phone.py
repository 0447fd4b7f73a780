"""Telephone numbers: international, North American, with a trunk zero, and whatever a word such as "Tel." announces.

Digits alone do not tell a telephone from a count, a date or a page range, so each shape has to bring its own proof: a
country code of ITU-T E.164 behind a plus, the 3-3-4 of North America with area and exchange from 2 on, a trunk zero
with groups as people write them, an area code in brackets, or a word before it.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from isoflop.data.pii._span import Span, before, digits

RANK = 5

_Test: TypeAlias = Callable[[str, re.Match[str]], bool]

_GAP = r"(?: ?\(|\)[ -]?| [-/] |\) / |[ .\-/])?"
_CLEAR = r"(?<![A-Za-z0-9_])(?<!\d[.,:/+-])"
_END = r"(?![A-Za-z0-9_]|[.,:/-]\d)"

_ABROAD = re.compile(rf"(?<![A-Za-z0-9_+)\]])(?<!\d )(?:\+ ?|\(\+|00)[1-9](?:{_GAP}\d){{6,14}}{_END}")
_AMERICAN = re.compile(
    rf"{_CLEAR}(?<![(\d] )(?:1[ .-])?(?:\([2-9]\d\d\) ?-?|[2-9]\d\d(?P<s>[ .-]))"
    rf"[2-9]\d\d(?(s)(?P=s)|[ .-])\d{{4}}{_END}"
)
_TRUNK = re.compile(
    rf"{_CLEAR}(?<!\d )(?<!\d-)(?:\(0[1-9]\d{{0,4}}\) ?|0[1-9]\d{{0,4}}(?: ?[-/] ?|[ .]))"
    rf"(?:\d{{2,8}}[ .-]){{0,4}}\d{{2,8}}{_END}"
)
_AREA = re.compile(
    rf"(?<![A-Za-z0-9_.)])(?:8 )?\([1-9]\d{{1,2}}\) ?\d{{3,5}}[ -](?:\d{{2}}[ -]\d{{2}}|\d{{3,4}}){_END}"
)
_ANY = re.compile(rf"{_CLEAR}(?:\(\d{{1,5}}\) ?)?\d(?:{_GAP}\d){{6,14}}{_END}")
_MANAGED = re.compile(r"(?<=tel:|sms:|\.me/)\+?\d{7,15}(?!\d)")
_ANNOUNCED = re.compile(
    r"(?:\b(?:tel|telephone|phone|phones|phone number|ph|mobile|mob|cell|cellphone|fax|telefax|call|call us at|dial|"
    r"whatsapp|hotline|handy|mobil|mobiltelefon|telefon|tlf|t[ée]l[ée]phone|t[ée]l|tel[ée]fono|telefone|celular|"
    r"m[óo]vil|telefono|cellulare|puhelin|sms|text|contact no|contact number|phone_number|phonenumber)"
    r"|тел|телефон|电话|電話|手机|携帯|전화|☎|📞)[\"'.]{0,2} ?"
    r"(?:no\.?|number|nr\.?|num|is|at|on|me at|us on)?[\"']?[ :=#(+\"']{0,4}$"
)

# ITU-T E.164 country codes (list of 2016 and its annexes): of one and two digits, and the tens of those of three.
_SHORT = frozenset({
    "1", "7", "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48",
    "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82",
    "84", "86", "90", "91", "92", "93", "94", "95", "98",
})  # fmt: skip
_TENS = frozenset({
    "21", "22", "23", "24", "25", "26", "29", "35", "37", "38", "42", "50", "59", "67", "68", "80", "85", "87",
    "88", "96", "97", "99",
})  # fmt: skip
_UNUSED = frozenset({
    "210", "214", "215", "217", "219", "259", "384", "388", "422", "424", "425", "426", "427", "428", "429", "851",
    "854", "857", "858", "859", "969", "978", "990",
})  # fmt: skip


def spans(text: str) -> Iterator[Span]:
    """Every number; the content is its digits, with a plus where a country code leads."""
    found = [*_of(_ABROAD, text, _is_abroad), *_of(_MANAGED, text, _is_any), *_of(_AMERICAN, text, _is_american)]
    found += [*_of(_TRUNK, text, _is_trunk), *_of(_AREA, text, _is_area), *_of(_ANY, text, _is_announced)]
    found.sort(key=lambda span: (span.start, -span.end))
    done = 0
    for span in found:
        if span.start >= done:
            yield span
            done = span.end


def _of(shape: re.Pattern[str], text: str, holds: _Test) -> Iterator[Span]:
    for match in shape.finditer(text):
        if holds(text, match):
            number = digits(re.sub(r"\(0\)", "", match[0]))
            abroad = match[0].lstrip("(").startswith("+")
            content = f"+{number}" if abroad else f"+{number[2:]}" if number.startswith("00") else number
            yield Span(match.start(), match.end(), content)


def _is_abroad(text: str, match: re.Match[str]) -> bool:
    """A country code that is given out, the gap behind it or no gap at all, and 8 to 15 digits."""
    shown = match[0]
    number = digits(re.sub(r"\(0\)", "", shown))
    number = number.removeprefix("00")
    code = next((number[:n] for n in (1, 2) if number[:n] in _SHORT), None)
    if code is None and number[:2] in _TENS and number[:3] not in _UNUSED:
        code = number[:3]
    # "00" without a gap behind the code is a count of something; a single dot is a decimal point.
    groups = re.findall(r"\d+", shown)
    if code is None or (len(groups) == 2 and "." in shown) or (len(groups) == 1 and shown.startswith("00")):
        return False
    first = groups[0].removeprefix("00") if shown.startswith("00") else groups[0]
    if len(groups) > 1 and len(first) < len(code) and not (code == "1" or code == "7"):
        return False
    least, most = (11, 11) if code in ("1", "7") else (8, 15)
    return least <= len(number) <= most


def _is_any(text: str, match: re.Match[str]) -> bool:
    return True


def _is_american(text: str, match: re.Match[str]) -> bool:
    """The second and third digit of area and exchange are not both 1: those are services (NANPA)."""
    number = digits(match[0])[-10:]
    listed = match["s"] == " " and re.match(r" \d", text[match.end() : match.end() + 2])
    return number[1:3] != "11" and number[4:6] != "11" and not listed


def _is_trunk(text: str, match: re.Match[str]) -> bool:
    """9 to 12 digits in groups, and neither a date nor a row of small numbers."""
    shown = match[0]
    groups = re.findall(r"\d+", shown)
    if not 9 <= sum(map(len, groups)) <= 12:
        return False
    if "(" not in shown and len(groups) > 1 and len(groups[0]) == 2 and len(groups[1]) == 2:
        # Pairs are French, five of them; anything else is a date, a time or a dump of bytes.
        return [len(group) for group in groups] == [2] * 5 and not re.match(
            r"[ .:-]\d", text[match.end() : match.end() + 2]
        )
    if "." in shown and (len(groups) == 2 or len(set(map(len, groups))) == 1):
        return False  # a decimal number, or octets with leading zeros
    return len(groups) > 1 and not re.match(r" \d", text[match.end() : match.end() + 2])


def _is_area(text: str, match: re.Match[str]) -> bool:
    return 9 <= len(digits(match[0])) <= 11


def _is_announced(text: str, match: re.Match[str]) -> bool:
    return 7 <= len(digits(match[0])) <= 15 and bool(_ANNOUNCED.search(before(text, match.start())))
