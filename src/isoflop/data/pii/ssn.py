"""Social security numbers of the United States: 3-2-4 digits within the ranges that are issued.

With dashes by themselves, with spaces or bare only where the words before name them. Source: SSA, "Social Security
Number Randomization": area 000, 666 and 900-999, group 00 and serial 0000 are never issued.
"""

import re
from collections.abc import Iterator

from isoflop.data.pii._span import Span, before, digits

RANK = 4

_ISSUED = r"(?!000|666|9)\d{3}(?P<s>[ .-]?)(?!00)\d{2}(?P=s)(?!0000)\d{4}"
_SSN = re.compile(rf"(?<![A-Za-z0-9])(?<!\d[.,+/-])(?<!\d )(?:{_ISSUED})(?![A-Za-z0-9]|[-.,/]\d|-[A-Za-z])")
_NAMED = re.compile(r"\b(?:ssn|ssns|social security|soc sec|tax ?id|tin|social)\b|ssn[\"'_:= ]*$")


def spans(text: str) -> Iterator[Span]:
    """Every number; the content is its digits."""
    for match in _SSN.finditer(text):
        if match["s"] == "-" or _NAMED.search(before(text, match.start())):
            yield Span(match.start(), match.end(), digits(match[0]))
