"""`tokenizer.json`, Hugging Face's file of a byte-level BPE: written from plain values and read back."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from isoflop.data.spelling import bytes_of, spelled

END_OF_TEXT = "<|endoftext|>"


class Parts(NamedTuple):
    """What the file says of a tokenizer: bytes of each ordinary token by id, the split, names of special tokens."""

    tokens: list[bytes]
    pattern: str
    special: list[str]


def content(tokens: Sequence[bytes], pattern: str, special: Sequence[str]) -> dict[str, Any]:
    """The file's content; ids are those of the tokens, of the special ones in their order, of the end of text."""
    names = [spelled(token) for token in tokens]
    added = {name: len(tokens) + i for i, name in enumerate([*special, END_OF_TEXT])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(name, number) for name, number in added.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a split that is a token is that token, as in tiktoken
            "vocab": {name: rank for rank, name in enumerate(names)} | added,
            "merges": list(_merges(tokens, names)),
        },
    }


def parts(read: dict[str, Any]) -> Parts:
    """The tokenizer in a file's content.

    Raises:
        KeyError, TypeError, IndexError, ValueError, AttributeError: it is of another structure.
    """
    vocabulary: dict[str, int] = dict(read["model"]["vocab"])
    added = [entry["content"] for entry in read["added_tokens"]] or [END_OF_TEXT]
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("ids must run without a gap")
    first = len(vocabulary) - len(added)
    if added[-1] != END_OF_TEXT or [vocabulary.pop(name) for name in added] != list(range(first, first + len(added))):
        raise ValueError(f"special tokens must come behind all others, {END_OF_TEXT} last")
    tokens = [bytes_of(name) for name in sorted(vocabulary, key=vocabulary.__getitem__)]
    return Parts(tokens, read["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"], added[:-1])


def _added(name: str, number: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": name, "special": True, **flags}


def _merges(tokens: Sequence[bytes], names: Sequence[str]) -> Iterator[str]:
    """Every pair of tokens that joins to a token, by the rank of what they join to.

    tiktoken knows ranks only and joins any such pair, so all of them are listed, not just the pairs met in training.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for token in tokens:
        for cut in range(1, len(token)):
            left, right = ranks.get(token[:cut]), ranks.get(token[cut:])
            if left is not None and right is not None:
                yield f"{names[left]} {names[right]}"
