"""The folders of shards that a recipe reads, opened together: in the same tokens, or not at all."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from isoflop.data.mixture import Mixture, Span
from isoflop.data.shards import Shards, Tokens, open_shards
from isoflop.data.split import Split
from isoflop.data.tokenizer import Tokenizer
from isoflop.errors import UsageError
from isoflop.files import sha256_value
from isoflop.specs.data import Source
from isoflop.specs.recipe import Recipe


class Sources:
    """Shards by the names of their sources, in the recipe's order.

    Args:
        shards: one or more.

    Raises:
        UsageError: two of them are written in different tokens, or hold the same text.
    """

    def __init__(self, shards: Mapping[str, Shards]) -> None:
        self.shards = dict(shards)
        first_name, self._first = next(iter(self.shards.items()))
        contents: dict[str, str] = {}
        for name, one in self.shards.items():
            if one.header.tokenizer_sha256 != self._first.header.tokenizer_sha256:
                raise UsageError(
                    f"recipe: sources {first_name!r} and {name!r} are written in different tokens, "
                    f"{self._first.header.tokenizer_sha256[:16]} and {one.header.tokenizer_sha256[:16]}. Write one "
                    f"again with `isoflop data tokenize --tokenizer {self._first.folder} --out {one.folder}`"
                )
            if (other := contents.setdefault(one.content_sha256, name)) != name:
                raise UsageError(f"recipe: sources {other!r} and {name!r} hold the same text; give it one weight")

    @property
    def tokenizer(self) -> Tokenizer:
        """Of all of them.

        Raises:
            InputError: `tokenizer.json` of the first is missing, damaged or another one.
        """
        return self._first.tokenizer

    @property
    def tokenizer_sha256(self) -> str:
        """Of all of them."""
        return self._first.header.tokenizer_sha256

    @property
    def vocabulary(self) -> int:
        """Ids that the text is written in."""
        return self._first.header.vocabulary

    @property
    def content_sha256(self) -> str:
        """Identity of the data: of one folder its own, of several all of theirs in their order."""
        every = [one.content_sha256 for one in self.shards.values()]
        return every[0] if len(every) == 1 else sha256_value(every)

    def first(self, n: int) -> "Sources":
        """The first so many of them."""
        return Sources(dict(islice(self.shards.items(), n)))

    def mixture(self, recipe: Recipe, *, rank: int = 0, world: int = 1, behind: int = 0) -> Mixture:
        """The training batches of a recipe; arguments as those of `Mixture`.

        Raises:
            UsageError: the ranks cannot share them evenly.
            InputError: a source that is read has fewer tokens than one sequence.
        """
        spans = []
        for phase in recipe.phases:
            alike = recipe.within(phase)
            spans.append(
                Span(begins=phase.begins, context=alike.row.text, sequences=alike.sequences, parts=phase.parts)
            )
        texts, names = self.tokens("train"), self.called()
        return Mixture(texts, spans, seed=recipe.seed, rank=rank, world=world, behind=behind, names=names)

    def called(self) -> list[str]:
        """What errors call the texts."""
        return ["the split"] if len(self.shards) == 1 else [f"source {name!r}" for name in self.shards]

    def tokens(self, split: Split) -> list[Tokens]:
        """Of each, mapped from disk."""
        return [one.tokens(split) for one in self.shards.values()]


def open_sources(sources: Sequence[Source]) -> Sources:
    """Open the folders of a recipe's `sources`.

    Raises:
        InputError: one is missing, unfinished or of the wrong size.
        UsageError: they do not go together.
    """
    return Sources({source.name: open_shards(Path(source.shards)) for source in sources})
