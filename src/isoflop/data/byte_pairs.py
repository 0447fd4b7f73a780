"""Learning merges of byte pairs, by either of two engines.

Both merge the most frequent pair of neighbours again and again, and take of equally frequent pairs the one whose ids
come first, left before right. They number the 256 bytes differently, and so resolve ties differently: rustbpe by their
value, Hugging Face's `tokenizers` by their spelling in GPT-2's alphabet, where the space comes late. A tie broken the
other way may change what is frequent afterwards. `merges.compare` shows where.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from isoflop.data.spelling import SPELLING, bytes_of
from isoflop.errors import UnknownNameError

Engine: TypeAlias = Literal["rustbpe", "tokenizers"]


def merged(texts: Iterable[str], *, count: int, pattern: str, engine: Engine = "rustbpe") -> list[bytes]:
    """What each merge joins, in the order of the merges; the same bytes stand there twice where two pairs build them.

    The same texts give the same merges, whatever their order and the number of threads.

    Args:
        texts: what to learn from.
        count: how many merges; fewer come back where the texts have no more pairs.
        pattern: regular expression that splits text first.

    Raises:
        UnknownNameError: there is no such engine.
    """
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES, every=True)
    return ENGINES[engine](texts, count, pattern)


def _rustbpe(texts: Iterable[str], count: int, pattern: str) -> list[bytes]:
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size=256 + count, pattern=pattern)
    ranked = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
    return [bytes(token) for token, _ in ranked[256:]]


def _tokenizers(texts: Iterable[str], count: int, pattern: str) -> list[bytes]:
    from tokenizers import Tokenizer, models, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = splitter(pattern)
    trainer = trainers.BpeTrainer(vocab_size=256 + count, initial_alphabet=list(SPELLING.values()), show_progress=False)
    trained.train_from_iterator(iter(texts), trainer)
    pairs: list[Any] = json.loads(trained.to_str())["model"]["merges"]
    return [bytes_of("".join(pair)) for pair in pairs]


def splitter(pattern: str) -> Any:
    """The Hugging Face pre-tokenizer that splits by `pattern` and spells bytes as GPT-2 does."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


ENGINES: Mapping[str, Callable[[Iterable[str], int, str], list[bytes]]] = MappingProxyType(
    {"rustbpe": _rustbpe, "tokenizers": _tokenizers}
)
