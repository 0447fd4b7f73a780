"""E-mail addresses, plain and obfuscated: `a@b.org`, `a [at] b [dot] org`, `a&#64;b.org`, `a at b dot org`.

Looks for the sign first and then to both sides. The domain must end in a top-level domain of the root zone. Not taken:
`git@host`, `ssh://user@host`, `user@host:path` with a slash in it, what is called (`x@w.mean(0)`) and `icon@2x.png`.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from isoflop.data.pii._span import Span, before

RANK = 0

# Of the signs RFC 5322 allows those that are in use; the others stand around addresses in URLs, code and markup.
_LOCAL = frozenset("%+-._~")
_LOCAL_CHARS, _DOMAIN_CHARS = 64, 253  # RFC 5321, 4.5.3.1
_OPEN, _CLOSE = r"[\[({<]{1,2} {0,2}", r" {0,2}[\])}>]{1,2}"
_SIGN = re.compile(
    rf" ?@ ?|&#0{{0,4}}64; ?|&#[xX]0{{0,4}}40; ?|&commat; ?|%40| {{0,2}}{_OPEN}(?:at|@|arroba){_CLOSE} {{0,2}}"
    r"|[ _-]at[ _-]",
    re.IGNORECASE,
)
_LABEL = r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,61}[A-Za-z0-9\u00c0-\u024f])?"
_DOT = rf"(?:\.| {{0,2}}{_OPEN}(?:dot|\.|punkt|punto){_CLOSE} {{0,2}}|[ _-]dot[ _-]|&#46;| \. )"
_PLAIN_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{1,8}}")
_VEILED_DOMAIN = re.compile(rf"{_LABEL}(?:{_DOT}{_LABEL}){{1,8}}", re.IGNORECASE)
_ANY_DOT = re.compile(_DOT, re.IGNORECASE)
_SAID_DOT = re.compile(r"[ \[({<_-]dot|punkt|punto", re.IGNORECASE)
_REMOTE = re.compile(r":[\w~./-]{0,80}(?:/|\.git\b)")
_ROBOTS = frozenset({"git", "hg", "svn", "cvs", "bzr"})
_SHELL = re.compile(r"\b(?:ssh|scp|sftp|rsync|mosh)(?: -\S{1,9}){0,4} $")
# Words that stand before "at ... dot ..." in a sentence and are nobody's name.
_WORDS = frozenset({
    "look", "is", "are", "me", "us", "available", "hosted", "found", "mail", "email", "contact", "see", "live",
    "here", "now", "it", "that", "or", "and",
})  # fmt: skip


def spans(text: str) -> Iterator[Span]:
    """Every address; the content is the address in lower case."""
    done = 0
    for sign in _SIGN.finditer(text):
        if sign.start() >= done and (found := _around(text, sign, done)):
            yield found
            done = found.end


def _around(text: str, sign: re.Match[str], floor: int) -> Span | None:
    said = sign[0]
    start = _local_start(text, sign.start(), floor)
    local = text[start : sign.start()]
    veiled = said not in ("@", "%40")
    domain = _domain(text, sign.end(), veiled=veiled)
    if not local or domain is None or not (local[-1].isalnum() or local[-1] in "_+-"):
        return None
    name, end = domain
    if said.strip(" _-").lower() == "at" and not _meant(text, start, end, local, sign):
        return None
    if said.strip() == "@" and veiled and not (said == " @ " and " . " in text[sign.end() : end]):
        return None  # "a @ b.org" is said of places and matrix products as well
    if not veiled and _is_machine(text, start, end, local):
        return None
    return Span(start, end, f"{local}@{name}".lower())


def _local_start(text: str, end: int, floor: int) -> int:
    """Where the local part begins; `end` itself where there is none, or one that is too long."""
    start = end
    least = max(floor, end - _LOCAL_CHARS - 1)
    while start > least and (text[start - 1] in _LOCAL or (text[start - 1].isalnum() and text[start - 1] < "\u0250")):
        start -= 1
    if end - start > _LOCAL_CHARS:
        return end
    while start < end and not (text[start].isalnum() or text[start] == "_"):
        start += 1
    if text[start:end].startswith(("3D", "3d")) and text[start - 1 : start] == "%":  # a quoted "=" before it
        start += 2
    return start


def _domain(text: str, start: int, *, veiled: bool) -> tuple[str, int] | None:
    """(name, end) of the domain that begins here; None where it ends in no top-level domain."""
    match = (_VEILED_DOMAIN if veiled else _PLAIN_DOMAIN).match(text, start, start + 2 * _DOMAIN_CHARS)
    if match is None:
        return None
    end, labels = match.end(), _ANY_DOT.split(match[0])
    # "write to a@b.org.Then": a sentence that begins without a space is no part of the name.
    while (
        len(labels) > 2 and labels[-1][:1].isupper() and not labels[-2].isupper() and _tail(labels) not in top_level()
    ):
        labels.pop()
        end = start + [m.start() for m in _ANY_DOT.finditer(match[0])][len(labels) - 1]
    if _tail(labels) not in top_level() or text[end : end + 1] in ("(", "["):
        return None
    name = ".".join(labels)
    return (name, end) if len(name) <= _DOMAIN_CHARS else None


def _tail(labels: list[str]) -> str:
    return labels[-1].lower()


def _meant(text: str, start: int, end: int, local: str, sign: re.Match[str]) -> bool:
    """Whether a bare "at" stands for the sign: the dot is spelled too, or brackets hold the whole."""
    if local.lower() in _WORDS:
        return False
    bracketed = text[start - 1 : start] == "<" and text[end : end + 1] == ">"
    return bracketed or bool(_SAID_DOT.search(text, sign.end(), end))


def _is_machine(text: str, start: int, end: int, local: str) -> bool:
    """A login on a host, not a mailbox."""
    lead = before(text, start, chars=80)
    userinfo = lead.rpartition("://")
    in_url = bool(userinfo[1]) and not re.search(r"[/\s?#=]", userinfo[2]) and not lead.endswith("mailto://")
    return local.lower() in _ROBOTS or in_url or bool(_REMOTE.match(text, end)) or bool(_SHELL.search(lead))


@cache
def top_level() -> frozenset[str]:
    """Top-level domains in ASCII, and those that stand for other scripts (`xn--`) as they are written there."""
    lines = files(__package__).joinpath("top_level.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())
