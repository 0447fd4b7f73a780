"""Words and sentences, for every filter alike.

The published thresholds were set on tokens of spaCy's rules for English, in which a sign of punctuation is a word of
its own and "don't" is two. The same is done here at a fraction of the cost: split at white space, then take signs off
both ends and cut at hyphens, slashes and the like inside. What spaCy lists word by word is a short list here.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import chain

_ABBREVIATIONS = frozenset({
    "mr.", "mrs.", "ms.", "dr.", "st.", "jr.", "sr.", "prof.", "rev.", "gen.", "gov.", "sen.", "rep.", "lt.",
    "col.", "adm.", "bros.", "co.", "corp.", "inc.", "ltd.", "vs.", "e.g.", "i.e.", "a.m.", "p.m.", "jan.", "feb.",
    "mar.", "apr.", "jun.", "jul.", "aug.", "sep.", "sept.", "oct.", "nov.", "dec.", "mt.", "ph.d.", "v.s.", "n.y.",
    "u.s.", "calif.", "mass.", "mich.", "minn.", "miss.", "okla.", "ore.", "pa.", "tenn.", "va.", "wash.", "wis.",
    "ariz.", "ark.", "colo.", "conn.", "del.", "fla.", "ga.", "ill.", "ind.", "kan.", "ky.", "la.", "md.", "mo.",
    "mont.", "neb.", "nebr.", "nev.", "d.c.", "d.", "b.", "c.",
})  # fmt: skip
_JOINED = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "and/or": ("and/or",)}
_SIGNS = re.escape(",:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧°©®¦")
_PREFIX = re.compile(rf"\.\.+|''|[§%=—–…{_SIGNS}$£€¥₽₹]|\+(?![0-9])")
_SUFFIX = re.compile(
    rf"(?:\.\.+|''|\):|(?<=[^\W\d_])['’](?:[sS]|ll|re|ve|[dm]|LL|RE|VE|[DM])|[—–…{_SIGNS}]|(?<=[0-9])(?:[+$£€¥%]|km|cm|mm|m|kg|g|"
    rf"mg|GB|MB|KB|gb|mb|kb|TB)|(?<=[0-9a-zß-öø-ÿ%²+\-)\]}}>'\"”’»_`*])\.|(?<=[A-Z][A-Z])\.)$"
)
_INSIDE = re.compile(
    r"\.\.+|…|(?<=[0-9])(?:[+\-*^](?=[0-9-])|-(?=[^\W\d_]))|(?<=[a-z'\"”’])\.(?=[A-Z'\"“‘])|(?<=[^\W\d_]),(?=[^\W\d_])"
    r"|(?<=[^\W\d_])(?:-{2,3}|[-–—~])(?=[^\W\d_])|(?<=[^\W_])[:<>=/](?=[^\W\d_])"
)
_ADDRESS = re.compile(r"(?:https?://|www\.)?(?:[\w-]+\.)+[a-z]{2,6}(?::\d+)?(?:[/?#]\S*)?", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+")
_LONGEST_CACHED = 64
_NOT = re.compile(r"(\w+)(n['’]t)", re.IGNORECASE)

# Sentence_Terminal of Unicode 15 (PropList.txt).
_TERMINAL_RANGES = (
    (0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702),
    (0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B), (0x1362, 0x1362),
    (0x1367, 0x1368), (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D5), (0x1803, 0x1803), (0x1809, 0x1809),
    (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C),
    (0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E), (0x2E3C, 0x2E3C), (0x2E53, 0x2E54),
    (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3), (0xA6F7, 0xA6F7), (0xA876, 0xA877),
    (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1), (0xABEB, 0xABEB),
    (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E), (0xFF1F, 0xFF1F), (0xFF61, 0xFF61),
    (0x11047, 0x11048), (0x110BE, 0x110C1), (0x11141, 0x11143), (0x111C5, 0x111C6), (0x1144B, 0x1144C),
    (0x115C2, 0x115C3), (0x11641, 0x11642), (0x16A6E, 0x16A6F), (0x16AF5, 0x16AF5), (0x1BC9F, 0x1BC9F),
)  # fmt: skip
TERMINAL = tuple(chr(code) for low, high in _TERMINAL_RANGES for code in range(low, high + 1))
"""Signs that end a sentence, in every script."""

_ENDS = frozenset(TERMINAL)


def words(text: str) -> list[str]:
    """Words and signs of a text, in order."""
    return list(chain.from_iterable(map(_split_any, text.split())))


def is_symbol(word: str) -> bool:
    """Whether it holds neither letter nor digit, but only punctuation and signs of ASCII."""
    return not word.isalnum() and all(
        c in "$+<=>^`|~" or (unicodedata.category(c)[0] in "PC" and c != "•") for c in word
    )


def sentences(text: str) -> int:
    """How many sentences: one ends with a sign of `TERMINAL` that stands for itself, and the punctuation behind it."""
    count, ended = 1, False
    for word in words(text):
        if word in _ENDS:
            ended = True
        elif ended and not all(unicodedata.category(c)[0] == "P" for c in word):
            count, ended = count + 1, False
    return count


def _split_any(chunk: str) -> tuple[str, ...]:
    # The cache keeps words of a language, not megabytes without a space.
    return _cached(chunk) if len(chunk) <= _LONGEST_CACHED else _split(chunk)


def _split(chunk: str) -> tuple[str, ...]:
    """One piece between white space: signs off both ends, then cut inside."""
    if chunk.isalpha() or chunk.isdecimal():
        return _JOINED.get(chunk.lower(), (chunk,))
    front: list[str] = []
    back: list[str] = []
    start, end = 0, len(chunk)
    while start < end and not _is_whole(chunk, start, end):
        if match := _PREFIX.match(chunk, start, end):
            front.append(match[0])
            start = match.end()
        elif match := _SUFFIX.search(chunk, max(start, end - 8), end):
            back.append(match[0])
            end = match.start()
        else:
            break
    return (*front, *_inside(chunk[start:end]), *reversed(back))


_cached = lru_cache(maxsize=1 << 16)(_split)


def _is_whole(chunk: str, start: int, end: int) -> bool:
    if end - start > 80:
        return chunk.startswith(("http://", "https://"), start) and chunk[end - 1] not in ".,;:)]>\"'"
    part = chunk[start:end]
    return (
        part.lower() in _ABBREVIATIONS
        or bool(_INITIALS.fullmatch(part))
        or (("." in part[1:-1]) and part[-1] not in ".,;:)]>\"'" and bool(_ADDRESS.fullmatch(part)))
    )


def _inside(part: str) -> list[str]:
    if not part:
        return []
    if negated := _NOT.fullmatch(part):
        return [negated[1], negated[2]]
    if part in _JOINED or _ADDRESS.fullmatch(part):
        return list(_JOINED.get(part, (part,)))
    pieces, done = [], 0
    for match in _INSIDE.finditer(part):
        if match.start() > done:
            pieces.append(part[done : match.start()])
        pieces.append(match[0])
        done = match.end()
    return [*pieces, part[done:]] if done < len(part) else pieces
