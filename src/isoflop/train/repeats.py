"""What there is to say of a mixture before it is read: shares, and text that comes too often."""

from collections.abc import Iterator, Mapping, Sequence

from isoflop.data.mixture import Read
from isoflop.plan.cautions import EPOCHS
from isoflop.specs.data import Source


def shares(sources: Sequence[Source]) -> str:
    """As parts of 1, those without one left out."""
    total = sum(source.weight for source in sources)
    return ", ".join(f"{source.weight / total:.3g} of {source.name}" for source in sources if source.weight)


def repeated(read: Mapping[str, Read]) -> Iterator[str]:
    """A sentence for each text that is read more often than repeats are worth it."""
    for name, one in read.items():
        if one.epochs > EPOCHS:
            of = f"source {name!r}" if len(read) > 1 else "the text"
            yield (
                f"{of} is read {one.epochs:.1f} times; up to about {EPOCHS:g} times repeats are nearly worth new "
                "tokens, and less and less beyond (Muennighoff et al. 2023, arXiv:2305.16264)"
            )
