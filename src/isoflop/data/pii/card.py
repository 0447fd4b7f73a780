"""Payment cards: a number of an issuer's range and length (ISO/IEC 7812), grouped as cards are, with its Luhn digit."""

import re
from collections.abc import Iterator

from isoflop.data.pii._span import Span, digits

RANK = 2

_RUN = r"\d{13,19}|\d{4}(?P<s>[ .-]| - )(?:\d{4}(?P=s)\d{4}(?P=s)\d{1,4}(?:(?P=s)\d{3})?|\d{6}(?P=s)\d{4,5})"
_CARD = re.compile(
    rf"(?<![A-Za-z0-9])(?<!\d[.,])(?<!\d{{4}}[ -])(?:{_RUN})(?![A-Za-z0-9]|[.,]\d|[ -]\d{{4}}[ -]\d{{4}})"
)
# (first, last prefix, lengths): Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro.
_RANGES = (
    (4, 4, (13, 16, 19)), (51, 55, (16,)), (2221, 2720, (16,)), (34, 34, (15,)), (37, 37, (15,)), (300, 305, (14,)),
    (36, 36, (14,)), (38, 39, (14,)), (6011, 6011, (16, 19)), (644, 659, (16, 19)), (3528, 3589, (16, 19)),
    (62, 62, (16, 17, 18, 19)), (50, 50, (16, 18, 19)), (56, 58, (16, 18, 19)), (60, 60, (16, 18, 19)),
    (63, 63, (16, 18, 19)), (67, 69, (16, 18, 19)),
)  # fmt: skip


def spans(text: str) -> Iterator[Span]:
    """Every card; the content is its digits."""
    for match in _CARD.finditer(text):
        number = digits(match[0])
        if _is_issued(number) and luhn(number):
            yield Span(match.start(), match.end(), number)


def luhn(number: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return (sum(doubled) + sum(map(int, number[::-2]))) % 10 == 0


def _is_issued(number: str) -> bool:
    fits = any(low <= int(number[: len(str(low))]) <= high and len(number) in sizes for low, high, sizes in _RANGES)
    return fits and len(set(number)) > 1
