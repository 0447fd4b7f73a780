"""GPT-2's spelling of bytes as letters, in which every byte-level BPE is written down."""


def _alphabet() -> dict[int, str]:
    """Printable Latin-1 as itself, the others as U+0100 and up in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


SPELLING = _alphabet()
_BYTE = {letter: byte for byte, letter in SPELLING.items()}


def spelled(token: bytes) -> str:
    """A token as letters."""
    return "".join(SPELLING[byte] for byte in token)


def bytes_of(letters: str) -> bytes:
    """A token from its letters.

    Raises:
        KeyError: a letter that spells no byte.
    """
    return bytes(_BYTE[letter] for letter in letters)


def spells(letters: str) -> bytes | None:
    """The token that these letters spell, or None where one of them spells no byte."""
    return bytes_of(letters) if all(letter in _BYTE for letter in letters) else None


def shown(token: bytes) -> str:
    """A token for people: its text, what is no UTF-8 as \\x escapes."""
    return token.decode("utf-8", "backslashreplace")
