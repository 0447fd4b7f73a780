"""IP addresses, version 4 and 6.

Four small numbers with dots are an address, a version or a section. Taken for an address unless the words around say
otherwise; where all four are below 32, the first two below 10, or a name stands before, only if the words around say
so. IPv6 must lie in the space that is handed out:
2000::/3, unique local, link local, or a mapped IPv4. Loopback, 0.0.0.0 and netmasks belong to nobody and are left.
"""

import ipaddress
import re
from collections.abc import Iterator

from isoflop.data.pii._span import Span, before

RANK = 3

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_FOUR = re.compile(
    rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w]|\.\d|-[A-Za-z]|\+\w|\.(?:tar|zip|tgz|whl|exe|dll)\b)"
)
_SIX = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|::)[0-9A-Fa-f:]{1,38}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:]|\.\d)"
)
_GIVEN_OUT = re.compile(r"[23][0-9a-f]{3}:|f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:|::ffff:\d|64:ff9b:", re.IGNORECASE)
_OTHERWISE = re.compile(
    r"(?:\b(?:v|ver|vers|version|versions|release|released|rev|revision|build|section|sections|sec|chapter|clause|"
    r"figure|table|appendix|paragraph|rule|oid|upgrade to|upgraded to|assembly|firmware|driver|sdk|since|until)"
    r"[ .:=#v\"'(]{0,4}|§ ?|[=<>~^!]=? ?\"?(?<![\w\"] = )|[a-z_]-|[a-z]/|\d ?[,;] ?(?:and )?v)$"
)
_ADDRESS = re.compile(
    r"\b(?:ip|ips|ipv4|inet|addr|address|addresses|host|hosts|server|servers|client|dns|nameserver|gateway|ping|subnet|"
    r"network|netmask|router|proxy|remote|peer|from|interface|whois|traceroute|listen|bind|login)\b|://$|@$"
)
_ASSIGNED = re.compile(
    r"(?:ip|addr|address|host|server|inet|client|peer|dns|gateway)\w{0,12}[\"']? ?(?:=|:|==|!=) ?[\"']?$"
)
_BEHIND = re.compile(r":\d{2,5}(?!\d|\.)|/(?:[89]|[12]\d|3[0-2])(?![\d.])| - - ")
_NUMBERED_TITLE = re.compile(r"\.?[ \t]+[A-Z`\"]")
_NAME = re.compile(r"\b[A-Z][A-Za-z]{2,} $")
_SMALL, _TINY = 32, 10


def spans(text: str) -> Iterator[Span]:
    """Every address; the content is its shortest spelling."""
    found = [*_four(text), *_six(text)]
    found.sort(key=lambda span: span.start)
    done = 0
    for span in found:
        if span.start >= done:
            yield span
            done = span.end


def _four(text: str) -> Iterator[Span]:
    for match in _FOUR.finditer(text):
        start, end = match.span()
        address = ipaddress.IPv4Address(match[0])
        if not (_is_nobodys(address) or _is_number(text, start, end)):
            yield Span(start, end, match[0])


def _is_nobodys(address: ipaddress.IPv4Address) -> bool:
    # A first octet of 255 is a mask or the broadcast to everyone.
    return address.is_loopback or address.packed[0] in (0, 255)


def _is_number(text: str, start: int, end: int) -> bool:
    """Whether the words around say version or section, or say nothing where all four numbers are small."""
    lead = before(text, start)
    if _ASSIGNED.search(lead):
        return False
    if _OTHERWISE.search(lead):
        return True
    if _ADDRESS.search(lead) or _BEHIND.match(text, end):
        return False
    octets = [int(part) for part in text[start:end].split(".")]
    if octets[:3] == [10, 0, 0] and octets[3]:
        return False  # the first network that routers give out
    titled = not lead.strip(" #*") and octets[0] < 100 and bool(_NUMBERED_TITLE.match(text, end))
    named = octets[0] < _SMALL and max(octets) < 100 and bool(_NAME.search(text, max(0, start - 24), start))
    return titled or named or max(octets) < _SMALL or max(octets[:2]) < _TINY or octets[1:] == [0, 0, 0]


def _six(text: str) -> Iterator[Span]:
    for match in _SIX.finditer(text):
        word = match[0].rstrip(":") if not match[0].endswith("::") else match[0]
        if not _GIVEN_OUT.match(word) or not any(c.isdigit() for c in word):
            continue
        try:
            address = ipaddress.IPv6Address(word)
        except ValueError:
            continue
        yield Span(match.start(), match.start() + len(word), address.compressed)
