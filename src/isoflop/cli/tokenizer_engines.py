"""`isoflop tokenizer engines`: do both engines learn the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.cli.tokenizer_train import PATTERN, TEXT

if TYPE_CHECKING:
    from isoflop.data.merges import Comparison

_SHOWN = 10


@click.command("engines")
@TEXT
@click.option("--vocabulary", default=1024, show_default=True, help="Tokens that each learns.")
@PATTERN
@click.option("--sample", default="2MiB", show_default=True, metavar="BYTES",
              help="Compare on no more than this, chosen by a hash; every merge is redone and counted.")  # fmt: skip
@output_options("tokenizer.engines")
def engines_command(text: Path | None, vocabulary: int, pattern: str, sample: str, output: Output) -> None:
    """Hold the merges of both engines on one text against each other.

    Where they chose differently it tells whether the pairs were equally frequent (a tie) and what came of it, e.g.
    `isoflop tokenizer engines --text corpus/ --vocabulary 8192`.
    """
    from isoflop.data import corpus, merges, patterns
    from isoflop.data.tokenization import Sample
    from isoflop.data.tokenizer import SMALLEST_VOCABULARY, check_vocabulary

    check_vocabulary(vocabulary)
    chosen = patterns.find(pattern)
    taken = Sample(int(units.parse(sample, "bytes", name="--sample")))
    for document in corpus.source(text).documents():
        taken.add(document)
    found = merges.compare(taken.texts(), count=vocabulary - SMALLEST_VOCABULARY, pattern=chosen.regex)
    payload = _payload(found)
    output.show(payload, lambda printer: _print(printer, payload))


def _payload(found: "Comparison") -> dict[str, Any]:
    from isoflop.data.spelling import shown

    one, other = found.engines
    return {
        "engines": list(found.engines),
        "n_bytes": found.n_bytes,
        "n_merges": found.n_merges,
        "n_same": found.n_merges - len(found.differences),
        "n_ties": found.ties,
        "n_after_ties": len(found.differences) - found.ties,
        "not_most_frequent": dict(zip(found.engines, found.not_most_frequent, strict=True)),
        "only": {name: [shown(token) for token in found.only[i]] for i, name in enumerate(found.engines)},
        "differences": [
            {
                "place": each.place,
                one: shown(each.tokens[0]),
                other: shown(each.tokens[1]),
                "counts": list(each.counts),
                "tie": each.tie,
            }
            for each in found.differences
        ],
    }


def _print(printer: Printer, payload: dict[str, Any]) -> None:
    one, other = payload["engines"]
    size = f"{payload['n_bytes'] / 1e6:,.1f} MB"
    printer.line(
        f"{payload['n_same']:,} of {payload['n_merges']:,} merges stand at the same place on {size}; at "
        f"{payload['n_ties']:,} others both pairs were equally frequent, at {payload['n_after_ties']:,} one was not"
    )
    alone = {name: len(tokens) for name, tokens in payload["only"].items()}
    printer.line(f"tokens that only one has: {one} {alone[one]:,}, {other} {alone[other]:,}")
    for name, wrong in payload["not_most_frequent"].items():
        if wrong:
            printer.warn(f"{name} merged {wrong:,} times a pair that was not the most frequent")
    rows = [
        [f"{each['place']:,}", repr(each[one]), repr(each[other]), f"{each['counts'][0]:,}", f"{each['counts'][1]:,}"]
        for each in payload["differences"][:_SHOWN]
    ]
    if rows:
        printer.table("Where they differ first", ["merge", one, other, "times", "times"], rows)
