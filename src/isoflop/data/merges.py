"""Two engines' merges of the same text, held against each other: equal, a tie broken otherwise, or a real difference.

Every merge of each engine is done again on the text's words, and its pair counted at that moment. A merge is right if
its pair was as frequent as any; two right engines can differ in the order of pairs that are equally frequent, and in
what follows from that.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from isoflop.data.byte_pairs import Engine, merged, splitter
from isoflop.data.spelling import bytes_of

Pair = tuple[bytes, bytes]


class Difference(Struct, frozen=True, kw_only=True):
    """One place in the order of merges where the engines chose differently.

    Attributes:
        place: from 0.
        tokens: what each joined.
        counts: how often each one's pair occurred at that moment.
    """

    place: int
    tokens: tuple[bytes, bytes]
    counts: tuple[int, int]

    @property
    def tie(self) -> bool:
        """Whether both were equally frequent."""
        return self.counts[0] == self.counts[1]


class Comparison(Struct, frozen=True, kw_only=True):
    """What two engines learned from one text.

    Attributes:
        engines: their names, first and second as in every pair below.
        n_merges: compared.
        differences: places where they chose differently.
        only: tokens that one learned and the other did not.
        not_most_frequent: merges of a pair when another was more frequent: none where an engine does what it should.
    """

    engines: tuple[Engine, Engine]
    n_merges: int
    n_bytes: int
    differences: list[Difference]
    only: tuple[list[bytes], list[bytes]]
    not_most_frequent: tuple[int, int]

    @property
    def ties(self) -> int:
        """Places where the pairs chosen were equally frequent."""
        return sum(difference.tie for difference in self.differences)


def compare(texts: Sequence[str], *, count: int, pattern: str) -> Comparison:
    """Learn `count` merges with both engines and see where they differ; needs `tokenizers`.

    Time and memory grow with the number of different words: some seconds and 100 MB for 4 MB of text.
    """
    engines: tuple[Engine, Engine] = ("rustbpe", "tokenizers")
    both = [merged(texts, count=count, pattern=pattern, engine=engine) for engine in engines]
    # Where two pairs build the same bytes the engines number them differently; as tokens they are one.
    one, other = ([*dict.fromkeys(found)] for found in both)
    words = _words(texts, pattern)
    (counts, least), (other_counts, other_least) = (replayed(words, found) for found in (one, other))
    differences = [
        Difference(place=place, tokens=(a, b), counts=(counts[place], other_counts[place]))
        for place, (a, b) in enumerate(zip(one, other, strict=False))
        if a != b
    ]
    return Comparison(
        engines=engines,
        n_merges=min(len(one), len(other)),
        n_bytes=sum(len(text.encode()) for text in texts),
        differences=differences,
        only=([t for t in one if t not in set(other)], [t for t in other if t not in set(one)]),
        not_most_frequent=(least, other_least),
    )


def _words(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """How often each piece of the split occurs."""
    split = splitter(pattern)
    spelled = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    return Counter({bytes_of(piece): count for piece, count in spelled.items()})


def replayed(words: Mapping[bytes, int], tokens: Sequence[bytes]) -> tuple[list[int], int]:
    """Merge as told, counting each token's pair when it is merged.

    Args:
        words: pieces of text and how often each occurs; no pair crosses them.
        tokens: what each merge joins, in order.

    Returns:
        Occurrences of each merged pair, and how many merges were of a pair that was not the most frequent one.
    """
    state = _State(words)
    counts, wrong = [], 0
    for token in tokens:
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pair = max(splits, key=lambda split: state.counts.get(split, 0))
        counts.append(state.counts.get(pair, 0))
        wrong += counts[-1] < state.most()
        state.merge(pair)
    return counts, wrong


class _State:
    """Words as parts, pairs of neighbours with their counts and the words that may hold them."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        self.words = [([word[i : i + 1] for i in range(len(word))], count) for word, count in words.items()]
        self.counts: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(set)
        self.levels: Counter[int] = Counter()
        for place, (parts, count) in enumerate(self.words):
            for pair in pairwise(parts):
                self.counts[pair] += count
                self.where[pair].add(place)
        self.levels.update(self.counts.values())
        self._top = max(self.levels, default=0)

    def most(self) -> int:
        """How often the most frequent pair occurs; it only falls: no merge makes a pair more frequent than its own."""
        while self._top and not self.levels[self._top]:
            self._top -= 1
        return self._top

    def merge(self, pair: Pair) -> None:
        """Join every occurrence of `pair`, left to right."""
        joined = pair[0] + pair[1]
        for place in self.where.pop(pair, ()):
            parts, count = self.words[place]
            after = _joined(parts, pair, joined)
            self._count(parts, -count)
            self._count(after, count)
            for new in pairwise(after):
                if joined in new:
                    self.where[new].add(place)
            self.words[place] = (after, count)

    def _count(self, parts: Sequence[bytes], change: int) -> None:
        for pair in pairwise(parts):
            before = self.counts[pair]
            self.levels[before] -= 1
            self.levels[before + change] += 1
            self.counts[pair] = before + change


def _joined(parts: Sequence[bytes], pair: Pair, joined: bytes) -> list[bytes]:
    after: list[bytes] = []
    place = 0
    while place < len(parts):
        if parts[place] == pair[0] and parts[place + 1 : place + 2] == [pair[1]]:
            after.append(joined)
            place += 2
        else:
            after.append(parts[place])
            place += 1
    return after
